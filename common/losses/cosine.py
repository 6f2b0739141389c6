# SPDX-License-Identifier: Apache-2.0
"""Cosine similarity: the student's maps should point where the teacher's do, whatever their scale."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from .maps import adapted_pairs

if TYPE_CHECKING:
    from ..networks import Features

EPS = 1e-8  # F.cosine_similarity's


class Cosine(nn.Module):
    """One minus the cosine of the adapted maps, the mean over images (or pixels), then over levels; in [0, 2].

    `L_cos = mean_l mean_b (1 - cos(vec a_l(student_lb), vec a_l(teacher_lb)))` (eq. 13 of multi-dataset cross-domain
    distillation): each image's whole map is one vector, as printed. With `per_pixel` a pixel's channels are one vector
    and the mean runs over all pixels. A map (or pixel) of zeros has no direction: its cosine counts as 0, gradient 0.
    Maps are `(B, C, H, W)` or `(B, C, H, W, D)`, or pooled vectors `(B, C)`. Raises ValueError if the features carry no
    adapted maps.
    """

    def __init__(self, *, per_pixel: bool = False) -> None:
        super().__init__()
        self.per_pixel = per_pixel

    def forward(self, student: Features, teacher: Features) -> Tensor:
        cosines = []
        for s, t in adapted_pairs(student, teacher):
            # As F.cosine_similarity, which divides whole maps by their norms: four times as long, mostly in memory.
            axes = [1] if self.per_pixel else list(range(1, s.ndim))
            norms = [torch.linalg.vector_norm(x, dim=axes).clamp_min(EPS) for x in (s, t)]
            cosines.append(((s * t).sum(axes) / norms[0] / norms[1]).mean())
        return 1 - torch.stack(cosines).mean()
