# SPDX-License-Identifier: Apache-2.0
"""Soft Dice: the student's foreground should overlap the teacher's (Milletari et al. 2016, with soft truth)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from monai.losses import DiceLoss
from torch import Tensor, nn

from .maps import output_pair

if TYPE_CHECKING:
    from ..networks import Features


class SoftDice(nn.Module):
    """One minus the Dice overlap of the student's and the teacher's class probabilities, without background.

    `L = mean_{image, class} sum_p (s_p - t_p)^2 / (sum_p s_p^2 + sum_p t_p^2 + 1)`, s and t the softmax of both outputs,
    which is V-Net's Dice loss with the teacher's probabilities as truth: 0 where both agree, unlike Dice of plain sums,
    whose minimum at soft truth is a hard mask. Not in the printed method: `SoftOutput` is a mean over all pixels, most of
    them background that both know, so that of an image without a label little is learned about the boundary of a small
    structure; this counts what is foreground to either. The 1 is a pixel: an image in which both see nothing gives 0.
    Outputs are logits `(B, K+1, *grid)`, background first. Raises ValueError as `SoftOutput`.
    """

    def __init__(self) -> None:
        super().__init__()
        self.dice = DiceLoss(include_background=False, softmax=True, squared_pred=True, smooth_nr=1.0, smooth_dr=1.0)

    def forward(self, student: Features, teacher: Features) -> Tensor:
        ours, theirs = output_pair(student, teacher)
        return self.dice(ours, theirs.softmax(1))
