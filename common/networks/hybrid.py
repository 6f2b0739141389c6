# SPDX-License-Identifier: Apache-2.0
"""Hybrid: several classification networks side by side."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from .feature_net import FeatureNet, LevelSpec


class Hybrid(FeatureNet):
    """Classification networks side by side, their logits concatenated and classified by a linear layer.

    `logits = W [f_1(x), f_2(x), ...] + b` (cross-architecture distillation, section 3.1: VGG19 + ViT, 2 x VGG19, 2 x
    ViT; there each branch has as many outputs as there are classes). Branches are copied with their weights.
    Levels are those of `branches[0]`, the last one excepted: `fused` is the branches' bottlenecks side by side, which
    `decode` takes apart again. A bottleneck of one pixel (a class token) is repeated over the grid of the others.
    Raises ValueError for fewer than two branches, branches of other dimensions or input channels, or bottlenecks whose
    strides differ without being of one pixel.
    """

    encoder_children = ("encoders",)

    def __init__(self, branches: Sequence[FeatureNet], out_channels: int) -> None:
        super().__init__()
        if len(branches) < 2:
            raise ValueError(f"branches: {len(branches)}; give at least two networks")
        first, *others = branches
        for k, branch in enumerate(others, start=1):
            if (branch.spatial_dims, branch.in_channels) != (first.spatial_dims, first.in_channels):
                raise ValueError(
                    f"branches[{k}] reads {branch.spatial_dims}-D images of {branch.in_channels} channels, the first "
                    f"{first.spatial_dims}-D images of {first.in_channels}: all see the same image"
                )
        deepest = [branch.level_specs[-1] for branch in branches]
        stride = min(spec.stride for spec in deepest)
        self.repeated = [spec.stride != stride for spec in deepest]
        for k, spec in enumerate(deepest):
            if self.repeated[k] and spec.name != "class_token":
                raise ValueError(
                    f"branches[{k}] has a bottleneck of stride {spec.stride}, another of {stride}: no common grid"
                )
        self.finest = self.repeated.index(False)
        self.widths = [spec.channels for spec in deepest]
        self.spatial_dims = first.spatial_dims
        self.in_channels = first.in_channels
        self.level_specs = (*first.level_specs[:-1], LevelSpec("fused", sum(self.widths), stride))
        self.spec = {
            "_target_": f"{__package__}.Hybrid",
            "branches": [branch.spec for branch in branches],
            "out_channels": out_channels,
        }
        self.encoders = nn.ModuleList(copy.deepcopy(branch).encoder_only() for branch in branches)
        self.decoders = nn.ModuleList(copy.deepcopy(branch).decoder_only() for branch in branches)
        self.classifier = nn.Linear(sum(branch.spec["out_channels"] for branch in branches), out_channels)

    def encode(self, image: Tensor) -> list[Tensor]:
        maps: list[list[Tensor]] = []
        for encoder in self.encoders:
            maps.append(encoder.encode(image))  # type: ignore[operator]
        deepest = [levels[-1] for levels in maps]
        grid = deepest[self.finest].shape
        for k, repeated in enumerate(self.repeated):
            if repeated:
                deepest[k] = deepest[k].expand(-1, -1, grid[2], grid[3])
        return maps[0][:-1] + [torch.cat(deepest, dim=1)]  # noqa: RUF005  (TorchScript has no starred lists)

    def decode(self, levels: list[Tensor], image: Tensor) -> Tensor:
        deepest = levels[-1].split(self.widths, dim=1)
        logits: list[Tensor] = []
        for k, decoder in enumerate(self.decoders):
            part = deepest[k]
            if self.repeated[k]:
                part = part.mean((2, 3), keepdim=True)
            logits.append(decoder.decode([part], image))  # type: ignore[operator]
        return self.classifier(torch.cat(logits, dim=1))

    def with_outputs(self, out_channels: int) -> FeatureNet:
        """A new hybrid, freshly initialised, with another number of outputs; so have its branches."""
        return Hybrid([encoder.with_outputs(out_channels) for encoder in self.encoders], out_channels)  # type: ignore[operator]
