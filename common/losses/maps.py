# SPDX-License-Identifier: Apache-2.0
"""What several terms do to a pair of maps before they compare them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch.nn.functional as F
from torch import Tensor

if TYPE_CHECKING:
    from ..networks import Features


def full_precision(x: Tensor) -> Tensor:
    """Half and bfloat16 become float32 (a sum over a map overflows half at 65504); float32 and float64 stay."""
    return x.float() if x.element_size() < 4 else x


def adapted_maps(student: Features, teacher: Features) -> list[tuple[Tensor, Tensor]]:
    """Pairs of adapted maps `(B, C, *grid)`, or of adapted pooled vectors `(B, C)`, in full precision.

    Raises ValueError if there are none or if the widths of a pair differ.
    """
    if not teacher.adapted or len(student.adapted) != len(teacher.adapted):
        raise ValueError(
            f"{len(student.adapted)} adapted maps of the student against {len(teacher.adapted)} of the teacher: "
            "align and cosine read adapted maps, build TeacherStudent with adapters=True"
        )
    pairs = []
    for s, t in zip(student.adapted, teacher.adapted, strict=True):
        if s.shape[1] != t.shape[1]:
            raise ValueError(f"adapted maps of {s.shape[1]} and {t.shape[1]} channels: adapt the teacher's to the student's")
        pairs.append((full_precision(s), full_precision(t)))
    return pairs


def adapted_pairs(student: Features, teacher: Features) -> list[tuple[Tensor, Tensor]]:
    """`adapted_maps`, the teacher's resized linearly to the student's grid where grids differ."""
    pairs = []
    for s, t in adapted_maps(student, teacher):
        if s.shape[2:] != t.shape[2:]:
            t = F.interpolate(t, size=s.shape[2:], mode="bilinear" if s.ndim == 4 else "trilinear")
        pairs.append((s, t))
    return pairs
