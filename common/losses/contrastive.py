# SPDX-License-Identifier: Apache-2.0
"""Contrastive term: images that look alike to the teacher should look alike to the student."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from .maps import full_precision

if TYPE_CHECKING:
    from ..networks import Features


class Contrastive(nn.Module):
    """Divergence between the batch's cosine-similarity matrices of student and teacher, the mean over levels.

    `L_con = mean_l mean_i KL(softmax(S_li / t) || softmax(T_li / t))` (eq. 11 of multi-dataset cross-domain
    distillation), `S_lij` the cosine of the level's globally pooled vectors of images i and j. `direction`
    "teacher_student" swaps the two distributions; `temperature` may be set from outside (the curriculum does).
    Decision: computed on the raw levels, whose widths may differ (an adapter could cheat); the diagonal, always 1, is
    dropped. One image gives 0 with a graph, and so do two (one neighbour has all the probability).
    Under torch.distributed the batch is that of all ranks, which must hold equally many images.
    """

    def __init__(self, *, temperature: float = 2.0, direction: str = "student_teacher") -> None:
        super().__init__()
        if direction not in ("student_teacher", "teacher_student"):
            raise ValueError(f"contrastive direction {direction!r}: use 'student_teacher' or 'teacher_student'")
        if temperature <= 0:
            raise ValueError(f"contrastive temperature {temperature}: it must be positive")
        self.temperature = temperature
        self.direction = direction

    def forward(self, student: Features, teacher: Features) -> Tensor:
        pairs = zip(student.levels, teacher.levels, strict=True)
        return torch.stack([self._level(self._neighbours(s), self._neighbours(t)) for s, t in pairs]).mean()

    def _neighbours(self, level: Tensor) -> Tensor:
        """Log-probabilities `(B, B - 1)` of every image's neighbours, from the level `(B, C, *grid)`."""
        vectors = gather(full_precision(level).flatten(2).mean(-1))
        size = len(vectors)
        similarity = F.cosine_similarity(vectors[:, None], vectors[None], dim=-1)
        # Without its first element the flat matrix has the diagonal as the last column of rows of B + 1: no sync.
        others = similarity.flatten()[1:].view(size - 1, size + 1)[:, :-1].reshape(size, size - 1)
        return F.log_softmax(others / self.temperature, dim=1)

    def _level(self, student: Tensor, teacher: Tensor) -> Tensor:
        first, second = (student, teacher) if self.direction == "student_teacher" else (teacher, student)
        return F.kl_div(second, first, log_target=True, reduction="sum") / len(first)


def gather(own: Tensor) -> Tensor:
    """Rows of all ranks, in the order of ranks; the gradient reaches this rank's rows, times the number of ranks.

    Every rank computes the same loss from the same rows, so this is the sum of the ranks' gradients without sending
    them, and DDP's mean over ranks of the parameters' gradients then equals that of one process with the whole batch.
    """
    if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1:
        return own
    rows = [torch.empty_like(own) for _ in range(dist.get_world_size())]
    dist.all_gather(rows, own.detach().contiguous())
    # The value is own's, bit for bit: the bracket is 0.
    rows[dist.get_rank()] = own + (len(rows) - 1) * (own - own.detach())
    return torch.cat(rows)
