# SPDX-License-Identifier: Apache-2.0
"""Joint classification teacher (stage 2): frozen encoders, a chain of fusion-attention blocks, a new classifier."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .feature_net import FeatureNet, LevelSpec
from .fusion_attention import FusionAttention
from .joint_teacher import frozen_encoders


class JointClassifier(FeatureNet):
    """A FeatureNet whose levels are what `fa_blocks` FusionAttention blocks make of several teachers' bottlenecks.

    Stage 2 of multi-dataset cross-domain distillation for classification, section 3.2: a 1x1 convolution (adapter)
    per teacher brings its bottleneck to `joint_ch` channels; their concatenation passes a chain of blocks, the first
    of which reduces it to `joint_ch`; a new linear classifier reads the pooled output of the last. `teachers[0]` is
    the target teacher (in joint_wide the one that validates best); architectures may differ, grids too: on its grid
    coarser maps are interpolated linearly, finer ones averaged. The encoders are copies, frozen: no gradient, eval
    mode even under `train()`. Levels fa_1 .. fa_n are `(B, joint_ch, h, w)` on the first teacher's bottleneck grid;
    the output is `(B, out_channels)` logits. `dropout` also acts before the classifier. Tables 9 and 12 give
    `joint_ch`, `fa_blocks` and the dropouts a dataset.

    `target_head` (ours) adds the logits that a head of the first teacher's architecture gives on its levels, so that
    what is fused needs to learn only what that teacher lacks; those levels, named target_*, then come before the
    blocks'. `warm_start` (ours) is `target_head` with that teacher's own trained head (a copy that goes on training)
    and a classifier that starts at zero: until the first step the output in eval mode is exactly that teacher's.
    Raises ValueError for fewer than two teachers, teachers of other input channels or of 3-D images, `fa_blocks` below
    1, options the blocks refuse, or a head that does not fit `out_channels`.
    """

    encoder_children = ("teachers", "adapters", "blocks")

    def __init__(
        self,
        teachers: Sequence[FeatureNet],
        out_channels: int,
        *,
        joint_ch: int = 256,
        fa_blocks: int = 3,
        heads: int = 8,
        dropout: float = 0.0,
        attention_dropout: float = 0.0,
        target_head: bool = False,
        warm_start: bool = False,
    ) -> None:
        super().__init__()
        if fa_blocks < 1:
            raise ValueError(f"fa_blocks: {fa_blocks}; give at least 1")
        self.teachers = frozen_encoders(teachers)
        target = teachers[0]
        if target.spatial_dims != 2:
            raise ValueError(f"teachers[0] reads {target.spatial_dims}-D images; a joint classifier fuses 2-D maps")
        self.target_head = target_head or warm_start
        self.spatial_dims = 2
        self.in_channels = target.in_channels
        stride = target.level_specs[-1].stride
        own = [spec._replace(name=f"target_{spec.name}") for spec in target.level_specs]
        fused = [LevelSpec(f"fa_{i}", joint_ch, stride) for i in range(1, fa_blocks + 1)]
        self.level_specs = (*(own if self.target_head else []), *fused)
        self.n_target = len(own)
        self.spec = {
            "_target_": f"{__package__}.JointClassifier",
            "teachers": [teacher.spec for teacher in teachers],
            "out_channels": out_channels,
            "joint_ch": joint_ch,
            "fa_blocks": fa_blocks,
            "heads": heads,
            "dropout": dropout,
            "attention_dropout": attention_dropout,
        } | ({"target_head": True} if self.target_head else {})
        self.adapters = nn.ModuleList(nn.Conv2d(teacher.level_specs[-1].channels, joint_ch, 1) for teacher in teachers)
        widths = [joint_ch * len(teachers), *[joint_ch] * (fa_blocks - 1)]
        self.blocks = nn.ModuleList(
            FusionAttention(width, joint_ch, heads=heads, dropout=dropout, attention_dropout=attention_dropout)
            for width in widths
        )
        self.classifier = nn.Sequential(nn.Dropout(dropout), nn.Linear(joint_ch, out_channels))
        # A list, because TorchScript has no optional child.
        self.target_heads = nn.ModuleList(
            [target.with_outputs(out_channels).decoder_only()] if self.target_head else []
        )
        if warm_start:
            self._warm_start(target, out_channels)

    def _warm_start(self, target: FeatureNet, out_channels: int) -> None:
        try:
            self.target_heads[0].load_state_dict(target.decoder_state())
        except RuntimeError as error:
            raise ValueError(
                f"warm_start: the first teacher's head does not fit one of {out_channels} classes "
                f"({str(error).splitlines()[-1].strip()}); set warm_start: false"
            ) from error
        for parameter in self.classifier.parameters():
            nn.init.zeros_(parameter)

    def train(self, mode: bool = True) -> JointClassifier:
        super().train(mode)
        if "teachers" in self._modules:  # not after decoder_only
            self.teachers.eval()
        return self

    def encode(self, image: Tensor) -> list[Tensor]:
        maps: list[list[Tensor]] = []
        with torch.no_grad():
            for teacher in self.teachers:
                maps.append(teacher.encode(image))  # type: ignore[operator]
        adapted: list[Tensor] = []
        for k, adapter in enumerate(self.adapters):
            adapted.append(to_grid(adapter(maps[k][-1]), maps[0][-1]))
        levels: list[Tensor] = []
        if self.target_head:
            levels.extend(maps[0])
        x = torch.cat(adapted, dim=1)
        for block in self.blocks:
            x = block(x)
            levels.append(x)
        return levels

    def decode(self, levels: list[Tensor], image: Tensor) -> Tensor:
        logits = self.classifier(levels[-1].flatten(2).mean(-1))
        for head in self.target_heads:
            logits = logits + head.decode(levels[: self.n_target], image)  # type: ignore[operator]
        return logits


def to_grid(x: Tensor, like: Tensor) -> Tensor:
    """The map on another's grid; averaged where it shrinks, as interpolating to one pixel reads the middle only."""
    height, width = like.shape[2], like.shape[3]
    if x.shape[2] > height or x.shape[3] > width:
        return F.adaptive_avg_pool2d(x, (height, width))
    if x.shape[2] < height or x.shape[3] < width:
        return F.interpolate(x, size=(height, width), mode="bilinear", align_corners=False)
    return x
