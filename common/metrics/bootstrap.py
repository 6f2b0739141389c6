# SPDX-License-Identifier: Apache-2.0
"""Paired bootstrap over patients, of means over units and of metrics of a whole set of images."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from .classification import METRICS, resampled_scores

Row = Mapping[str, Any]
KEYS = ("case", "volume", "class", "seed")  # of a row of a segmentation
IMAGE_KEYS = ("case", "image", "seed")  # of a classification
LEVELS = (2.5, 97.5)


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
    of_patient: dict[str, list[float]] = defaultdict(list)
    for key, mine, theirs in _pairs(student_rows, baseline_rows, KEYS):
        value, other = mine[metric], theirs[metric]
        if (value is None) != (other is None):
            where = dict(zip(KEYS, key, strict=True))
            raise ValueError(f"{metric} of {where} is empty on one side only: the truths differ")
        if value is not None and other is not None:
            of_patient[key[0]].append(value - other)
    if not of_patient:
        raise ValueError(f"no patient with a non-empty truth to compare {metric} on")
    differences = np.array([np.mean(of_patient[patient]) for patient in sorted(of_patient)])
    low, high = np.percentile(_resampled_means(differences, samples, seed), LEVELS)
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


def paired_scores(
    student_rows: Sequence[Row], baseline_rows: Sequence[Row], *, samples: int = 10000, seed: int = 0
) -> dict[str, Difference]:
    """Difference student - baseline of every classification metric, with the interval of a bootstrap over patients.

    `difference = mean over seeds of (metric(student's images of the seed) - metric(baseline's))`, the difference of what the
    table shows. Patients are drawn with all their images, in all seeds or folds at once, and the metric is computed anew on the
    images drawn, because AUROC, F1 and ECE are not means over images. Decision: a seed whose resample lacks a class has no
    AUROC and is left out of that resample's mean; a metric that no seed has is not in the answer.

    Rows are those of metrics.json plus `seed`, matched on (case, image, seed).
    Raises ValueError naming rows without a partner, rows given twice, and images whose labels differ.
    """
    seeds: dict[Any, list[tuple[Row, Row]]] = defaultdict(list)
    for key, mine, theirs in _pairs(student_rows, baseline_rows, IMAGE_KEYS):
        if mine["label"] != theirs["label"]:
            where = dict(zip(IMAGE_KEYS, key, strict=True))
            raise ValueError(f"{where} is of class {mine['label']} for the student and {theirs['label']} for the baseline")
        seeds[key[-1]].append((mine, theirs))
    patients = sorted({mine["case"] for pairs in seeds.values() for mine, _ in pairs})
    if not patients:
        raise ValueError("no image to compare on")
    place = {patient: index for index, patient in enumerate(patients)}
    step = max(1, 2_000_000 // max(len(pairs) for pairs in seeds.values()))  # resamples a chunk: about 16 MB an array
    plan = (len(patients), samples, step, seed)
    found = [[_differences(pairs, place, plan, chunk) for pairs in seeds.values()] for chunk in range(len(_draws(*plan)))]
    answer = {}
    for metric in METRICS:
        values = np.concatenate([_present_mean([of_seed[metric] for of_seed in chunk]) for chunk in found])
        if not np.isnan(values[0]):
            low, high = np.nanpercentile(values[1:], LEVELS)
            answer[metric] = Difference(float(values[0]), float(low), float(high), len(patients))
    return answer


def _differences(
    pairs: Sequence[tuple[Row, Row]], place: Mapping[str, int], plan: tuple[int, int, int, int], chunk: int
) -> dict[str, np.ndarray]:
    labels = np.array([mine["label"] for mine, _ in pairs], dtype=np.int64)
    places = np.array([place[mine["case"]] for mine, _ in pairs], dtype=np.int64)
    both = [np.array([pair[side]["probabilities"] for pair in pairs], dtype=np.float64) for side in (0, 1)]
    student, baseline = (_scores(labels.tobytes(), array.tobytes(), places.tobytes(), plan, chunk) for array in both)
    return {metric: student[metric] - baseline[metric] for metric in METRICS}


@lru_cache(maxsize=4)
def _draws(patients: int, samples: int, step: int, seed: int) -> list[np.ndarray]:
    """How often each patient is in each resample, in chunks of `step`; the first chunk is the data itself."""
    rng, equal = np.random.default_rng(seed), np.full(patients, 1 / patients)
    chunks = [min(step, samples - start) for start in range(0, samples, step)]
    return [np.ones((1, patients), dtype=np.int64), *(rng.multinomial(patients, equal, size=size) for size in chunks)]


@lru_cache(maxsize=512)  # a report compares every arm with every other; 0.4 MB an entry of 10,000 resamples
def _scores(
    labels: bytes, probabilities: bytes, places: bytes, plan: tuple[int, int, int, int], chunk: int
) -> dict[str, np.ndarray]:
    known, found = np.frombuffer(labels, dtype=np.int64), np.frombuffer(places, dtype=np.int64)
    weights = _draws(*plan)[chunk][:, found]
    return resampled_scores(known, np.frombuffer(probabilities).reshape(len(known), -1), weights)


def _present_mean(values: Sequence[np.ndarray]) -> np.ndarray:
    """Mean over the seeds (S,) without NaN; NaN where there is none."""
    stacked = np.stack(values)
    seen = ~np.isnan(stacked)
    with np.errstate(invalid="ignore"):
        return np.where(seen, stacked, 0).sum(0) / seen.sum(0)


def _pairs(student_rows: Sequence[Row], baseline_rows: Sequence[Row], keys: Sequence[str]) -> list[tuple[Any, Row, Row]]:
    """(key, student's row, baseline's row) of each unit; both sides must have the same ones."""
    student, baseline = _by_key(student_rows, keys, "student"), _by_key(baseline_rows, keys, "baseline")
    if unmatched := sorted(student.keys() ^ baseline.keys(), key=str):
        side = "student" if unmatched[0] in student else "baseline"
        raise ValueError(
            f"{len(unmatched)} rows have no partner, first {dict(zip(keys, unmatched[0], strict=True))} of the {side}; "
            "both must be evaluated on the same cases and seeds"
        )
    return [(key, student[key], baseline[key]) for key in sorted(student, key=str)]


def _by_key(rows: Sequence[Row], keys: Sequence[str], side: str) -> dict[tuple[Any, ...], Row]:
    result: dict[tuple[Any, ...], Row] = {}
    for row in rows:
        key = tuple(row[name] for name in keys)
        if key in result:
            raise ValueError(f"row {dict(zip(keys, key, strict=True))} of the {side} is given twice")
        result[key] = row
    return result
