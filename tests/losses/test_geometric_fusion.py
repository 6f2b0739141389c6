# SPDX-License-Identifier: Apache-2.0
import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from common.distillation import TeacherStudent
from common.losses import Align, GeometricFusion
from common.networks import Features
from tests.tiny_classifier import images, tiny


def features(*adapted: torch.Tensor) -> Features:
    return Features(torch.empty(0), [], list(adapted))


def noise(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def slow_pool(x: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Adaptive average pooling, cell by cell."""
    output = torch.zeros(*x.shape[:2], *size, dtype=x.dtype)
    for i, j in itertools.product(*map(range, size)):
        (a, b), (c, d) = [(n * s // m, -(-(n + 1) * s // m)) for n, s, m in zip((i, j), x.shape[2:], size, strict=True)]
        output[:, :, i, j] = x[:, :, a:b, c:d].mean((2, 3))
    return output


@pytest.mark.parametrize(("grid", "other"), [((4, 4), (2, 2)), ((2, 3), (7, 6)), ((6, 2), (3, 5)), ((3, 3), (3, 3))])
def test_equals_a_slow_loop(grid: tuple[int, int], other: tuple[int, int]) -> None:
    one, two = noise(0, 2, 3, *grid), noise(1, 2, 3, *other)
    size = tuple(map(min, grid, other))
    s, t = slow_pool(one, size), slow_pool(two, size)
    second = noise(2, 2, 5, 2, 2), noise(3, 2, 5, 2, 2)
    want = sum((s - t).flatten().tolist()[i] ** 2 for i in range(s.numel())) / s.numel()
    want = (want + (second[0] - second[1]).square().mean().item()) / 2
    got = GeometricFusion()(features(one, second[0]), features(two, second[1]))
    assert got.item() == pytest.approx(want, rel=1e-10)


@settings(deadline=None, max_examples=20)
@given(batch=st.integers(1, 3), dims=st.sampled_from([2, 3]), repeat=st.integers(2, 3), seed=st.integers(0, 99))
def test_properties(batch: int, dims: int, repeat: int, seed: int) -> None:
    one, two = noise(seed, batch, 2, *[3] * dims), noise(seed + 100, batch, 2, *[3] * dims)
    value = GeometricFusion()(features(one), features(two))
    torch.testing.assert_close(value, Align()(features(one), features(two)))  # they differ only where grids do
    assert GeometricFusion()(features(one), features(one.clone())) == 0
    fine = one
    for axis in range(2, 2 + dims):
        fine = fine.repeat_interleave(repeat, axis)
    torch.testing.assert_close(GeometricFusion()(features(fine), features(two)), value)  # detail-free, so averaging is exact
    torch.testing.assert_close(GeometricFusion()(features(two), features(fine)), value)
    low = GeometricFusion()(features(one.bfloat16()), features(two.bfloat16()))
    assert low.dtype == torch.float32
    torch.testing.assert_close(low.double(), value, rtol=0.05, atol=0.01)


def test_named_levels_of_different_networks_reach_the_student_and_not_the_teacher() -> None:
    """As the last convolution of a teacher and block 3 of a student: other widths, strides and grids."""
    teacher = tiny(1, widths=(4, 6, 8, 10))
    module = TeacherStudent(tiny().train(), teacher, levels={"stage_2": "stage_4"}).train()
    student, taught = module(images())
    assert student.adapted[0].shape == (4, 6, 8, 8) and taught.adapted[0].shape == (4, 6, 2, 2)
    GeometricFusion()(student, taught).backward()
    assert all(p.grad.abs().sum() > 0 for p in [*module.adapters.parameters(), *module.student.stages[:2].parameters()])
    assert all(p.grad is None for p in teacher.parameters())


def test_errors_name_the_cause() -> None:
    with pytest.raises(ValueError, match="adapters=True"):
        GeometricFusion()(features(), features())
    with pytest.raises(ValueError, match="3 and 4 channels"):
        GeometricFusion()(features(noise(0, 1, 3, 2, 2)), features(noise(0, 1, 4, 2, 2)))
    with pytest.raises(ValueError, match="pooled vectors"):
        GeometricFusion()(features(noise(0, 2, 3)), features(noise(1, 2, 3)))
