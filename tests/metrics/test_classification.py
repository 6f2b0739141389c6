# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import balanced_accuracy_score, roc_auc_score

from common.metrics.classification import METRICS, calibration, resampled_scores, scores


def drawn(seed, size, images=30):
    """Labels with every class, and probabilities rounded so that scores tie."""
    rng = np.random.default_rng(seed)
    labels = np.concatenate([np.arange(size), rng.integers(0, size, images - size)])
    return labels, rng.multinomial(20, np.full(size, 1 / size), images) / 20


def slow_auroc(labels, probabilities):
    """All pairs, in Python; with two classes both one-vs-rest values are equal."""
    values = []
    for k in range(probabilities.shape[1]):
        score = probabilities[:, k]
        pairs = [(score[i] > score[j]) + 0.5 * (score[i] == score[j])
                 for i in np.flatnonzero(labels == k) for j in np.flatnonzero(labels != k)]  # fmt: skip
        values.append(sum(pairs) / len(pairs))
    return sum(values) / len(values)


def slow_ece(labels, probabilities, bins=15):
    total = 0.0
    for b in range(bins):
        low, high = b / bins, (b + 1) / bins
        inside = [(row.max(), row.argmax() == label) for row, label in zip(probabilities, labels, strict=True)
                  if low <= row.max() < high or (b == bins - 1 and row.max() == 1.0)]  # fmt: skip
        if inside:
            gap = np.mean([right for _, right in inside]) - np.mean([top for top, _ in inside])
            total += len(inside) / len(labels) * abs(gap)
    return total


def slow_f1(labels, predicted):
    values = []
    for k in set(labels) | set(predicted):
        both = sum((labels == k) & (predicted == k))
        values.append(2 * both / (sum(labels == k) + sum(predicted == k)))
    return sum(values) / len(values)


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 2**32 - 1), size=st.integers(2, 4))
def test_scores_equal_slow_loops(seed, size):
    labels, probabilities = drawn(seed, size)
    predicted = probabilities.argmax(1)
    found = scores(labels, probabilities)
    assert tuple(found) == METRICS
    assert found["accuracy"] == pytest.approx(sum(labels == predicted) / 30)
    assert found["balanced_accuracy"] == pytest.approx(balanced_accuracy_score(labels, predicted))
    assert found["macro_f1"] == pytest.approx(slow_f1(labels, predicted))
    assert found["auroc"] == pytest.approx(slow_auroc(labels, probabilities))
    assert found["ece"] == pytest.approx(slow_ece(labels, probabilities))


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 2**32 - 1), size=st.integers(2, 4))
def test_resamples_equal_the_scores_of_repeated_images(seed, size):
    labels, probabilities = drawn(seed, size)
    weights = np.random.default_rng(seed).multinomial(30, np.full(30, 1 / 30), 6)
    found = resampled_scores(labels, probabilities, np.vstack([np.ones(30), weights]))
    for row, counts in enumerate([np.ones(30, int), *weights]):
        expected = scores(np.repeat(labels, counts), np.repeat(probabilities, counts, axis=0))
        for metric in METRICS:
            assert found[metric][row] == pytest.approx(expected[metric], nan_ok=True), metric


def test_many_classes_agree_with_scikit_learn():
    labels, probabilities = drawn(0, 4, images=200)
    expected = roc_auc_score(labels, probabilities, multi_class="ovr", average="macro")
    assert scores(labels, probabilities)["auroc"] == pytest.approx(expected)


def test_a_perfect_and_a_useless_classifier():
    labels = np.array([0, 1, 1, 1])
    assert scores(labels, np.eye(2)[labels]) == pytest.approx(
        {"accuracy": 1, "balanced_accuracy": 1, "macro_f1": 1, "auroc": 1, "ece": 0}
    )
    constant = scores(labels, np.tile([0.0, 1.0], (4, 1)))
    assert constant == pytest.approx({"accuracy": 0.75, "balanced_accuracy": 0.5, "macro_f1": 3 / 7, "auroc": 0.5, "ece": 0.25})


def test_absent_classes(recwarn):
    found = scores(np.array([0, 0, 1]), np.array([[0.5, 0.2, 0.3], [0.2, 0.3, 0.5], [0.1, 0.8, 0.1]]))
    assert np.isnan(found["auroc"])
    assert found["balanced_accuracy"] == pytest.approx((0.5 + 1) / 2)
    assert found["macro_f1"] == pytest.approx((2 / 3 + 1 + 0) / 3)  # class 2 was predicted
    assert not recwarn.list


def test_bins_are_closed_below_and_hold_one():
    top = np.array([8 / 15, 0.999, 1.0, 0.53])
    count, confidence, right = calibration(np.zeros(4, int), np.stack([top, 1 - top], axis=1))
    assert np.flatnonzero(count).tolist() == [7, 8, 14]
    assert confidence[14] == pytest.approx(1.999)
    assert right.sum() == 4


def test_certainty_without_skill_is_badly_calibrated():
    labels = np.array([0, 1] * 10)
    assert scores(labels, np.tile([0.9, 0.1], (20, 1)))["ece"] == pytest.approx(0.4)
    assert scores(labels, np.tile([0.5001, 0.4999], (20, 1)))["ece"] == pytest.approx(0.0001)
