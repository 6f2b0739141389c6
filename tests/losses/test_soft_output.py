# SPDX-License-Identifier: Apache-2.0
import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from common.losses import SoftOutput
from common.networks import Features


def features(output: torch.Tensor) -> Features:
    return Features(output, [], [])


def logits(seed: int, *shape: int) -> torch.Tensor:
    return 3 * torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def slow_softmax(values: list[float], temperature: float) -> list[float]:
    exponentials = [math.exp(v / temperature) for v in values]
    return [e / sum(exponentials) for e in exponentials]


@pytest.mark.parametrize("shape", [(2, 2, 3, 4), (2, 4, 2, 3, 2), (3, 5)])
def test_equals_a_slow_loop(shape: tuple[int, ...]) -> None:
    """Segmentation in 2-D (one foreground class) and 3-D, and plain classification."""
    student, teacher = logits(0, *shape), logits(1, *shape)
    values = []
    for b, *place in itertools.product(range(shape[0]), *map(range, shape[2:])):
        p = slow_softmax(teacher[(b, slice(None), *place)].tolist(), 1.5)
        q = slow_softmax(student[(b, slice(None), *place)].tolist(), 1.5)
        values.append(sum(x * math.log(x / y) for x, y in zip(p, q, strict=True)))
    got = SoftOutput(temperature=1.5)(features(student), features(teacher))
    assert got.item() == pytest.approx(1.5**2 * sum(values) / len(values), rel=1e-10)


@settings(deadline=None, max_examples=20)
@given(
    batch=st.integers(1, 3), classes=st.integers(2, 4), dims=st.sampled_from([2, 3]), seed=st.integers(0, 99),
    t=st.floats(0.5, 5), shift=st.floats(-50, 50),
)  # fmt: skip
def test_properties(batch: int, classes: int, dims: int, seed: int, t: float, shift: float) -> None:
    term, shape = SoftOutput(temperature=t), (batch, classes, *[3] * dims)
    student, teacher = logits(seed, *shape), logits(seed + 100, *shape)
    value = term(features(student), features(teacher))
    assert value >= 0
    assert term(features(student), features(student.clone())) == 0
    torch.testing.assert_close(term(features(student + shift), features(teacher)), value)
    tiles = [1, 1, *[2] * dims]
    torch.testing.assert_close(term(features(student.repeat(tiles)), features(teacher.repeat(tiles))), value)
    low = term(features(student.bfloat16()), features(teacher.bfloat16()))
    assert low.dtype == torch.float32
    torch.testing.assert_close(low.double(), value, rtol=0.1, atol=0.05)


def test_gradient_keeps_its_size_when_the_temperature_changes() -> None:
    """For high temperatures the gradient tends to (student - teacher) / (classes N), both centred: Hinton's eq. 4."""
    student, teacher = logits(0, 1, 3, 1, 1).requires_grad_(), logits(1, 1, 3, 1, 1)
    SoftOutput(temperature=1e4)(features(student), features(teacher)).backward()
    difference = (student - student.mean(1, keepdim=True) - teacher + teacher.mean(1, keepdim=True)) / 3
    torch.testing.assert_close(student.grad, difference.detach(), rtol=1e-3, atol=1e-3)


def test_extreme_logits_stay_finite() -> None:
    student = torch.tensor([[1e4, -1e4]], requires_grad=True)
    value = SoftOutput()(features(student), features(torch.tensor([[-1e4, 1e4]])))
    value.backward()
    assert value.isfinite() and student.grad is not None and student.grad.isfinite().all()


def test_errors_name_the_cause() -> None:
    two = logits(0, 1, 2, 4, 4)
    with pytest.raises(ValueError, match="teacher_output=True"):
        SoftOutput()(features(two), features(torch.empty(0)))
    with pytest.raises(ValueError, match="same classes"):
        SoftOutput()(features(two), features(logits(0, 1, 3, 4, 4)))
    with pytest.raises(ValueError, match="two channels"):
        SoftOutput()(features(two[:, :1]), features(two[:, :1]))
    with pytest.raises(ValueError, match="positive"):
        SoftOutput(temperature=-1)
