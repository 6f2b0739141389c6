# SPDX-License-Identifier: Apache-2.0
import math
import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from common.losses import Contrastive
from common.networks import Features


def features(*levels: torch.Tensor) -> Features:
    return Features(torch.empty(0), list(levels), [])


def level(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def slow_probabilities(level: torch.Tensor, temperature: float) -> list[list[float]]:
    """Row i: softmax over the images j != i of the cosine of pooled vectors i and j."""
    vectors = [[channel.mean().item() for channel in image] for image in level]
    rows = []
    for i, a in enumerate(vectors):
        exponentials = []
        for j, b in enumerate(vectors):
            if i != j:
                dot = sum(x * y for x, y in zip(a, b, strict=True))
                cosine = dot / math.sqrt(sum(x * x for x in a) * sum(y * y for y in b))
                exponentials.append(math.exp(cosine / temperature))
        rows.append([e / sum(exponentials) for e in exponentials])
    return rows


@pytest.mark.parametrize("direction", ["student_teacher", "teacher_student"])
@pytest.mark.parametrize("grid", [(3, 4), (2, 3, 2)])
def test_equals_a_slow_loop(grid: tuple[int, ...], direction: str) -> None:
    """Two levels; the teacher has other widths and another grid."""
    student = [level(0, 4, 3, *grid), level(1, 4, 5, *grid)]
    teacher = [level(2, 4, 6, *grid, ), level(3, 4, 2, *[2] * len(grid))]  # fmt: skip
    means = []
    for s, t in zip(student, teacher, strict=True):
        p, q = slow_probabilities(s, 0.7), slow_probabilities(t, 0.7)
        if direction == "teacher_student":
            p, q = q, p
        rows = [sum(a * math.log(a / b) for a, b in zip(x, y, strict=True)) for x, y in zip(p, q, strict=True)]
        means.append(sum(rows) / len(rows))
    got = Contrastive(temperature=0.7, direction=direction)(features(*student), features(*teacher))
    assert got.item() == pytest.approx(sum(means) / 2, rel=1e-10)


@settings(deadline=None, max_examples=20)
@given(batch=st.integers(3, 5), seed=st.integers(0, 99), scale=st.floats(0.1, 10), t=st.floats(0.5, 2))
def test_properties(batch: int, seed: int, scale: float, t: float) -> None:
    term = Contrastive(temperature=t)
    s, teacher = level(seed, batch, 4, 3, 3), level(seed + 100, batch, 6, 3, 3)
    value = term(features(s), features(teacher))
    assert value >= 0
    assert term(features(s), features(s.clone())).item() == pytest.approx(0, abs=1e-12)
    torch.testing.assert_close(term(features(scale * s), features(teacher)), value)
    torch.testing.assert_close(term(features(s.repeat(1, 1, 2, 3)), features(teacher)), value)
    order = torch.randperm(batch)
    torch.testing.assert_close(term(features(s[order]), features(teacher[order])), value)
    low = term(features(s.bfloat16()), features(teacher.bfloat16()))
    assert low.dtype == torch.float32
    torch.testing.assert_close(low.double(), value, rtol=0.1, atol=0.02)


@pytest.mark.parametrize("batch", [1, 2])
def test_too_few_images_give_zero_with_a_graph(batch: int) -> None:
    s = level(0, batch, 4, 3, 3).requires_grad_()
    value = Contrastive()(features(s), features(level(1, batch, 6, 3, 3)))
    value.backward()
    assert value.item() == 0
    assert s.grad is not None and s.grad.abs().max() < 1e-15


def test_dead_features_have_finite_gradients() -> None:
    s = torch.zeros(4, 3, 2, 2, requires_grad=True)
    value = Contrastive()(features(s), features(level(1, 4, 3, 2, 2).float()))
    value.backward()
    assert value.isfinite() and s.grad is not None and s.grad.isfinite().all()


def test_gradient_is_numerically_right_and_reaches_the_student() -> None:
    s, teacher = level(0, 3, 2, 2, 2).requires_grad_(), level(1, 3, 4, 2, 2)
    assert torch.autograd.gradcheck(lambda x: Contrastive()(features(x), features(teacher)), s)


def test_bad_options_are_refused() -> None:
    with pytest.raises(ValueError, match="'both'"):
        Contrastive(direction="both")
    with pytest.raises(ValueError, match="positive"):
        Contrastive(temperature=0)


def test_two_ranks_equal_one_process_in_value_and_gradient(tmp_path: Path) -> None:
    script = Path(__file__).with_name("contrastive_rank.py")
    want = runpy.run_path(str(script))["values"](0, 1)
    environment = os.environ | {"PYTHONPATH": str(script.parents[2])}
    ranks = [subprocess.Popen([sys.executable, script, str(rank), tmp_path], env=environment) for rank in range(2)]
    assert [rank.wait(timeout=120) for rank in ranks] == [0, 0]
    for rank in range(2):
        got = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        torch.testing.assert_close(got, want, rtol=1e-10, atol=1e-14)
    assert all(value.abs().max() > 1e-4 for value in want)
