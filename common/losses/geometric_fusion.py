# SPDX-License-Identifier: Apache-2.0
"""Geometric feature fusion: maps of different networks and grids should agree cell by cell."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .maps import adapted_maps

if TYPE_CHECKING:
    from ..networks import Features


class GeometricFusion(nn.Module):
    """Squared difference of the adapted maps, both averaged to the smaller of their grids; the mean over levels.

    `L_fusion = mean_l mean((pool(student_l) - pool(P_l(teacher_l)))^2)` (multi-scale geometric feature fusion of
    cross-architecture distillation, section 5: adaptive average pooling, a projection P to the student's channels, MSE,
    averaged over the scales). P is `TeacherStudent`'s adapter. Pairs there are named, not found by stride: VGG19's last
    convolution and block 3 of EfficientNet-B0, `levels={student's: teacher's}`.
    Decision: with the standardisation of `TeacherStudent`, as for Align, or both sides may shrink to zero together. It
    differs from Align only where grids differ: averaging the larger grid asks for no detail that the smaller does not have.
    Maps are `(B, C, H, W)` or `(B, C, H, W, D)`. Raises ValueError if the features carry no adapted maps, or pooled vectors.
    """

    def forward(self, student: Features, teacher: Features) -> Tensor:
        return torch.stack([F.mse_loss(*to_smaller_grid(s, t)) for s, t in adapted_maps(student, teacher)]).mean()


def to_smaller_grid(one: Tensor, two: Tensor) -> tuple[Tensor, Tensor]:
    """Both maps averaged to the smaller side of the two, axis by axis."""
    if one.ndim < 4:
        raise ValueError("geometric fusion compares maps, not pooled vectors: use TeacherStudent without `pairing`")
    size = [min(sides) for sides in zip(one.shape[2:], two.shape[2:], strict=True)]
    return average(one, size), average(two, size)


def average(x: Tensor, size: list[int]) -> Tensor:
    if list(x.shape[2:]) == size:
        return x
    pool = F.adaptive_avg_pool2d if x.ndim == 4 else F.adaptive_avg_pool3d
    return pool(x, size)  # type: ignore[arg-type]  # its hint asks for a tuple
