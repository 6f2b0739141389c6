# SPDX-License-Identifier: Apache-2.0
import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from common.losses import Cosine
from common.networks import Features


def features(adapted: list[torch.Tensor]) -> Features:
    return Features(torch.empty(0), [], adapted)


def maps(seed: int, *shapes: tuple[int, ...]) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes]


def slow_cosine(a: list[float], b: list[float]) -> float:
    dot = sum(x * y for x, y in zip(a, b, strict=True))
    return dot / math.sqrt(sum(x * x for x in a)) / math.sqrt(sum(y * y for y in b))


@pytest.mark.parametrize("per_pixel", [False, True])
@pytest.mark.parametrize("shapes", [((3, 2, 4, 5), (3, 4, 2, 3)), ((2, 3, 2, 4, 3), (2, 2, 2, 2, 2))])
def test_equals_a_slow_loop(shapes: tuple[tuple[int, ...], ...], per_pixel: bool) -> None:
    student, teacher = maps(0, *shapes), maps(1, *shapes)
    levels = []
    for s, t in zip(student, teacher, strict=True):
        values = []
        for b in range(len(s)):
            if per_pixel:
                for place in itertools.product(*map(range, s.shape[2:])):
                    values.append(1 - slow_cosine(s[(b, slice(None), *place)].tolist(), t[(b, slice(None), *place)].tolist()))
            else:
                values.append(1 - slow_cosine(s[b].reshape(-1).tolist(), t[b].reshape(-1).tolist()))
        levels.append(sum(values) / len(values))
    got = Cosine(per_pixel=per_pixel)(features(student), features(teacher))
    assert got.item() == pytest.approx(sum(levels) / len(levels), rel=1e-12)


@settings(deadline=None, max_examples=20)
@given(
    batch=st.integers(1, 3), scale=st.floats(0.01, 100), seed=st.integers(0, 99), dims=st.sampled_from([2, 3]),
    per_pixel=st.booleans(),
)  # fmt: skip
def test_size_scale_identity_and_precision(batch: int, scale: float, seed: int, dims: int, per_pixel: bool) -> None:
    term, shape = Cosine(per_pixel=per_pixel), (batch, 2, *[3] * dims)
    (s,), (t,) = maps(seed, shape), maps(seed + 100, shape)
    value = term(features([s]), features([t]))
    assert -1e-9 <= value <= 2 + 1e-9
    torch.testing.assert_close(term(features([scale * s]), features([t])), value)
    torch.testing.assert_close(term(features([s]), features([scale * t])), value)
    tiles = [1, 1, *[2] * dims]
    torch.testing.assert_close(term(features([s.repeat(tiles)]), features([t.repeat(tiles)])), value)
    assert term(features([s]), features([s.clone()])).item() == pytest.approx(0, abs=1e-9)
    low = term(features([s.bfloat16()]), features([t.bfloat16()]))
    assert low.dtype == torch.float32
    torch.testing.assert_close(low.double(), value, rtol=0.05, atol=0.02)


@pytest.mark.parametrize("per_pixel", [False, True])
def test_maps_of_zeros_give_one_and_no_gradient(per_pixel: bool) -> None:
    s, (t,) = torch.zeros(2, 3, 4, 4, dtype=torch.float64, requires_grad=True), maps(0, (2, 3, 4, 4))
    value = Cosine(per_pixel=per_pixel)(features([s]), features([0 * t]))
    value.backward()
    assert value.item() == 1
    assert s.grad is not None and s.grad.abs().sum() == 0


def test_half_does_not_overflow() -> None:
    big = torch.full((1, 4, 64, 64), 300.0, dtype=torch.half)
    assert Cosine()(features([big]), features([big])).item() == pytest.approx(0, abs=1e-5)


def test_without_adapted_maps_it_says_so() -> None:
    with pytest.raises(ValueError, match="adapters=True"):
        Cosine()(features([]), features([]))
