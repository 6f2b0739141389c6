# SPDX-License-Identifier: Apache-2.0
"""One site of a federation: fine-tunes its copy of an exported bundle on its own data; NVFLARE runs it (docs/federated.md)."""

from __future__ import annotations

import argparse
from pathlib import Path

import nvflare.client as flare
import torch
from monai.data import load_decathlon_datalist
from monai.fl.client import MonaiAlgo
from monai.fl.utils.constants import ExtraItems, FlStatistics
from monai.fl.utils.exchange_object import ExchangeObject
from nvflare.apis.dxo import MetaKey
from nvflare.app_common.abstract.fl_model import FLModel, ParamsType


def site_algorithm(bundle: Path, data: Path, *, epochs: int) -> MonaiAlgo:
    """MONAI's federated client on the images of `data`, a list in MSD form with the keys training and validation.

    Raises:
        FileNotFoundError, ValueError: the bundle or the list is missing, or a part of the list is empty; names it.
    """
    if not (bundle / "configs" / "train.json").is_file():
        raise FileNotFoundError(f"{bundle} is no exported bundle (no configs/train.json); copy it to this site.")
    if not data.is_file():
        raise FileNotFoundError(f'{data} does not exist; write {{"training": [...], "validation": [...]}} of image and label.')
    lists = {}
    for key, part in (("train", "training"), ("validate", "validation")):
        lists[f"{key}#dataset#data"] = load_decathlon_datalist(str(data), data_list_key=part, base_dir=str(data.parent))
        if not lists[f"{key}#dataset#data"]:
            raise ValueError(f"{data}: {part} is empty; name at least one image with its label.")
    return MonaiAlgo(
        bundle_root=str(bundle), local_epochs=epochs, send_weight_diff=False, train_kwargs=dict(lists), eval_kwargs=dict(lists)
    )


def main() -> None:
    """Each round: score the global model here, train it here, send weights, score and the number of steps."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--epochs", type=int, default=1)
    given = parser.parse_args()
    flare.init()
    algorithm = site_algorithm(given.bundle, given.data, epochs=given.epochs)
    algorithm.initialize({ExtraItems.CLIENT_NAME: flare.get_site_name()})
    assert algorithm.evaluator is not None  # initialize makes it
    while flare.is_running():
        received = flare.receive()
        if received is None:
            break
        weights = ExchangeObject(weights=received.params)
        metrics = algorithm.evaluate(weights).metrics
        algorithm.train(weights)
        sent = algorithm.get_weights()
        torch.save(sent.weights, given.bundle / "models" / "model_final.pt")  # where MONAI's client keeps the site's own model
        flare.send(
            FLModel(
                params_type=ParamsType.FULL,
                params=sent.weights,
                metrics={"score": float(metrics[algorithm.evaluator.state.key_metric_name])},
                meta={MetaKey.NUM_STEPS_CURRENT_ROUND: sent.statistics[FlStatistics.NUM_EXECUTED_ITERATIONS]},
            )
        )
    algorithm.finalize()


if __name__ == "__main__":
    main()
