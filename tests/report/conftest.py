# SPDX-License-Identifier: Apache-2.0
"""Fabricated runs with known numbers."""

import json

import pytest
import torch


class TinyNetwork(torch.nn.Module):
    """Foreground where the image exceeds `threshold`; its bottleneck is two pooled channels."""

    def __init__(self, threshold):
        super().__init__()
        self.threshold = threshold

    def forward(self, image):
        return torch.cat([self.threshold - image, image - self.threshold], dim=1)

    def forward_features(self, image):
        pooled = torch.nn.functional.avg_pool2d(image, 4)
        return self(image), [image, torch.cat([pooled, pooled**2 + self.threshold], dim=1)]


@pytest.fixture
def add_run(tmp_path):
    """Writes runs/<run>: a case for every Dice; None is an empty truth, "missed" an empty prediction."""

    def add(run, dataset, dice, *, val=(0.5, 0.6), seconds=60.0, parameters=1000, train=(), unit="px", model=True):
        path = tmp_path / "runs" / run
        rows = []
        for index, value in enumerate(dice):
            row = {"case": f"{dataset}/{index}", "volume": "", "class": "lv", "empty_truth": value is None}
            row["empty_prediction"] = value in (None, "missed")
            score = 0.0 if value == "missed" else value
            row |= dict.fromkeys(("dice", "iou", "recall", "precision"), score)
            rows.append(row | {"hd95": None if score is None else 100 * (1 - score)})
        metrics = {"dataset": dataset, "run": run, "units": rows, "hd95_unit": unit, "mean": {}}
        epochs = [{"epoch": i, "train_loss": 1.0, "val": v, "lr": 1e-3, "terms": {}} for i, v in enumerate(val)]
        (path / "test" / dataset).mkdir(parents=True)
        files = {
            f"test/{dataset}/metrics.json": metrics | {"parameters": parameters, "seconds_per_case": 0.25},
            "history.json": {"epochs": epochs, "best_epoch": len(val) - 1, "seconds": seconds},
            "folds.json": {"train": list(train), "val": [], "test": [row["case"] for row in rows], "unlabelled": []},
        }
        for name, value in files.items():
            (path / name).write_text(json.dumps(value))
        if model:
            (path / "model.pt").touch()
        return path

    return add


@pytest.fixture
def runs(tmp_path):
    return tmp_path / "runs"


def patients(target, number):
    return [f"{target}/p{index}" for index in range(number)]


@pytest.fixture
def study(add_run):
    """Two targets, two seeds; arms alone, distill, joint and source_only; label budgets on acdc."""
    for seed, shift in (("0", 0.0), ("1", 0.1)):
        for target, other, base in (("acdc", "sun", 0.6), ("sun", "acdc", 0.4)):
            scores = [base + shift, base + shift + 0.1, None]
            add_run(f"student_{target}/alone/{seed}", target, scores, train=patients(target, 40), val=(0.3, 0.4 + shift))
            better = [scores[0] + 0.05, scores[1] + 0.05, None]
            add_run(f"student_{target}/distill/{seed}", target, better, train=patients(target, 40), parameters=1234)
            add_run(f"joint_teacher_cardiac/for_{target}/{seed}", target, scores, parameters=5000)
            run = add_run(f"student_{other}/source_{target}/{seed}", target, [0.1, "missed", None])
            # source_only is the other dataset's `alone`, tested on this target
            wanted = run.parents[1] / "alone" / seed / "test"
            wanted.mkdir(parents=True, exist_ok=True)
            (run / "test" / target).rename(wanted / target)
        for cases, dice in ((5, 0.3), (10, 0.4)):
            train = patients("acdc", cases) + patients("sun", 40)
            add_run(f"student_acdc/alone_cases={cases}/{seed}", "acdc", [dice, dice, None], train=train)
            add_run(f"student_acdc/distill_cases={cases}/{seed}", "acdc", [0.35, 0.35, None], train=train)
    return add_run


@pytest.fixture
def networks(monkeypatch):
    """Replaces the reading of trained networks and stored slices."""
    generator = torch.Generator().manual_seed(0)
    slices = []
    for index in range(6):
        label = torch.zeros(1, 16, 16)
        label[:, 4 : 8 + index, 4:12] = 1
        slices.append((label + 0.2 * torch.randn(1, 16, 16, generator=generator), label, f"acdc/{index}"))
    monkeypatch.setattr("common.report.pictures.from_run", lambda run: TinyNetwork(0.5 if "distill" in run else 0.8))
    monkeypatch.setattr("common.report.pictures.test_slices", lambda run, dataset, n: slices[:n])
    return slices
