# SPDX-License-Identifier: Apache-2.0
"""Soft output: the student's class probabilities should be the teacher's (Hinton, Vinyals, Dean 2015)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch.nn.functional as F
from torch import Tensor, nn

from .maps import output_pair

if TYPE_CHECKING:
    from ..networks import Features


class SoftOutput(nn.Module):
    """Divergence of the student's class probabilities from the teacher's, the mean over pixels and images.

    `L_soft = t^2 mean_p KL(softmax(z_teacher,p / t) || softmax(z_student,p / t))`: `t^2` keeps the gradient's size when
    the temperature changes. For classification this is L_KLD (eq. 15 of multi-dataset cross-domain distillation). For
    segmentation it is not in the printed method: `distill_wide` adds it to learn from images without labels.
    Outputs are logits `(B, K+1, *grid)` or `(B, K)`. Raises ValueError if the teacher's output was not computed, if the
    shapes differ, or for one channel, whose softmax is always 1 and whose divergence would silently be 0.
    """

    def __init__(self, *, temperature: float = 2.0) -> None:
        super().__init__()
        if temperature <= 0:
            raise ValueError(f"soft-output temperature {temperature}: it must be positive")
        self.temperature = temperature

    def forward(self, student: Features, teacher: Features) -> Tensor:
        ours, theirs = output_pair(student, teacher)
        log_student = F.log_softmax(ours / self.temperature, dim=1)
        log_teacher = F.log_softmax(theirs / self.temperature, dim=1)
        divergence = F.kl_div(log_student, log_teacher, log_target=True, reduction="none").sum(1)
        return self.temperature**2 * divergence.mean()
