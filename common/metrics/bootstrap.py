# SPDX-License-Identifier: Apache-2.0
"""Paired bootstrap over patients."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

Row = Mapping[str, Any]
KEYS = ("case", "volume", "class", "seed")


class Difference(NamedTuple):
    """Mean of student - baseline over patients, its 95 % interval, and the number of patients."""

    mean: float
    low: float
    high: float
    patients: int


def paired_difference(
    student_rows: Sequence[Row], baseline_rows: Sequence[Row], metric: str, *, samples: int = 10000, seed: int = 0
) -> Difference:
    """Mean difference student - baseline of `metric` with the 95 % percentile interval of a bootstrap over patients.

    Rows are those of metrics.json plus `seed`, matched on (case, volume, class, seed). A patient is a case; all its
    differences (volumes, classes, seeds or folds) are averaged first, so they are drawn together: they are not
    independent. Decision: each patient weighs the same, however many volumes it has. Rows with an empty truth (metric
    None) are left out.

    Raises ValueError naming rows without a partner, rows given twice, and rows where only one side has the metric.
    """
    student, baseline = _by_key(student_rows, metric, "student"), _by_key(baseline_rows, metric, "baseline")
    if unmatched := sorted(student.keys() ^ baseline.keys(), key=str):
        side = "student" if unmatched[0] in student else "baseline"
        raise ValueError(
            f"{len(unmatched)} rows have no partner, first {dict(zip(KEYS, unmatched[0], strict=True))} of the {side}; "
            "both must be evaluated on the same cases and seeds"
        )
    of_patient: dict[str, list[float]] = defaultdict(list)
    for key, value in student.items():
        other = baseline[key]
        if (value is None) != (other is None):
            where = dict(zip(KEYS, key, strict=True))
            raise ValueError(f"{metric} of {where} is empty on one side only: the truths differ")
        if value is not None and other is not None:
            of_patient[key[0]].append(value - other)
    if not of_patient:
        raise ValueError(f"no patient with a non-empty truth to compare {metric} on")
    differences = np.array([np.mean(of_patient[patient]) for patient in sorted(of_patient)])
    low, high = np.percentile(_resampled_means(differences, samples, seed), [2.5, 97.5])
    return Difference(float(differences.mean()), float(low), float(high), len(differences))


def _resampled_means(values: np.ndarray, samples: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    centre = values.mean()  # resampling the deviations keeps a constant difference exactly constant
    deviations = values - centre
    means = [
        deviations[rng.integers(len(values), size=(min(1000, samples - start), len(values)))].mean(1)
        for start in range(0, samples, 1000)  # in chunks: 10,000 x thousands of patients would take gigabytes
    ]
    return centre + np.concatenate(means)


def _by_key(rows: Sequence[Row], metric: str, side: str) -> dict[tuple[Any, ...], float | None]:
    result: dict[tuple[Any, ...], float | None] = {}
    for row in rows:
        key = tuple(row[name] for name in KEYS)
        if key in result:
            raise ValueError(f"row {dict(zip(KEYS, key, strict=True))} of the {side} is given twice")
        result[key] = row[metric]
    return result
