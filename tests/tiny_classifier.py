# SPDX-License-Identifier: Apache-2.0
"""A classification network small enough for tests of what uses one."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from common.networks import FeatureNet, LevelSpec


class TinyClassifier(FeatureNet):
    """Strided convolutions with batch norm; pooled bottleneck, a hidden layer, dropout, logits `(B, out_channels)`."""

    encoder_children = ("stages",)

    def __init__(self, *, widths: Sequence[int] = (4, 6, 8), out_channels: int = 3, in_channels: int = 1) -> None:
        super().__init__()
        self.spatial_dims = 2
        self.in_channels = in_channels
        self.level_specs = tuple(LevelSpec(f"stage_{i}", width, 2**i) for i, width in enumerate(widths, start=1))
        self.spec = {
            "_target_": "tests.tiny_classifier.TinyClassifier",
            "widths": list(widths),
            "out_channels": out_channels,
            "in_channels": in_channels,
        }
        inputs = [in_channels, *widths[:-1]]
        self.stages = nn.ModuleList(
            nn.Sequential(nn.Conv2d(a, b, 3, stride=2, padding=1), nn.BatchNorm2d(b), nn.ReLU())
            for a, b in zip(inputs, widths, strict=True)
        )
        self.head = nn.Sequential(nn.Linear(widths[-1], 5), nn.Tanh(), nn.Dropout(0.5), nn.Linear(5, out_channels))

    def encode(self, image: Tensor) -> list[Tensor]:
        levels: list[Tensor] = []
        x = image
        for stage in self.stages:
            x = stage(x)
            levels.append(x)
        return levels

    def decode(self, levels: list[Tensor], image: Tensor) -> Tensor:
        return self.head(levels[-1].flatten(2).mean(-1))


def tiny(seed: int = 0, **options) -> TinyClassifier:
    """One in eval mode whose weights and statistics are off their initial values, as after training."""
    torch.manual_seed(seed)
    network = TinyClassifier(**options)
    with torch.no_grad():
        for value in [*network.parameters(), *[b for name, b in network.named_buffers() if "running" in name]]:
            value += 0.2 * torch.rand_like(value)
    return network.eval()


def images(batch: int = 4, side: int = 32, seed: int = 3) -> Tensor:
    return torch.randn(batch, 1, side, side, generator=torch.Generator().manual_seed(seed))
