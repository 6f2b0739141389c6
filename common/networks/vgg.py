# SPDX-License-Identifier: Apache-2.0
"""VGG19."""

from __future__ import annotations

from timm.models import VGG
from torch import Tensor

from .feature_net import FeatureNet, LevelSpec
from .from_timm import from_timm


class VGG19(FeatureNet):
    """VGG19 (Simonyan and Zisserman 2015) for classification; 143,667,240 parameters at 3 channels and 1000 classes.

    It is timm's network `variant` with the same state-dict keys. Levels conv_1 .. conv_5 are the last maps before each
    max pooling (64, 128, 256, 512, 512 channels at strides 1, 2, 4, 8, 16), `pool_5` (512 at stride 32) is what the
    three fully connected layers read, averaged to 7 x 7: `decode` gives logits `(B, out_channels)`.
    `mlp_ratio` times 4096 is the width of the first of those layers, which holds most of the parameters. Any image of
    at least 32 pixels a side; `variant` "vgg19_bn" adds batch norm, without which training from scratch is slow.
    `pretrained` has timm fetch torchvision's ImageNet weights, otherwise nothing is downloaded.
    Raises ValueError if timm has no VGG of this name.
    """

    encoder_children = ("features",)

    def __init__(
        self,
        *,
        in_channels: int = 1,
        out_channels: int = 2,
        variant: str = "vgg19",
        mlp_ratio: float = 1.0,
        dropout: float = 0.5,
        pretrained: bool = False,
    ) -> None:
        super().__init__()
        options = {"in_chans": in_channels, "num_classes": out_channels, "mlp_ratio": mlp_ratio, "drop_rate": dropout}
        stock = from_timm(variant, VGG, options, pretrained=pretrained)
        self.features = stock.features
        self.pre_logits = stock.pre_logits
        self.head = stock.head
        self.taps = list(stock.feature_ends)
        names = [*(f"conv_{i + 1}" for i in range(len(self.taps) - 1)), f"pool_{len(self.taps) - 1}"]
        self.level_specs = tuple(
            LevelSpec(name, info["num_chs"], info["reduction"])
            for name, info in zip(names, stock.feature_info, strict=True)
        )
        self.spatial_dims = 2
        self.in_channels = in_channels
        self.spec = {
            "_target_": f"{__package__}.VGG19",
            "in_channels": in_channels,
            "out_channels": out_channels,
            "variant": variant,
            "mlp_ratio": mlp_ratio,
            "dropout": dropout,
        }
        self.stock = {"_target_": "timm.create_model", "model_name": variant, **options}

    def encode(self, image: Tensor) -> list[Tensor]:
        x = image
        levels: list[Tensor] = []
        for i, layer in enumerate(self.features):
            x = layer(x)
            if i in self.taps:
                levels.append(x)
        return levels

    def decode(self, levels: list[Tensor], image: Tensor) -> Tensor:
        return self.head(self.pre_logits(levels[-1]))
