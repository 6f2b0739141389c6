# SPDX-License-Identifier: Apache-2.0
"""MedViT: Next-ViT with locally connected feed-forward blocks."""

from __future__ import annotations

from typing import Any

import timm
import torch
from timm.models.nextvit import NextConvBlock, NextTransformerBlock
from torch import Tensor, nn

from .feature_net import FeatureNet, LevelSpec

# Blocks of the four stages, as published; "tiny" is ours, for tests.
DEPTHS = {"tiny": (1, 1, 5, 1), "small": (3, 4, 10, 3), "base": (3, 4, 20, 3), "large": (3, 4, 30, 3)}


class MedViT(FeatureNet):
    """MedViT (Manzari et al. 2023) for classification: timm's Next-ViT with the feed-forward of every block an LFFN.

    Without its classifier 31,136,440 ("small"), 44,405,972 ("base") or 57,675,504 ("large") parameters at 3 channels.
    Levels stages_0 .. stages_3 have 96, 256, 512, 1024 channels at strides 4, 8, 16, 32; the last one, after the final
    norm, is what is pooled and classified: `decode` gives logits `(B, out_channels)`. Any image of at least 32 pixels a
    side. `patch_momentum` is the probability with which an image in training goes on from stage 1 with the moments of
    another, see `exchange_moments`; levels are taken before. `pretrained` has timm fetch Next-ViT's ImageNet weights
    (the LFFNs stay freshly initialised), otherwise nothing is downloaded.
    Raises ValueError for an unknown variant, a probability outside [0, 1], or pretrained weights of "tiny".

    Decision: the patch momentum changer is off unless asked for. The authors' public code has none; they say that it
    belongs to a variant of their ablation.
    """

    encoder_children = ("stem", "stages", "norm")

    def __init__(
        self,
        *,
        in_channels: int = 1,
        out_channels: int = 2,
        variant: str = "small",
        dropout: float = 0.0,
        attention_dropout: float = 0.0,
        drop_path: float = 0.1,
        patch_momentum: float = 0.0,
        pretrained: bool = False,
    ) -> None:
        super().__init__()
        if variant not in DEPTHS or (pretrained and variant == "tiny"):
            raise ValueError(
                f"variant: {variant!r}; give small, base or large (tiny is for tests: no pretrained weights)"
            )
        if not 0 <= patch_momentum <= 1:
            raise ValueError(f"patch_momentum: {patch_momentum}; give a probability, 0 turns it off")
        stock: Any = timm.create_model(
            "nextvit_small" if variant == "tiny" else f"nextvit_{variant}",
            pretrained=pretrained,
            depths=DEPTHS[variant],
            in_chans=in_channels,
            num_classes=out_channels,
            drop_rate=dropout,
            attn_drop_rate=attention_dropout,
            drop_path_rate=drop_path,
        )
        swapped = swap_feed_forward(stock)
        if swapped != sum(DEPTHS[variant]):
            blocks = sum(DEPTHS[variant])
            raise ValueError(f"{swapped} of {blocks} blocks found in timm {timm.__version__}: use timm 1.0.31")
        self.stem = stock.stem
        self.stages = stock.stages
        self.norm = stock.norm
        self.head = stock.head
        self.patch_momentum = patch_momentum
        self.spatial_dims = 2
        self.in_channels = in_channels
        self.level_specs = tuple(
            LevelSpec(f"stages_{i}", info["num_chs"], info["reduction"]) for i, info in enumerate(stock.feature_info)
        )
        self.spec = {
            "_target_": f"{__package__}.MedViT",
            "in_channels": in_channels,
            "out_channels": out_channels,
            "variant": variant,
            "dropout": dropout,
            "attention_dropout": attention_dropout,
            "drop_path": drop_path,
            "patch_momentum": patch_momentum,
        }

    def encode(self, image: Tensor) -> list[Tensor]:
        x = self.stem(image)
        levels: list[Tensor] = []
        for i, stage in enumerate(self.stages):
            x = stage(x)
            levels.append(x)
            if i == 0 and self.training and self.patch_momentum > 0:
                x = exchange_moments(x, self.patch_momentum)
        levels[-1] = self.norm(x)
        return levels

    def decode(self, levels: list[Tensor], image: Tensor) -> Tensor:
        return self.head(levels[-1])


class LFFN(nn.Module):
    """Locally connected feed-forward: `y = x + body(x)`, on maps `(B, C, h, w)`.

    `body`: 1x1 convolution to rC channels, 3x3 depthwise convolution, squeeze and excitation, 1x1 convolution back to
    C; batch norm after each convolution, hard swish after the first two. The squeeze has r hidden units only: the
    authors' code divides rC by C, and their counts and weights need it.
    """

    def __init__(self, channels: int, ratio: int) -> None:
        super().__init__()
        hidden = ratio * channels
        self.body = nn.Sequential(
            nn.Conv2d(channels, hidden, 1, bias=False),
            nn.BatchNorm2d(hidden),
            nn.Hardswish(),
            nn.Conv2d(hidden, hidden, 3, padding=1, groups=hidden, bias=False),
            nn.BatchNorm2d(hidden),
            nn.Hardswish(),
            SqueezeExcitation(hidden, ratio),
            nn.Conv2d(hidden, channels, 1, bias=False),
            nn.BatchNorm2d(channels),
        )
        for module in self.modules():  # as Next-ViT initialises its blocks
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
            if isinstance(module, nn.Linear):
                nn.init.zeros_(module.bias)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)


class SqueezeExcitation(nn.Module):
    """Channels `(B, C, h, w)` scaled by the hard sigmoid of two linear layers on their means, `hidden` between."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(channels, hidden), nn.ReLU(inplace=True), nn.Linear(hidden, channels), nn.Hardsigmoid()
        )

    def forward(self, x: Tensor) -> Tensor:
        return x * self.layers(x.mean((2, 3)))[:, :, None, None]


def swap_feed_forward(network: nn.Module) -> int:
    """Replace the feed-forward of every block of a Next-ViT by an LFFN; the number of blocks.

    The blocks add its output to their own, unnormalised input once more, as in the authors' code; their drop path for
    this branch goes, the authors have none.
    """
    blocks: list[Any] = [m for m in network.modules() if isinstance(m, NextConvBlock | NextTransformerBlock)]
    for block in blocks:
        block.mlp = LFFN(block.out_chs, 3 if isinstance(block, NextConvBlock) else 2)
        block.mlp_drop_path = nn.Identity()
    return len(blocks)


def exchange_moments(x: Tensor, probability: float) -> Tensor:
    """Maps `(B, C, h, w)` where an image, with `probability`, has the patch moments of another one of the batch.

    `x_i -> std_j (x_i - mean_i) / std_i + mean_j`, mean and deviation over the channels of each pixel, j a random
    permutation: the patch momentum changer (Manzari et al. 2023), after moment exchange (Li et al. 2021).
    Decision: the image keeps its label; moment exchange gives the other's a weight of 0.1, but a network sees no
    labels.
    """
    mean = x.mean(1, keepdim=True)
    deviation = (x.var(1, keepdim=True, unbiased=False) + 1e-5).sqrt()
    other = torch.randperm(x.shape[0], device=x.device)
    exchanged = deviation[other] * (x - mean) / deviation + mean[other]
    return torch.where(torch.rand(x.shape[0], 1, 1, 1, device=x.device) < probability, exchanged, x)
