# SPDX-License-Identifier: Apache-2.0
"""The multi-head baseline: one shared encoder, a decoder a dataset, every dataset in every step."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from .networks import MultiHead

__all__ = ["PerDataset", "PerDatasetLoss"]


class PerDataset(nn.Module):
    """Each dataset's images through the shared encoder and its own decoder, in turn, in one forward call.

    `forward({dataset: (B, C, H, W)}) -> {dataset: (B, K+1, H, W)}`. Batch-norm statistics are a dataset's own in each pass.
    """

    def __init__(self, network: MultiHead) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {name: self.network.decode_head(name, self.network.encode(x), x) for name, x in images.items()}


class PerDatasetLoss(nn.Module):
    """Mean over the datasets of the task loss, so that each counts equally in the one update of a step.

    `terms` holds each dataset's loss, detached, for the log.
    """

    def __init__(self, *, task: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.task = task
        self.terms: dict[str, Tensor] = {}

    def forward(self, pred: Mapping[str, Tensor], label: Mapping[str, Tensor]) -> Tensor:
        losses = {name: self.task(output, label[name]) for name, output in pred.items()}
        self.terms = {name: loss.detach() for name, loss in losses.items()}
        return torch.stack(list(losses.values())).mean()
