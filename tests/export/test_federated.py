# SPDX-License-Identifier: Apache-2.0
"""MONAI's federated client on exported bundles, in this process; tests/accept/test_federated.py runs a whole federation."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from monai.fl.client import MonaiAlgo
from monai.fl.utils.constants import ExtraItems, FlStatistics, ModelType, WeightType
from monai.fl.utils.exchange_object import ExchangeObject

from common.export.formats import bundled_code

from .conftest import Exported


def client(folder: Path, **options: object) -> MonaiAlgo:
    algorithm = MonaiAlgo(bundle_root=folder.name, **options)
    algorithm.initialize({ExtraItems.CLIENT_NAME: "hospital", ExtraItems.APP_ROOT: str(folder.parent)})
    return algorithm


@pytest.fixture
def student(exported: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    return exported.copy("student_lits", tmp_path / "site")


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return torch.load(folder / "models" / "model.pt", weights_only=True)


def test_a_student_initialises_trains_returns_weights_evaluates_and_finalises(student: Path) -> None:
    start = weights(student)
    algorithm = client(student, send_weight_diff=False)
    for round_number in (1, 2):
        algorithm.train(ExchangeObject(weights=start))
        sent = algorithm.get_weights()
        assert sent.weight_type == WeightType.WEIGHTS
        assert sent.statistics[FlStatistics.NUM_EXECUTED_ITERATIONS] == 4  # an epoch of this round: four volumes
        assert algorithm.trainer.state.epoch == round_number
        assert sent.weights.keys() == start.keys()  # the deployed network and nothing more: no teacher, no optimiser
        assert any(not torch.equal(sent.weights[key], start[key]) for key in start)
        metrics = algorithm.evaluate(ExchangeObject(weights=sent.weights)).metrics
        assert 0 <= metrics["val_mean_dice"] <= 1
        assert algorithm.evaluator.state.key_metric_name == "val_mean_dice"
        start = {key: value.clone() for key, value in sent.weights.items()}  # what is sent is the network's own memory
    best = algorithm.get_weights({ExtraItems.MODEL_TYPE: ModelType.BEST_MODEL})  # what the bundle's own saver wrote
    assert best.weights.keys() == start.keys()
    algorithm.finalize()


def test_evaluation_is_of_the_weights_received_not_of_the_file(student: Path) -> None:
    """MONAI's client disables the checkpoint loader of evaluate.json: the site scores the global model."""
    algorithm = client(student)
    received = {key: torch.zeros_like(value) for key, value in weights(student).items()}
    algorithm.evaluate(ExchangeObject(weights=received))
    for key, value in algorithm.evaluator.network.state_dict().items():
        assert torch.equal(value, received[key]), key
    algorithm.finalize()


def test_weight_differences_add_up_to_the_weights(student: Path) -> None:
    start = weights(student)
    algorithm = client(student, send_weight_diff=True)
    algorithm.train(ExchangeObject(weights=start))
    sent = algorithm.get_weights()
    assert sent.weight_type == WeightType.WEIGHT_DIFF
    for key, value in algorithm.trainer.network.state_dict().items():
        torch.testing.assert_close(start[key] + sent.weights[key], value)
    algorithm.finalize()


def test_a_site_gives_its_own_lists(student: Path) -> None:
    """As scripts/federated_client.py does: other cases than those in the bundle's folder, of another number."""
    data = student / "data"
    cases = [
        {"image": str(image), "label": str(data / "labelsTr" / image.name)} for image in sorted((data / "imagesTr").iterdir())
    ]
    lists = {"train#dataset#data": cases[:2], "validate#dataset#data": cases[2:3]}
    algorithm = client(student, send_weight_diff=False, train_kwargs=dict(lists), eval_kwargs=dict(lists))
    algorithm.train(ExchangeObject(weights=weights(student)))
    assert algorithm.get_weights().statistics[FlStatistics.NUM_EXECUTED_ITERATIONS] == 2
    assert len(algorithm.evaluator.data_loader) == 1
    algorithm.finalize()


def test_a_bundle_with_code_takes_part_with_its_folder_on_the_path(exported: Exported, tmp_path: Path) -> None:
    folder = exported.copy("student_trans", tmp_path / "site")
    with bundled_code(folder):
        algorithm = client(folder, send_weight_diff=False)
        algorithm.train(ExchangeObject(weights=weights(folder)))
        assert algorithm.get_weights().weights.keys() == weights(folder).keys()
        algorithm.evaluate(ExchangeObject(weights=weights(folder)))
        algorithm.finalize()
