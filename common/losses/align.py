# SPDX-License-Identifier: Apache-2.0
"""Feature alignment: the student's maps should equal the teacher's."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .maps import adapted_pairs

if TYPE_CHECKING:
    from ..networks import Features


class Align(nn.Module):
    """Squared difference of the adapted maps, the mean over elements, then over levels.

    `L_align = mean_l mean((a_l(student_l) - a_l(teacher_l))^2)` (eq. 12 of multi-dataset cross-domain distillation).
    Decision: the printed squared norm grows with the map; the mean does not depend on image size or width.
    Maps are `(B, C, H, W)` or `(B, C, H, W, D)`, or pooled vectors `(B, C)`; grids may differ, then the teacher's is
    resized. Raises ValueError if the features carry no adapted maps.
    """

    def forward(self, student: Features, teacher: Features) -> Tensor:
        return torch.stack([F.mse_loss(s, t) for s, t in adapted_pairs(student, teacher)]).mean()
