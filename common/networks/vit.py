# SPDX-License-Identifier: Apache-2.0
"""Vision transformer."""

from __future__ import annotations

import torch
from timm.models import VisionTransformer
from torch import Tensor, nn

from .feature_net import FeatureNet, LevelSpec
from .from_timm import from_timm


class ViT(FeatureNet):
    """Vision transformer (Dosovitskiy et al. 2021) for classification of images of `image_size` pixels a side.

    It is timm's network `variant` with the same state-dict keys; ViT-B/16 at 224 pixels, 3 channels and 1000 classes
    has 86,567,656 parameters. Levels `block_<n>` are the patch tokens after a quarter, a half and three quarters of the
    n blocks, as maps (768 channels at stride 16). The last level, `class_token`, is the normalised class token as a map
    of one pixel (its stride is the image's side), which alone is classified: `decode` gives logits `(B, out_channels)`.
    `pretrained` has timm fetch its ImageNet weights, otherwise nothing is downloaded.
    Raises ValueError if timm has no such network with a class token, or for a side that patches do not divide.

    Decision: the patch tokens after the last block are no level, because the logits do not depend on them.
    """

    encoder_children = ("cls_token", "pos_embed", "patch_embed", "pos_drop", "blocks", "norm")

    def __init__(
        self,
        *,
        in_channels: int = 1,
        out_channels: int = 2,
        image_size: int = 224,
        variant: str = "vit_base_patch16_224",
        dropout: float = 0.0,
        attention_dropout: float = 0.0,
        pretrained: bool = False,
    ) -> None:
        super().__init__()
        options = {
            "in_chans": in_channels,
            "num_classes": out_channels,
            "img_size": image_size,
            "dynamic_img_size": False,
            "drop_rate": dropout,
            "attn_drop_rate": attention_dropout,
        }
        stock = from_timm(variant, VisionTransformer, options, pretrained=pretrained)
        if stock.global_pool != "token" or stock.num_prefix_tokens != 1 or not isinstance(stock.norm_pre, nn.Identity):
            raise ValueError(f"variant: {variant!r} does not classify a class token alone; give vit_base_patch16_224")
        patch = stock.patch_embed.patch_size[0]
        if image_size % patch:
            raise ValueError(f"image_size: {image_size}; give a multiple of {patch}, the patches of {variant}")
        self.cls_token = stock.cls_token
        self.pos_embed = stock.pos_embed
        self.patch_embed = stock.patch_embed
        self.pos_drop = stock.pos_drop
        self.blocks = stock.blocks
        self.norm = stock.norm
        self.head_drop = stock.head_drop
        self.head = stock.head
        self.grid = image_size // patch
        self.taps = [len(stock.blocks) * quarter // 4 - 1 for quarter in (1, 2, 3)]
        self.level_specs = (
            *(LevelSpec(f"block_{i + 1}", stock.embed_dim, patch) for i in self.taps),
            LevelSpec("class_token", stock.embed_dim, image_size),
        )
        self.spatial_dims = 2
        self.in_channels = in_channels
        self.spec = {
            "_target_": f"{__package__}.ViT",
            "in_channels": in_channels,
            "out_channels": out_channels,
            "image_size": image_size,
            "variant": variant,
            "dropout": dropout,
            "attention_dropout": attention_dropout,
        }
        self.stock = {"_target_": "timm.create_model", "model_name": variant, **options}

    def encode(self, image: Tensor) -> list[Tensor]:
        x = torch.cat([self.cls_token.expand(image.shape[0], -1, -1), self.patch_embed(image)], dim=1)
        x = self.pos_drop(x + self.pos_embed)
        levels: list[Tensor] = []
        for i, block in enumerate(self.blocks):
            x = block(x)
            if i in self.taps:
                levels.append(x[:, 1:].transpose(1, 2).unflatten(2, [self.grid, self.grid]))
        levels.append(self.norm(x[:, 0])[:, :, None, None])
        return levels

    def decode(self, levels: list[Tensor], image: Tensor) -> Tensor:
        return self.head(self.head_drop(levels[-1].flatten(2).mean(-1)))

    def decoder_only(self) -> FeatureNet:
        del self.cls_token, self.pos_embed  # parameters of the encoder that no child holds
        return super().decoder_only()
