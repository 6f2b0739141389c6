# SPDX-License-Identifier: Apache-2.0
"""EfficientNet."""

from __future__ import annotations

from timm.models import EfficientNet as Stock
from torch import Tensor, nn

from .feature_net import FeatureNet, LevelSpec
from .from_timm import from_timm


class EfficientNet(FeatureNet):
    """EfficientNet (Tan and Le 2019) for classification; B0 has 4,009,534 parameters at 1 channel and 2 classes.

    It is timm's network `variant` with the same state-dict keys; its classifier starts as torch's do. Levels
    `blocks_<i>` are the outputs of timm's `blocks.<i>`: the last of every stride (B0: 16, 24, 40, 112, 320 channels at
    strides 2, 4, 8, 16, 32), and block 3 (80 channels at stride 16), which cross-architecture distillation (Figshare)
    compares. The last level, `head` (1280 channels at stride 32), is what is pooled and classified: `decode` gives
    logits `(B, out_channels)`. Any image of at least 32 pixels a side. `pretrained` has timm fetch ImageNet weights,
    otherwise nothing is downloaded. Raises ValueError if timm has no EfficientNet of this name.
    """

    encoder_children = ("conv_stem", "bn1", "blocks", "conv_head", "bn2")

    def __init__(
        self,
        *,
        in_channels: int = 1,
        out_channels: int = 2,
        variant: str = "efficientnet_b0",
        dropout: float = 0.2,
        pretrained: bool = False,
    ) -> None:
        super().__init__()
        options = {"in_chans": in_channels, "num_classes": out_channels, "drop_rate": dropout}
        stock = from_timm(variant, Stock, options, pretrained=pretrained)
        self.conv_stem = stock.conv_stem
        self.bn1 = stock.bn1
        self.blocks = stock.blocks
        self.conv_head = stock.conv_head
        self.bn2 = stock.bn2
        self.global_pool = stock.global_pool
        self.drop = nn.Dropout(dropout)
        # timm draws it from U(+-1/sqrt(out_channels)): with a few classes the first logits are in the tens, and
        # cross-entropy starts at 4 where it should start at log(classes).
        self.classifier = stock.classifier
        self.classifier.reset_parameters()
        ends = {info["stage"] - 1: info["reduction"] for info in stock.feature_info}
        self.taps = sorted({*ends, 3})
        specs = [
            LevelSpec(f"blocks_{i}", last_norm(self.blocks[i]).num_features, min(ends[e] for e in ends if e >= i))
            for i in self.taps
        ]
        self.level_specs = (*specs, LevelSpec("head", stock.num_features, specs[-1].stride))
        self.spatial_dims = 2
        self.in_channels = in_channels
        self.spec = {
            "_target_": f"{__package__}.EfficientNet",
            "in_channels": in_channels,
            "out_channels": out_channels,
            "variant": variant,
            "dropout": dropout,
        }
        self.stock = {"_target_": "timm.create_model", "model_name": variant, **options}

    def encode(self, image: Tensor) -> list[Tensor]:
        x = self.bn1(self.conv_stem(image))
        levels: list[Tensor] = []
        for i, block in enumerate(self.blocks):
            x = block(x)
            if i in self.taps:
                levels.append(x)
        levels.append(self.bn2(self.conv_head(x)))
        return levels

    def decode(self, levels: list[Tensor], image: Tensor) -> Tensor:
        return self.classifier(self.drop(self.global_pool(levels[-1])))


def last_norm(block: nn.Module) -> nn.BatchNorm2d:
    """The batch norm that a block of EfficientNet ends with, whatever its kind."""
    return [module for module in block.modules() if isinstance(module, nn.BatchNorm2d)][-1]
