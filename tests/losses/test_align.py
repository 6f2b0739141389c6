# SPDX-License-Identifier: Apache-2.0
import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from common.distillation import TeacherStudent, adapt, standardise
from common.losses import Align
from common.networks import Features, UNet


def features(adapted: list[torch.Tensor]) -> Features:
    return Features(torch.empty(0), [], adapted)


def maps(seed: int, *shapes: tuple[int, ...], dtype: torch.dtype = torch.float64) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype) for shape in shapes]


@pytest.mark.parametrize("shapes", [((2, 3, 4, 5), (2, 2, 2, 3)), ((2, 3, 2, 4, 3), (1, 2, 2, 2, 2))])
def test_equals_a_slow_loop(shapes: tuple[tuple[int, ...], ...]) -> None:
    student, teacher = maps(0, *shapes), maps(1, *shapes)
    levels = []
    for s, t in zip(student, teacher, strict=True):
        places = list(itertools.product(*map(range, s.shape)))
        levels.append(sum((s[place].item() - t[place].item()) ** 2 for place in places) / len(places))
    got = Align()(features(student), features(teacher))
    assert got.item() == pytest.approx(sum(levels) / len(levels), rel=1e-12)


@settings(deadline=None, max_examples=20)
@given(batch=st.integers(1, 3), repeat=st.integers(2, 3), seed=st.integers(0, 99), dims=st.sampled_from([2, 3]))
def test_size_identity_and_precision(batch: int, repeat: int, seed: int, dims: int) -> None:
    shape = (batch, 2, *[3] * dims)
    (s,), (t,) = maps(seed, shape), maps(seed + 100, shape)
    value = Align()(features([s]), features([t]))
    tiles = [1, 1, *[repeat] * dims]
    torch.testing.assert_close(Align()(features([s.repeat(tiles)]), features([t.repeat(tiles)])), value)
    assert Align()(features([s]), features([s.clone()])) == 0
    low = Align()(features([s.bfloat16()]), features([t.bfloat16()]))
    assert low.dtype == torch.float32
    torch.testing.assert_close(low.double(), value, rtol=0.05, atol=0.01)


def test_half_does_not_overflow() -> None:
    big = torch.full((1, 1, 64, 64), 300.0, dtype=torch.half)
    assert Align()(features([big]), features([-big])).item() == pytest.approx(360_000)


@pytest.mark.parametrize("dims", [2, 3])
def test_other_grid_is_resized(dims: int) -> None:
    """A constant map stays constant when resized, so the value is the closed form."""
    s, t = torch.full((2, 3, *[8] * dims), 1.0), torch.full((2, 3, *[5] * dims), 3.0)
    assert Align()(features([s]), features([t])).item() == pytest.approx(4.0)


def test_errors_name_the_cause() -> None:
    (s,) = maps(0, (1, 2, 4, 4))
    with pytest.raises(ValueError, match="adapters=True"):
        Align()(features([]), features([]))
    with pytest.raises(ValueError, match="2 and 1 channels"):
        Align()(features([s]), features([s[:, :1]]))


@pytest.mark.parametrize(("scale", "student_adapter"), [(1.0, False), (0.1, False), (1.0, True)])
def test_alignment_alone_does_not_collapse(scale: float, student_adapter: bool) -> None:
    """Student and adapters trained on align only come closer while both sides keep their spread.

    Without the second standardisation both spreads fall below a tenth here; `scale` makes the teacher's maps faint.
    """
    torch.manual_seed(0)
    student, teacher = UNet(features=(4, 4, 4, 4, 4, 4)), UNet(features=(8, 8, 8, 8, 8, 8))
    with torch.no_grad():
        for layer in teacher.modules():
            if isinstance(layer, torch.nn.BatchNorm2d):
                layer.weight.mul_(scale)
    module = TeacherStudent(student, teacher, levels=["down_1", "down_2"], student_adapter=student_adapter).train()
    optimizer = torch.optim.Adam([p for p in module.parameters() if p.requires_grad], lr=5e-3)
    image, first = torch.randn(4, 1, 32, 32), None
    for _ in range(150):
        pair = module(image)
        loss = Align()(*pair)
        first = first or loss.item()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.5 * first
    for side in pair:
        assert all(level.std((2, 3)).mean() > 0.4 for level in side.adapted)


@settings(deadline=None, max_examples=10)
@given(scale=st.floats(1e-2, 1e3), offset=st.floats(-5, 5), seed=st.integers(0, 99))
def test_target_of_alignment_ignores_the_scale_of_teacher_and_adapter(scale: float, offset: float, seed: int) -> None:
    (level,) = maps(seed, (2, 3, 6, 6))
    adapter = torch.nn.Conv1d(3, 2, 1, bias=False).double()
    want = standardise(adapt(adapter, standardise(level)))
    adapter.weight.data.mul_(scale)
    got = standardise(adapt(adapter, standardise(level * scale + offset)))
    torch.testing.assert_close(got, want, rtol=1e-2, atol=1e-2)
