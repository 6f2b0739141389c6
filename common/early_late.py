# SPDX-License-Identifier: Apache-2.0
"""Stage 3 of classification: which levels early-k and late-k distillation compare, and what they compare of them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from .losses.contrastive import gather
from .losses.maps import full_precision
from .networks import LevelSpec

EPS = 1e-8  # as in `distillation.standardise`


def pair_blocks(student: Sequence[LevelSpec], teacher: Sequence[LevelSpec], *, pairing: str, k: int) -> list[tuple[int, int]]:
    """Indices (student's, teacher's) of the levels that early-k ("early") or late-k ("late") distillation pairs.

    The first or last k FusionAttention blocks of the joint teacher (levels fa_*) teach the last k levels of the student, in
    order (section 5.4 of multi-dataset cross-domain distillation). Decision: the student has no such blocks, so its last
    levels stand for them; a teacher without any (a single one, for `distill_target_only`) gives its own levels.
    Raises ValueError for another `pairing`, or a k outside of 1 .. the number of levels that both have.
    """
    if pairing not in ("early", "late"):
        raise ValueError(f"pairing: {pairing!r}; use 'early' (first blocks of the teacher) or 'late' (its last)")
    blocks = [j for j, spec in enumerate(teacher) if spec.name.startswith("fa_")] or list(range(len(teacher)))
    most = min(len(blocks), len(student))
    if not isinstance(k, int) or not 1 <= k <= most:
        raise ValueError(f"k: {k!r}; the teacher has {len(blocks)} blocks, the student {len(student)} levels: give 1 to {most}")
    chosen = blocks[:k] if pairing == "early" else blocks[-k:]
    return list(zip(range(len(student) - k, len(student)), chosen, strict=True))


def pooled(level: Tensor) -> Tensor:
    """Global mean of a level: `(B, C, *grid) -> (B, C)`, in full precision."""
    return full_precision(level).flatten(2).mean(-1)


class RunningStandard(nn.Module):
    """Every channel of vectors `(B, C)` to mean 0 and deviation 1 over all images seen in training so far.

    Statistics are cumulative (Chan, Golub, LeVeque 1979), of the whole batch under torch.distributed, and buffers, so that
    a resumed run goes on with them; eval mode uses them as they are. A channel that never varied gives 0. Without gradient:
    for a frozen teacher, whose vectors have one distribution.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("count", torch.zeros((), dtype=torch.long))
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("squares", torch.zeros(channels))  # sum of squared deviations from the mean
        self.count: Tensor
        self.mean: Tensor
        self.squares: Tensor

    @torch.no_grad()
    def forward(self, vectors: Tensor) -> Tensor:
        if self.training:
            self._update(gather(vectors))
        variance = self.squares / self.count.clamp(min=1)
        return (vectors - self.mean) * (variance + EPS).rsqrt()

    def _update(self, vectors: Tensor) -> None:
        mean = vectors.mean(0)
        share = len(vectors) / (self.count + len(vectors))
        change = mean - self.mean
        self.squares += (vectors - mean).square().sum(0) + change.square() * self.count * share
        self.mean += change * share
        self.count += len(vectors)


class PooledAdapters(nn.Module):
    """What early-k and late-k distillation compare: pooled levels, the student's brought to the teacher's width.

    `forward(student_levels, teacher_levels) -> (student_adapted, teacher_adapted)`, lists of `(B, C)` with the teacher's
    widths C: the student's pooled level through a linear layer, the teacher's pooled level standardised (`RunningStandard`).
    `widths`: (student's, teacher's) of each pair.

    Decision: the adapters are the student's, so that the goal stays where it is: adapter and student cannot shrink to meet
    a goal of their own making, and a student's level behind a ReLU reaches negative values. The goal is standardised a channel
    over images, because most of a pooled vector is common to all images: without it the adapter's bias would satisfy align
    and cosine, and what tells images apart would weigh next to nothing.
    """

    def __init__(self, widths: Sequence[tuple[int, int]]) -> None:
        super().__init__()
        self.adapters = nn.ModuleList(nn.Linear(s, t) for s, t in widths)
        self.standards = nn.ModuleList(RunningStandard(t) for _, t in widths)

    def forward(self, student: list[Tensor], teacher: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        adapted = [adapter(pooled(level)) for adapter, level in zip(self.adapters, student, strict=True)]
        return adapted, [standard(pooled(level)) for standard, level in zip(self.standards, teacher, strict=True)]
