# SPDX-License-Identifier: Apache-2.0
"""Fabricated runs with known numbers."""

import json

import numpy as np
import pytest
import torch
from sklearn.metrics import confusion_matrix

from common.metrics.classification import scores


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


class TinyClassifier(torch.nn.Module):
    """Logits (0, skill * (brightness of the left half - of the right)); its bottleneck is the image averaged to 4 x 4."""

    def __init__(self, skill):
        super().__init__()
        self.skill = skill

    def encode(self, image):
        return [image, torch.nn.functional.adaptive_avg_pool2d(image, 4)]

    def decode(self, levels, image):
        halves = levels[-1].unflatten(3, (2, 2)).mean((1, 2, 4))
        logit = self.skill * (halves[:, 0] - halves[:, 1])
        return torch.stack([torch.zeros_like(logit), logit], dim=1)

    def forward(self, image):
        return self.decode(self.encode(image), image)


@pytest.fixture
def write_run(tmp_path):
    """Writes the files of runs/<run>, evaluated on a dataset; `config` is what else its configuration says."""

    def write(run, dataset, metrics, *, val=(0.5, 0.6), seconds=60.0, parameters=1000, train=(), model=True, **config):
        path = tmp_path / "runs" / run
        epochs = [{"epoch": i, "train_loss": 1.0, "val": v, "lr": 1e-3, "terms": {}} for i, v in enumerate(val)]
        test = [row["case"] for row in metrics["units"]]
        metrics = {"dataset": dataset, "run": run} | metrics | {"parameters": parameters, "seconds_per_case": 0.25}
        (path / "test" / dataset).mkdir(parents=True)
        files = {
            f"test/{dataset}/metrics.json": metrics,
            "history.json": {"epochs": epochs, "best_epoch": len(val) - 1, "seconds": seconds},
            "config.json": config,
            "folds.json": {"train": list(train), "val": [], "test": test, "unlabelled": []},
        }
        for name, value in files.items():
            (path / name).write_text(json.dumps(value))
        if model:
            (path / "model.pt").touch()
        return path

    return write


@pytest.fixture
def add_classified(write_run):
    """Writes runs/<run> of a classifier of (normal, sick): a patient of one image for each pair (label, share of sick)."""

    def add(run, dataset, images, **options):
        labels, shares = np.array([label for label, _ in images]), np.array([[1 - p, p] for _, p in images])
        rows = [
            {"case": f"{dataset}/{i}", "image": f"{i}.png", "label": int(label), "probabilities": list(share)}
            for i, (label, share) in enumerate(zip(labels, shares, strict=True))
        ]
        mean = {name: None if np.isnan(value) else value for name, value in scores(labels, shares).items()}
        metrics = {"task": "classification", "classes": ["normal", "sick"], "units": rows, "mean": mean}
        matrix = confusion_matrix(labels, shares.argmax(1), labels=[0, 1]).tolist()
        return write_run(run, dataset, metrics | {"confusion": matrix}, **options)

    return add


@pytest.fixture
def add_run(write_run):
    """Writes runs/<run>: a case for every Dice; None is an empty truth, "missed" an empty prediction."""

    def add(run, dataset, dice, *, unit="px", **options):
        rows = []
        for index, value in enumerate(dice):
            row = {"case": f"{dataset}/{index}", "volume": "", "class": "lv", "empty_truth": value is None}
            row["empty_prediction"] = value in (None, "missed")
            score = 0.0 if value == "missed" else value
            row |= dict.fromkeys(("dice", "iou", "recall", "precision"), score)
            rows.append(row | {"hd95": None if score is None else 100 * (1 - score)})
        return write_run(run, dataset, {"units": rows, "hd95_unit": unit, "mean": {}}, **options)

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
    monkeypatch.setattr("common.report.pairs.from_run", lambda run: TinyNetwork(0.5 if "distill" in run else 0.8))
    monkeypatch.setattr("common.report.pairs.test_slices", lambda run, dataset, n, data_dir=None: slices[:n])
    return slices


BASELINE = [(0, 0.1), (0, 0.6), (1, 0.4), (1, 0.9)]  # two of four right
STUDENT = [(0, 0.1), (0, 0.3), (1, 0.4), (1, 0.9)]  # three of four


@pytest.fixture
def classified(add_classified):
    """One target, two seeds; arms alone, joint and distill, and fewer labels."""
    for seed in "01":
        for arm, images in (("alone", BASELINE), ("distill", STUDENT)):
            add_classified(f"student_kermany/{arm}/{seed}", "kermany", images, train=patients("kermany", 40))
            few = patients("kermany", 10)
            add_classified(f"student_kermany/{arm}_cases=10/{seed}", "kermany", BASELINE[::-1], train=few)
        add_classified(f"joint_teacher_pneumonia/for_kermany/{seed}", "kermany", STUDENT, parameters=5000)
    return add_classified


@pytest.fixture
def classifiers(monkeypatch):
    """Replaces the reading of trained classifiers and stored images: sick ones are brighter in the left half."""
    generator = torch.Generator().manual_seed(0)
    slices = []
    for index in range(8):
        image = 0.2 * torch.rand(1, 16, 16, generator=generator)
        image[:, :, : 8 if index % 2 else 0] += 0.1 * index
        slices.append((image, torch.tensor(index % 2), f"kermany/{index}"))
    monkeypatch.setattr("common.report.pairs.from_run", lambda run: TinyClassifier(4.0 if "distill" in run else 1.0))
    monkeypatch.setattr("common.report.pairs.test_slices", lambda run, dataset, n, data_dir=None: slices[:n])
    return slices
