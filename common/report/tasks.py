# SPDX-License-Identifier: Apache-2.0
"""What differs between reports of segmentation and of classification: the metrics, and how they are averaged and compared."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from ..metrics.bootstrap import Difference, paired_difference, paired_scores
from .results import Result

# task -> metric -> its heading, in the order of columns
NAMES = {
    "segmentation": {"iou": "IoU", "dice": "DSC", "recall": "recall", "precision": "precision", "hd95": "HD95"},
    "classification": {
        "accuracy": "accuracy",
        "balanced_accuracy": "balanced accuracy",
        "macro_f1": "macro F1",
        "auroc": "AUROC",
        "ece": "ECE",
    },
}
HEADINGS = NAMES["segmentation"] | NAMES["classification"]
# what curves show and the best student is chosen by: the metric that training is monitored by
MAIN = {"segmentation": "dice", "classification": "balanced_accuracy"}


def number(metric: str, value: float | None, *, sign: str = "") -> str:
    """A value as tables print it; HD95 has two digits, shares have four; empty where there is none."""
    return "" if value is None else format(value, f"{sign}.{2 if metric == 'hd95' else 4}f")


def seed_means(results: Iterable[Result]) -> dict[str, dict[str, float]]:
    """seed -> metric -> its value on the seed's test set; NaN where it is undefined.

    Segmentation: the mean over the units with a non-empty truth; seeds without such a unit are left out. Classification: the
    metric of all test images.
    """
    means = {}
    for result in results:
        rows = result.metrics["units"]
        if result.task == "classification":
            values = result.metrics["mean"]
            means[result.seed] = {m: np.nan if values[m] is None else float(values[m]) for m in NAMES["classification"]}
        elif true := [row for row in rows if not row["empty_truth"]]:
            means[result.seed] = {m: float(np.mean([row[m] for row in true])) for m in NAMES["segmentation"]}
    return means


def counts(results: Sequence[Result]) -> dict[str, Any]:
    """How much was tested, and what of it is special."""
    rows = [row for result in results for row in result.metrics["units"]]
    if results[0].task == "classification":
        return {"images": len(rows)}
    true = [row for row in rows if not row["empty_truth"]]
    empty = {"empty_truth": len(rows) - len(true), "empty_prediction": sum(row["empty_prediction"] for row in true)}
    alarms = sum(row["empty_truth"] and not row["empty_prediction"] for row in rows)
    return {"units": len(true)} | empty | {"false_alarms": alarms}


def hd95_units(results: Iterable[Result]) -> list[str]:
    """The units of HD95 (mm, px) among segmentation results."""
    return sorted({result.metrics["hd95_unit"] for result in results if result.task == "segmentation"})


def differences(student: Sequence[Result], baseline: Sequence[Result], *, samples: int) -> dict[str, Difference]:
    """metric -> student minus baseline with its interval, for results of the same seeds; {} if nothing can be compared."""
    mine, theirs = ([row for result in arm for row in result.rows] for arm in (student, baseline))
    if student[0].task == "classification":
        return paired_scores(mine, theirs, samples=samples)
    if all(row["empty_truth"] for row in mine):
        return {}
    # mm and pixels cannot be compared
    left_out = {"hd95"} if len(hd95_units((*student, *baseline))) > 1 else set()
    return {m: paired_difference(mine, theirs, m, samples=samples) for m in NAMES["segmentation"] if m not in left_out}
