# SPDX-License-Identifier: Apache-2.0
"""Soft output: the student's class probabilities should be the teacher's (Hinton, Vinyals, Dean 2015)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch.nn.functional as F
from torch import Tensor, nn

from .maps import full_precision

if TYPE_CHECKING:
    from ..networks import Features


class SoftOutput(nn.Module):
    """Divergence of the student's class probabilities from the teacher's, the mean over pixels and images.

    `L_soft = t^2 mean_p KL(softmax(z_teacher,p / t) || softmax(z_student,p / t))`: `t^2` keeps the gradient's size when
    the temperature changes. For classification this is L_KLD (eq. 15 of multi-dataset cross-domain distillation). For
    segmentation it is not in the printed method: `distill_wide` and `distill_soft` learn by it from images without labels.
    Outputs are logits `(B, K+1, *grid)` or `(B, K)`. Raises ValueError if the teacher's output was not computed, if the
    shapes differ, or for one channel, whose softmax is always 1 and whose divergence would silently be 0.
    """

    def __init__(self, *, temperature: float = 2.0) -> None:
        super().__init__()
        if temperature <= 0:
            raise ValueError(f"soft-output temperature {temperature}: it must be positive")
        self.temperature = temperature

    def forward(self, student: Features, teacher: Features) -> Tensor:
        if teacher.output.numel() == 0:
            raise ValueError("the teacher's output was not computed: build TeacherStudent with teacher_output=True")
        if student.output.shape != teacher.output.shape:
            shapes = f"{tuple(student.output.shape)} and {tuple(teacher.output.shape)}"
            raise ValueError(f"outputs of student and teacher are {shapes}: both need the same classes")
        if student.output.shape[1] < 2:
            raise ValueError("soft output needs at least two channels (background and a class)")
        log_student = F.log_softmax(full_precision(student.output) / self.temperature, dim=1)
        log_teacher = F.log_softmax(full_precision(teacher.output) / self.temperature, dim=1)
        divergence = F.kl_div(log_student, log_teacher, log_target=True, reduction="none").sum(1)
        return self.temperature**2 * divergence.mean()
