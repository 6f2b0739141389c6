# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from ignite.exceptions import NotComputableError
from monai.engines import SupervisedEvaluator
from sklearn.metrics import accuracy_score, balanced_accuracy_score

from common.metrics import ImageAccuracy

NAMES = ["normal", "pneumonia", "covid"]


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 2**32 - 1), size=st.integers(2, 3), batch=st.integers(1, 5))
def test_equals_scikit_learn_for_any_batching(seed, size, batch):
    rng = np.random.default_rng(seed)
    label, logits = rng.integers(0, size, 12), torch.as_tensor(rng.normal(size=(12, size)))
    label[:size] = range(size)
    for balanced, reference in ((True, balanced_accuracy_score), (False, accuracy_score)):
        metric = ImageAccuracy(NAMES[:size], balanced=balanced)
        for start in range(0, 12, batch):
            metric.update((logits[start : start + batch], torch.as_tensor(label[start : start + batch])))
        assert metric.compute() == pytest.approx(reference(label, logits.argmax(1).numpy()))


def test_a_constant_prediction_is_worth_chance_whichever_it_is():
    label = torch.tensor([0, 1, 1, 1])
    for k in (0, 1):
        metric = ImageAccuracy(["a", "b"])
        metric.update((torch.eye(2)[[k] * 4], label))
        assert metric.compute() == 0.5


def test_classes_without_an_image_are_left_out():
    metric = ImageAccuracy(NAMES)
    metric.update((torch.eye(3)[[0, 2, 1]], torch.tensor([0, 0, 1])))
    assert metric.compute() == pytest.approx(0.75)


@pytest.mark.parametrize("decollate", [True, False])
def test_in_a_stock_evaluator(decollate):
    data = [{"image": torch.eye(2)[k], "label": torch.tensor(k), "case": "a/0"} for k in (0, 1, 1)]
    engine = SupervisedEvaluator(
        device=torch.device("cpu"),
        val_data_loader=torch.utils.data.DataLoader(data, batch_size=2),
        network=torch.nn.Identity(),
        key_val_metric={"val_accuracy": ImageAccuracy(["a", "b"])},
        decollate=decollate,
    )
    engine.run()
    assert engine.state.metrics["val_accuracy"] == 1.0
    assert isinstance(engine.state.metrics["val_accuracy"], float)
    engine.run()  # a second epoch starts from zero counts
    assert engine.state.best_metric == 1.0


def test_counts_of_all_ranks_are_summed(monkeypatch):
    other = ImageAccuracy(["a", "b"])
    other.update((torch.eye(2)[[1, 1, 0]], torch.tensor([1, 1, 1])))
    monkeypatch.setattr("common.metrics.image_accuracy.gather", lambda counts: [counts, other._counts])
    metric = ImageAccuracy(["a", "b"])
    metric.update((torch.eye(2)[[0, 0]], torch.tensor([0, 1])))
    assert metric.compute() == pytest.approx((1 + 2 / 4) / 2)


@pytest.mark.parametrize(
    ("pred", "label", "message"),
    [
        (torch.zeros(2, 3), torch.zeros(2), r"pred \(2, 3\).* not \(B, 2\)"),
        (torch.zeros(2, 2, 4, 4), torch.zeros(2), r"not \(B, 2\)"),
        (torch.zeros(2, 2), torch.zeros(2, 1), r"label \(2, 1\)"),
        (torch.zeros(2, 2), torch.tensor([0, 2]), r"labels \[0, 2\] but the classes are \['a', 'b'\]"),
        (torch.zeros(2, 2), torch.tensor([0, -1]), r"labels \[-1, 0\]"),
    ],
)
def test_mismatch_is_refused(pred, label, message):
    with pytest.raises(ValueError, match=message):
        ImageAccuracy(["a", "b"]).update((pred, label))


def test_nothing_to_measure_is_refused():
    with pytest.raises(ValueError, match="at least two classes"):
        ImageAccuracy(["a"])
    with pytest.raises(NotComputableError):
        ImageAccuracy(["a", "b"]).compute()
