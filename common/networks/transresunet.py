# SPDX-License-Identifier: Apache-2.0
"""TransResU-Net: ResNet-50 encoder, transformer and dilated convolutions at the bottleneck, residual decoder."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from monai.networks.layers import Conv, Norm, Pool
from monai.networks.nets.resnet import ResNetBottleneck
from torch import Tensor, nn

from .feature_net import FeatureNet, LevelSpec


class TransResUNet(FeatureNet):
    """TransResU-Net (Tomar et al. 2022, "TransResU-Net: Transformer based ResU-Net for real-time colonoscopy polyp
    segmentation"), in 2-D or 3-D; in 2-D 27,597,025 parameters at 3 input channels and 1 class.

    Levels s1, s2, s3, bridge have strides 2, 4, 8, 16 and, with width w = 64, w, 4w, 8w, 8w channels; the image itself
    is the decoder's last skip. `layers` are the residual blocks of the three stages and `width` the stem's channels:
    (3, 4, 6) and 64 are ResNet-50, whose torchvision weights (2-D) have the same keys (conv1, bn1, layer1 .. layer3).
    Any image of at least 16 pixels a side (32 in training): the decoder resizes to each skip's grid.
    Raises ValueError if `width` is no positive multiple of 2 or `layers` are not three.

    Decision: attention runs over the tokens of one image. The authors' code hands the map to the transformer in an
    order in which it attends over the images of the batch, so that a prediction depends on its batch mates and only
    256x256 images fit. The number of parameters is the same. As there, no positional encoding.
    """

    encoder_children = ("conv1", "bn1", "maxpool", "layer1", "layer2", "layer3", "attention", "dilated")

    def __init__(
        self,
        *,
        spatial_dims: int = 2,
        in_channels: int = 1,
        out_channels: int = 2,
        width: int = 64,
        layers: Sequence[int] = (3, 4, 6),
    ) -> None:
        super().__init__()
        if width < 2 or width % 2:
            raise ValueError(f"width: {width}; give a positive multiple of 2 (8 attention heads share 4 x width)")
        if len(layers) != 3:
            raise ValueError(f"layers: {list(layers)}; give the residual blocks of the three stages, e.g. [3, 4, 6]")
        w, dims = width, spatial_dims
        conv = Conv["conv", dims]
        self.conv1 = conv(in_channels, w, 7, stride=2, padding=3, bias=False)
        self.bn1 = Norm["batch", dims](w)
        self.maxpool = Pool["max", dims](3, stride=2, padding=1)
        self.layer1 = stage(dims, w, w, layers[0], stride=1)
        self.layer2 = stage(dims, 4 * w, 2 * w, layers[1], stride=2)
        self.layer3 = stage(dims, 8 * w, 4 * w, layers[2], stride=2)
        for module in self.modules():  # as torchvision initialises a ResNet
            if isinstance(module, conv):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        self.attention = TokenAttention(dims, 16 * w, 4 * w)
        self.dilated = DilatedConvs(dims, 16 * w, 4 * w)
        self.up_1 = UpBlock(dims, 8 * w, 8 * w, 4 * w)
        self.up_2 = UpBlock(dims, 4 * w, 4 * w, 2 * w)
        self.up_3 = UpBlock(dims, 2 * w, w, w)
        self.up_4 = UpBlock(dims, w, in_channels, w // 2)
        self.head = conv(w // 2, out_channels, 1)
        self.spatial_dims = spatial_dims
        self.in_channels = in_channels
        self.level_specs = (
            LevelSpec("s1", w, 2),
            LevelSpec("s2", 4 * w, 4),
            LevelSpec("s3", 8 * w, 8),
            LevelSpec("bridge", 8 * w, 16),
        )
        self.spec = {
            "_target_": f"{__package__}.TransResUNet",
            "spatial_dims": spatial_dims,
            "in_channels": in_channels,
            "out_channels": out_channels,
            "width": width,
            "layers": list(layers),
        }

    def encode(self, image: Tensor) -> list[Tensor]:
        s1 = F.relu(self.bn1(self.conv1(image)))
        s2 = self.layer1(self.maxpool(s1))
        s3 = self.layer2(s2)
        s4 = self.layer3(s3)
        return [s1, s2, s3, torch.cat([self.attention(s4), self.dilated(s4)], dim=1)]

    def decode(self, levels: list[Tensor], image: Tensor) -> Tensor:
        up = self.up_1(levels[3], levels[2])
        up = self.up_2(up, levels[1])
        up = self.up_3(up, levels[0])
        up = self.up_4(up, image)
        return self.head(up)


def stage(spatial_dims: int, in_channels: int, planes: int, blocks: int, *, stride: int) -> nn.Sequential:
    """A ResNet stage of bottleneck blocks, `in_channels` to `4 planes`, as `monai.networks.nets.ResNet` builds it."""
    width = 4 * planes
    conv, norm = Conv["conv", spatial_dims], Norm["batch", spatial_dims]
    shortcut = nn.Sequential(conv(in_channels, width, 1, stride=stride, bias=False), norm(width))
    first = ResNetBottleneck(in_channels, planes, spatial_dims, stride, shortcut)
    return nn.Sequential(first, *(ResNetBottleneck(width, planes, spatial_dims) for _ in range(blocks - 1)))


def conv_norm_relu(
    spatial_dims: int, in_channels: int, out_channels: int, kernel: int, *, dilation: int = 1
) -> nn.Sequential:
    """Convolution that keeps the grid, batch norm, ReLU."""
    padding = dilation * (kernel // 2)
    conv = Conv["conv", spatial_dims](in_channels, out_channels, kernel, padding=padding, dilation=dilation)
    return nn.Sequential(conv, Norm["batch", spatial_dims](out_channels), nn.ReLU(inplace=True))


class TokenAttention(nn.Module):
    """1x1 convolution, two transformer layers over the pixels of each image, 3x3 convolution; the grid is kept."""

    def __init__(self, spatial_dims: int, in_channels: int, channels: int) -> None:
        super().__init__()
        self.reduce = conv_norm_relu(spatial_dims, in_channels, channels, 1)
        self.transformer = nn.Sequential(
            *(nn.TransformerEncoderLayer(channels, 8, 8 * channels, batch_first=True) for _ in range(2))
        )
        self.smooth = conv_norm_relu(spatial_dims, channels, channels, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.reduce(x)
        # Contiguous: torch.compile's inductor mistakes the layers' inference kernel on a transposed map.
        tokens = self.transformer(x.flatten(2).transpose(1, 2).contiguous())
        return self.smooth(tokens.transpose(1, 2).reshape(x.shape))


class DilatedConvs(nn.Module):
    """Four parallel 3x3 convolutions of dilation 1, 3, 6, 9, concatenated and reduced by a 1x1 convolution."""

    def __init__(self, spatial_dims: int, in_channels: int, channels: int) -> None:
        super().__init__()
        self.branches = nn.ModuleList(
            conv_norm_relu(spatial_dims, in_channels, channels, 3, dilation=d) for d in (1, 3, 6, 9)
        )
        self.reduce = conv_norm_relu(spatial_dims, 4 * channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.reduce(torch.cat([branch(x) for branch in self.branches], dim=1))


class ResidualBlock(nn.Module):
    """ReLU of two 3x3 convolutions with batch norm plus a projected shortcut."""

    def __init__(self, spatial_dims: int, in_channels: int, channels: int) -> None:
        super().__init__()
        conv, norm = Conv["conv", spatial_dims], Norm["batch", spatial_dims]
        self.first = conv_norm_relu(spatial_dims, in_channels, channels, 3)
        self.second = nn.Sequential(conv(channels, channels, 3, padding=1), norm(channels))
        self.shortcut = nn.Sequential(conv(in_channels, channels, 1), norm(channels))

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.second(self.first(x)) + self.shortcut(x))


class UpBlock(nn.Module):
    """Linear upsampling to the skip's grid, concatenation, two residual blocks."""

    def __init__(self, spatial_dims: int, in_channels: int, skip_channels: int, channels: int) -> None:
        super().__init__()
        joined = in_channels + skip_channels
        self.blocks = nn.Sequential(
            ResidualBlock(spatial_dims, joined, channels), ResidualBlock(spatial_dims, channels, channels)
        )
        self.mode = "bilinear" if spatial_dims == 2 else "trilinear"

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        x = F.interpolate(x, size=skip.shape[2:], mode=self.mode, align_corners=True)
        return self.blocks(torch.cat([x, skip], dim=1))
