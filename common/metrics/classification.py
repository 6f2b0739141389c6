# SPDX-License-Identifier: Apache-2.0
"""Metrics of an image classifier: of one set of images, and of many resamples of it at once."""

from typing import NamedTuple

import numpy as np
from sklearn.metrics import accuracy_score, f1_score, recall_score, roc_auc_score

METRICS = ("accuracy", "balanced_accuracy", "macro_f1", "auroc", "ece")
BINS = 15  # of the calibration error, the usual number (Guo et al. 2017, arXiv:1706.04599)


class Calibration(NamedTuple):
    """A bin's number of images, sum of top probabilities, and number of right predictions; arrays (BINS,)."""

    images: np.ndarray
    confidence: np.ndarray
    right: np.ndarray


def calibration(labels: np.ndarray, probabilities: np.ndarray) -> Calibration:
    """Images (labels (N,), probabilities (N, K)) in BINS bins of equal width of their top probability, each [low, high)."""
    top, right = probabilities.max(1), probabilities.argmax(1) == labels
    index = _bins(top)
    sums = (np.bincount(index, weights, minlength=BINS) for weights in (np.ones_like(top), top, right))
    return Calibration(*sums)


def _bins(top: np.ndarray) -> np.ndarray:
    return np.digitize(top, np.linspace(0, 1, BINS + 1)[1:-1])  # the last one holds 1.0


def scores(labels: np.ndarray, probabilities: np.ndarray) -> dict[str, float]:
    """Each of METRICS of class indices (N,) and class probabilities (N, K); the prediction is the most probable class.

    Balanced accuracy is the mean recall over the classes in the truth, macro F1 the mean over the classes in truth or
    prediction, AUROC the mean over the classes of one against the rest (K = 2: class 1), NaN where a class is not in the truth.
    `ECE = sum_b |right_b - confidence_b| / N` with the sums of `calibration`, which is the mean gap between accuracy and
    confidence of a bin, weighted by its images.
    """
    predicted, size = probabilities.argmax(1), probabilities.shape[1]
    true, of_class = np.unique(labels), [1] if size == 2 else range(size)
    bins = calibration(labels, probabilities)
    whole = len(true) == size
    return {
        "accuracy": float(accuracy_score(labels, predicted)),
        # balanced_accuracy_score is the same, but warns where a class is predicted only
        "balanced_accuracy": float(recall_score(labels, predicted, labels=true, average="macro", zero_division=0)),
        "macro_f1": float(f1_score(labels, predicted, average="macro", zero_division=0)),
        "auroc": float(np.mean([roc_auc_score(labels == k, probabilities[:, k]) for k in of_class])) if whole else np.nan,
        "ece": float(np.abs(bins.right - bins.confidence).sum() / len(labels)),
    }


def resampled_scores(labels: np.ndarray, probabilities: np.ndarray, weights: np.ndarray) -> dict[str, np.ndarray]:
    """`scores` of S resamples: metric -> (S,); `weights` (S, N) says how often each image is in each of them.

    A bootstrap of ten thousand resamples would take scikit-learn minutes a pair of arms. NaN where a metric is undefined:
    AUROC in a resample without one of the classes, all in an empty one.
    """
    size, weights = probabilities.shape[1], weights.astype(np.float64)
    top, predicted = probabilities.max(1), probabilities.argmax(1)
    cells = (weights @ np.eye(size * size)[labels * size + predicted]).reshape(-1, size, size)
    right, true, told = np.einsum("skk->sk", cells), cells.sum(2), cells.sum(1)
    gaps = weights @ (np.eye(BINS)[_bins(top)] * ((predicted == labels) - top)[:, None])
    of_class = [1] if size == 2 else range(size)
    with np.errstate(invalid="ignore", divide="ignore"):
        total = weights.sum(1)
        return {
            "accuracy": right.sum(1) / total,
            "balanced_accuracy": _mean(right, true),
            "macro_f1": _mean(2 * right, true + told),
            "auroc": np.mean([_auroc(labels == k, probabilities[:, k], weights) for k in of_class], axis=0),
            "ece": np.abs(gaps).sum(1) / total,
        }


def _mean(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """Mean over the classes of part / whole (S, K), without classes that a resample does not have."""
    return np.where(whole > 0, part / whole, 0).sum(1) / (whole > 0).sum(1)


def _auroc(positive: np.ndarray, score: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Share of pairs (positive, negative) in which the positive has the higher score, ties one half."""
    order = np.argsort(score, kind="stable")
    first = np.flatnonzero(np.diff(score[order], prepend=-np.inf))  # of each run of equal scores
    ranked = weights[:, order]
    above = np.add.reduceat(ranked * positive[order], first, axis=1)
    below = np.add.reduceat(ranked * ~positive[order], first, axis=1)
    pairs = (above * (below.cumsum(1) - below / 2)).sum(1)
    return pairs / (above.sum(1) * below.sum(1))
