# SPDX-License-Identifier: Apache-2.0
"""UNet."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from monai.networks.nets import BasicUNet
from torch import Tensor

from .feature_net import FeatureNet, LevelSpec


class UNet(FeatureNet, BasicUNet):
    """The textbook UNet (Ronneberger et al. 2015; with batch norm), in 2-D or 3-D.

    It is `monai.networks.nets.BasicUNet(act=("relu", {"inplace": True}), norm="batch")` with the same state-dict keys,
    so that its weights run there without this code. Levels conv_0, down_1 .. down_4 have strides 1, 2, 4, 8, 16.
    `features`: channels of the five levels, then of the last decoder block; (64, ..., 1024, 64) is the paper's
    teacher, (32, 64, 128, 256, 512, 32) its student. Any image of at least 16 pixels a side (32 in training) will do:
    odd levels are padded on the way up. `norm` is MONAI's, "batch" or e.g. "instance", which does not mix the images of
    a batch (nor, then, does it depend on how ranks share it). Raises ValueError for another number of features.
    """

    encoder_children = ("conv_0", "down_1", "down_2", "down_3", "down_4")

    def __init__(
        self,
        *,
        spatial_dims: int = 2,
        in_channels: int = 1,
        out_channels: int = 2,
        features: Sequence[int] = (64, 128, 256, 512, 1024, 64),
        norm: str = "batch",
    ) -> None:
        if len(features) != 6:
            raise ValueError(f"features: {list(features)}; give six numbers, five levels and the last decoder block")
        super().__init__(
            spatial_dims=spatial_dims,
            in_channels=in_channels,
            out_channels=out_channels,
            features=features,
            act=("relu", {"inplace": True}),
            norm=norm,
        )
        self.spatial_dims = spatial_dims
        self.in_channels = in_channels
        self.level_specs = tuple(LevelSpec(name, features[i], 2**i) for i, name in enumerate(self.encoder_children))
        self.spec = {
            "_target_": f"{__package__}.UNet",
            "spatial_dims": spatial_dims,
            "in_channels": in_channels,
            "out_channels": out_channels,
            "features": list(features),
        } | ({} if norm == "batch" else {"norm": norm})
        self.stock = {
            "_target_": "monai.networks.nets.BasicUNet",
            "spatial_dims": spatial_dims,
            "in_channels": in_channels,
            "out_channels": out_channels,
            "features": list(features),
            "act": "relu",
            "norm": norm,
        }

    def encode(self, image: Tensor) -> list[Tensor]:
        x0 = self.conv_0(image)
        x1 = self.down_1(x0)
        x2 = self.down_2(x1)
        x3 = self.down_3(x2)
        return [x0, x1, x2, x3, self.down_4(x3)]

    def decode(self, levels: list[Tensor], image: Tensor) -> Tensor:
        # The stock blocks' own forward has a call that torch.compile cannot trace; these are its steps.
        up = self.upcat_4.convs(join(levels[3], self.upcat_4.upsample(levels[4])))
        up = self.upcat_3.convs(join(levels[2], self.upcat_3.upsample(up)))
        up = self.upcat_2.convs(join(levels[1], self.upcat_2.upsample(up)))
        up = self.upcat_1.convs(join(levels[0], self.upcat_1.upsample(up)))
        return self.final_conv(up)


def join(skip: Tensor, up: Tensor) -> Tensor:
    """Concatenation along channels; an upsampled map one pixel short (odd grids) repeats its last row."""
    pad: list[int] = []
    for i in range(1, skip.dim() - 1):
        pad += [0, skip.shape[-i] - up.shape[-i]]
    if max(pad) > 0:
        up = F.pad(up, pad, mode="replicate")
    return torch.cat([skip, up], dim=1)
