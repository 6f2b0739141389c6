# SPDX-License-Identifier: Apache-2.0
"""Class-weighted cross-entropy: the task loss of classification students."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .maps import full_precision


class ClassWeightedCrossEntropy(nn.Module):
    """Cross-entropy whose images count more the rarer their class is in the training fold.

    `L_CE = mean_i w_{y_i} (-log p_{i, y_i})`, `w_c = 1 / (f_c + eps)` (eq. 14 of multi-dataset cross-domain distillation),
    `f_c` the share of class c. `forward(output, label)`: logits `(B, K)`, class indices `(B,)`. `counts` are the images (or
    shares) of each class in the training fold, in index order. Teachers take the unweighted loss (eq. 7):
    `torch.nn.CrossEntropyLoss`.

    Decision: the weights are divided by their mean over the training fold, `sum_c f_c w_c` (about K), a constant: as
    printed the loss grows with the class count and `alpha` would mean another thing for each dataset. Torch's own weighted
    mean divides by the weights of the batch instead, which undoes them in a small batch (one of a single class is
    unweighted) and differs from rank to rank. One class (a source of the multi-head baseline, which is warned of) has
    weight 1 and loss 0. Raises ValueError for no class, a negative count, no image at all, or a negative eps (0 is refused
    where a class has no image).
    """

    def __init__(self, counts: Sequence[float], *, eps: float = 1e-6) -> None:
        super().__init__()
        if not counts or min(counts) < 0 or sum(counts) <= 0:
            raise ValueError(f"counts: {list(counts)}; give the training images of each class, in index order")
        if eps < 0 or (eps == 0 and min(counts) == 0):
            raise ValueError(f"eps: {eps}; give a positive number")
        shares = [count / sum(counts) for count in counts]
        weights = [1 / (share + eps) for share in shares]
        mean = sum(share * weight for share, weight in zip(shares, weights, strict=True))
        self.weights = torch.tensor([weight / mean for weight in weights], dtype=torch.float64)

    def forward(self, output: Tensor, label: Tensor) -> Tensor:
        if output.shape[1] != len(self.weights):
            raise ValueError(f"logits of {output.shape[1]} classes, but counts of {len(self.weights)}")
        logits = full_precision(output)
        self.weights = self.weights.to(logits.device)  # moved once, not every step
        return F.cross_entropy(logits, label, weight=self.weights.to(logits.dtype), reduction="none").mean()
