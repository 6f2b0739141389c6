# SPDX-License-Identifier: Apache-2.0
import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from common.losses import SoftDice
from common.networks import Features


def features(output: torch.Tensor) -> Features:
    return Features(output, [], [])


def logits(seed: int, *shape: int) -> torch.Tensor:
    return 3 * torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def softmax(values: list[float]) -> list[float]:
    exponentials = [math.exp(v) for v in values]
    return [e / sum(exponentials) for e in exponentials]


@pytest.mark.parametrize("shape", [(2, 2, 3, 4), (2, 4, 2, 3, 2)])
def test_equals_a_slow_loop(shape: tuple[int, ...]) -> None:
    """In 2-D (one foreground class) and 3-D."""
    student, teacher = logits(0, *shape), logits(1, *shape)
    values = []
    for b, k in itertools.product(range(shape[0]), range(1, shape[1])):
        above, below = 0.0, 1.0
        for place in itertools.product(*map(range, shape[2:])):
            s = softmax(student[(b, slice(None), *place)].tolist())[k]
            t = softmax(teacher[(b, slice(None), *place)].tolist())[k]
            above, below = above + (s - t) ** 2, below + s**2 + t**2
        values.append(above / below)
    assert SoftDice()(features(student), features(teacher)).item() == pytest.approx(sum(values) / len(values), rel=1e-10)


@settings(deadline=None, max_examples=20)
@given(batch=st.integers(1, 3), classes=st.integers(2, 4), dims=st.sampled_from([2, 3]), seed=st.integers(0, 99))
def test_properties(batch: int, classes: int, dims: int, seed: int) -> None:
    term, shape = SoftDice(), (batch, classes, *[4] * dims)
    student, teacher = logits(seed, *shape).requires_grad_(), logits(seed + 100, *shape)
    value = term(features(student), features(teacher))
    assert 0 < value < 1
    (gradient,) = torch.autograd.grad(value, student)
    assert gradient.isfinite().all() and gradient.abs().max() > 0
    equal = term(features(student), features(student.detach().clone()))
    assert equal.item() == pytest.approx(0, abs=1e-12)
    assert torch.autograd.grad(equal, student)[0].abs().max() < 1e-12  # soft truth is a minimum
    torch.testing.assert_close(term(features(teacher), features(student)), value)
    low = term(features(student.bfloat16()), features(teacher.bfloat16()))
    assert low.dtype == torch.float32
    torch.testing.assert_close(low.double(), value, rtol=0.1, atol=0.05)


def test_images_in_which_both_see_nothing_say_nothing() -> None:
    background = torch.tensor([30.0, -30.0]).view(1, 2, 1, 1).expand(1, 2, 8, 8)
    student = (background + torch.randn(1, 2, 8, 8)).requires_grad_()
    value = SoftDice()(features(student), features(background))
    value.backward()
    assert value.item() == pytest.approx(0, abs=1e-6) and student.grad.abs().max() < 1e-6


def test_errors_are_those_of_soft_output() -> None:
    two = logits(0, 1, 2, 4, 4)
    with pytest.raises(ValueError, match="teacher_output=True"):
        SoftDice()(features(two), features(torch.empty(0)))
    with pytest.raises(ValueError, match="same classes"):
        SoftDice()(features(two), features(logits(0, 1, 3, 4, 4)))
