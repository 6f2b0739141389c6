# SPDX-License-Identifier: Apache-2.0
"""The multi-head baseline: one shared encoder, a decoder a dataset, every dataset in every step."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from .networks import MultiHead

__all__ = ["PerDataset", "PerDatasetLoss"]

TaskLoss = Callable[[Tensor, Tensor], Tensor]


class PerDataset(nn.Module):
    """Every dataset's images through the shared encoder, each through its own decoder, in one forward call.

    `forward({dataset: (B, C, H, W)}) -> {dataset: (B, K+1, H, W)}`, for classification `(B, K)`.
    Decision: the datasets are encoded in one batch, not in turn. In turn, batch norm sees one dataset at a time in training and
    a mixture of all at test time, and the baseline fails where datasets differ in intensity.
    """

    def __init__(self, network: MultiHead) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Mapping[str, Tensor]) -> dict[str, Tensor]:
        sizes = [len(image) for image in images.values()]
        levels = [level.split(sizes) for level in self.network.encode(torch.cat(list(images.values())))]
        return {
            name: self.network.decode_head(name, [level[i] for level in levels], image)
            for i, (name, image) in enumerate(images.items())
        }


class PerDatasetLoss(nn.Module):
    """Mean over the datasets of the task loss, so that each counts equally in the one update of a step.

    `task` is one loss for all, or one a dataset (classes weighted by their shares in it).
    `terms` holds each dataset's loss, detached, for the log.
    """

    def __init__(self, *, task: TaskLoss | Mapping[str, TaskLoss]) -> None:
        super().__init__()
        self.task = task
        self.terms: dict[str, Tensor] = {}

    def forward(self, pred: Mapping[str, Tensor], label: Mapping[str, Tensor]) -> Tensor:
        tasks = self.task if isinstance(self.task, Mapping) else dict.fromkeys(pred, self.task)
        losses = {name: tasks[name](output, label[name]) for name, output in pred.items()}
        self.terms = {name: loss.detach() for name, loss in losses.items()}
        return torch.stack(list(losses.values())).mean()
