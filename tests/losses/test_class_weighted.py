# SPDX-License-Identifier: Apache-2.0
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from common.losses import ClassWeightedCrossEntropy


def batch(size: int, classes: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    output = 3 * torch.randn(size, classes, generator=generator, dtype=torch.float64)
    return output, torch.randint(0, classes, (size,), generator=generator)


def test_equals_a_slow_loop_of_the_printed_formula() -> None:
    """The printed sum over classes, and its mean weight over the training fold that we divide by."""
    counts, eps = [70, 20, 10], 0.05
    output, label = batch(6, 3)
    weights = [1 / (n / 100 + eps) for n in counts]
    values = []
    for row, y in zip(output.tolist(), label.tolist(), strict=True):
        p = [math.exp(v) / sum(map(math.exp, row)) for v in row]
        values.append(-sum(weights[c] * (c == y) * math.log(p[c]) for c in range(3)))
    scale = sum(n / 100 * w for n, w in zip(counts, weights, strict=True))
    got = ClassWeightedCrossEntropy(counts, eps=eps)(output, label)
    assert got.item() == pytest.approx(sum(values) / 6 / scale, rel=1e-12)


@settings(deadline=None, max_examples=30)
@given(
    counts=st.lists(st.integers(1, 500), min_size=2, max_size=5), size=st.integers(1, 6), seed=st.integers(0, 99),
    factor=st.integers(2, 9),
)  # fmt: skip
def test_properties(counts: list[int], size: int, seed: int, factor: int) -> None:
    output, label = batch(size, len(counts), seed)
    value = ClassWeightedCrossEntropy(counts)(output, label)
    assert value >= 0
    torch.testing.assert_close(ClassWeightedCrossEntropy([factor * n for n in counts])(output, label), value)
    even = ClassWeightedCrossEntropy([7] * len(counts))(output, label)
    torch.testing.assert_close(even, nn.CrossEntropyLoss()(output, label))  # equal classes, any number: unweighted
    each = [ClassWeightedCrossEntropy(counts)(output[i : i + 1], label[i : i + 1]) for i in range(size)]
    torch.testing.assert_close(torch.stack(each).mean(), value)  # an image's part does not depend on its batch
    low = ClassWeightedCrossEntropy(counts)(output.bfloat16(), label)
    assert low.dtype == torch.float32
    torch.testing.assert_close(low.double(), value, rtol=0.1, atol=0.05)


def test_every_class_counts_alike_over_the_training_fold() -> None:
    """Uniform predictions cost log K an image; over the fold each class adds log K / K, however many images it has."""
    counts = [60, 30, 10]
    loss = ClassWeightedCrossEntropy(counts, eps=0)
    label = torch.tensor([0] * 60 + [1] * 30 + [2] * 10)
    output = torch.zeros(100, 3, dtype=torch.float64)
    for c in range(3):
        part = loss(output[label == c], label[label == c]) * counts[c] / 100
        assert part.item() == pytest.approx(math.log(3) / 3)
    assert loss(output, label).item() == pytest.approx(math.log(3))
    assert not list(loss.parameters()) and not loss.state_dict()


def test_gradient_and_extreme_logits_stay_finite() -> None:
    output = torch.tensor([[1e4, -1e4], [-1e4, 1e4]], requires_grad=True)
    value = ClassWeightedCrossEntropy([1, 999_999])(output, torch.tensor([0, 0]))
    value.backward()
    assert value.isfinite() and output.grad is not None and output.grad.isfinite().all() and output.grad.abs().sum() > 0


def test_one_class_has_weight_1_and_nothing_to_learn() -> None:
    loss = ClassWeightedCrossEntropy([7])
    assert loss.weights.tolist() == [1.0]
    output = torch.tensor([[3.0], [-2.0]], requires_grad=True)
    value = loss(output, torch.tensor([0, 0]))
    value.backward()
    assert value.item() == 0 and output.grad is not None and not output.grad.any()


def test_wrong_counts_are_refused() -> None:
    for counts in ([], [0], [0, 0], [3, -1]):
        with pytest.raises(ValueError, match="counts"):
            ClassWeightedCrossEntropy(counts)
    for eps, counts in ((-1.0, [1, 1]), (0.0, [1, 0])):
        with pytest.raises(ValueError, match="eps"):
            ClassWeightedCrossEntropy(counts, eps=eps)
    with pytest.raises(ValueError, match="2 classes, but counts of 3"):
        ClassWeightedCrossEntropy([1, 1, 1])(*batch(2, 2))
