# SPDX-License-Identifier: Apache-2.0
"""The block that refines what several classification teachers see (stage 2)."""

from __future__ import annotations

import torch.nn.functional as F
from monai.networks.blocks import MLPBlock
from torch import Tensor, nn


class FusionAttention(nn.Module):
    """Self-attention over the pixels of one image's map, then an MLP, both residual (stage 2, section 3.2).

    `x = P t + W softmax(q(n) k(n)^T / sqrt(d)) v(n)` with `n = norm(t)` and several heads, `y = x + mlp(norm(x))`,
    where `t` are the map's pixels and `P` is a linear projection (a 1x1 convolution) where the widths differ, else the
    identity. `forward`: `(B, in_channels, h, w) -> (B, channels, h, w)`. `dropout` acts on the attention's output, in
    the MLP and on its output, `attention_dropout` on the attention's weights. Raises ValueError for a width that the
    heads do not divide, and for dropouts outside of [0, 1).

    Decision: multi-dataset cross-domain distillation names the block and never defines it; this is a pre-norm
    transformer block (Dosovitskiy et al. 2021), whose queries, keys and values read the wider input where it reduces
    the width. No position is added: the maps of convolutional teachers carry it.
    """

    def __init__(
        self,
        in_channels: int,
        channels: int,
        *,
        heads: int = 8,
        mlp_ratio: int = 4,
        dropout: float = 0.0,
        attention_dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if heads < 1 or channels < 1 or channels % heads:
            raise ValueError(f"heads: {heads} do not divide {channels} channels; choose heads that do")
        if not (0 <= dropout < 1 and 0 <= attention_dropout < 1):
            raise ValueError(
                f"dropout: {dropout}, attention_dropout: {attention_dropout}; give numbers from 0 to below 1"
            )
        self.heads = heads
        self.attention_dropout = attention_dropout
        self.project = nn.Linear(in_channels, channels) if in_channels != channels else nn.Identity()
        self.norm_attention = nn.LayerNorm(in_channels)
        self.query_key_value = nn.Linear(in_channels, 3 * channels)
        self.attended = nn.Linear(channels, channels)
        self.drop = nn.Dropout(dropout)
        self.norm_mlp = nn.LayerNorm(channels)
        self.mlp = MLPBlock(channels, mlp_ratio * channels, dropout)

    def forward(self, level: Tensor) -> Tensor:
        tokens = level.flatten(2).transpose(1, 2)
        q, k, v = self.query_key_value(self.norm_attention(tokens)).chunk(3, dim=-1)
        share = self.attention_dropout if self.training else 0.0
        heads = F.scaled_dot_product_attention(self.split(q), self.split(k), self.split(v), dropout_p=share)
        x = self.project(tokens) + self.drop(self.attended(heads.transpose(1, 2).flatten(2)))
        x = x + self.mlp(self.norm_mlp(x))
        return x.transpose(1, 2).unflatten(2, level.shape[2:])

    def split(self, tokens: Tensor) -> Tensor:
        """Tokens of each head: `(B, N, channels) -> (B, heads, N, channels / heads)`."""
        return tokens.unflatten(2, (self.heads, -1)).transpose(1, 2)
