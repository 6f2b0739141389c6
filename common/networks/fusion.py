# SPDX-License-Identifier: Apache-2.0
"""Fusion of one level of several teachers (stage 2)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from monai.networks.layers import Conv, Norm
from torch import Tensor, nn

MIN_HEAD_WIDTH = 8  # channels
FAST_HEAD_WIDTH = 16  # attention on a CPU takes half as long again for heads of 8 as for the same heads padded to 16


class CrossAttentionFusion(nn.Module):
    """The target teacher's map attends to each source teacher's; both are joined and refined (stage 2, section 3.2).

    `x = W [t ; a_1 ; ... ; a_n]` (1x1 convolution of the concatenation), `y = x + body(x)` (two 3x3 convolutions with
    batch norm, or another `norm` of MONAI's), `a_k = softmax(q(t) k(s_k)^T / sqrt(d)) v(s_k)` with several heads over
    the tokens of one image.
    `forward(target, sources)`: target `(B, channels, *grid)`, source k `(B, source_channels[k], *its own grid)`;
    returns the target's shape. There are at most `heads` heads, fewer where they would be under 8 channels wide (slow,
    and too narrow to compare anything); `channels` need not be their multiple, the attention's width is rounded up.
    Raises ValueError without sources or for sizes below 1.

    Decision: queries, keys and values are means over cells, at most `tokens` cells a side (half of it in 3-D: 16x16,
    8x8x8), and the attended map is brought back to the grid linearly, so that the cost is linear in pixels: attention
    adds context, detail stays with the target's map. Queries at every pixel cost more than the whole student's step.
    A linear resize and a 1x1 convolution commute, so the sources' part of W runs on the small grid, and the
    concatenation is never built.
    Decision: at initialisation y = t: W is the identity on t and 0 on the sources, and the last norm's weight is 0
    (as in ControlNet, Zhang et al. 2023), so a decoder warm-started from the target teacher starts as good as it.
    """

    def __init__(
        self,
        spatial_dims: int,
        channels: int,
        source_channels: Sequence[int],
        *,
        heads: int = 4,
        tokens: int = 16,
        norm: str = "batch",
    ) -> None:
        super().__init__()
        if not source_channels:
            raise ValueError("source_channels: empty list; fusion needs at least one source")
        cells = tokens if spatial_dims == 2 else tokens // 2
        if heads < 1 or cells < 1:
            raise ValueError(f"heads: {heads}, tokens: {tokens}; give at least 1 head and 1 token a side (2 in 3-D)")
        heads = min(heads, max(1, channels // MIN_HEAD_WIDTH))
        width = heads * -(-channels // heads)
        self.cells = cells
        self.mode = "bilinear" if spatial_dims == 2 else "trilinear"
        self.attentions = nn.ModuleList(CrossAttention(channels, s, width, heads=heads) for s in source_channels)
        conv = Conv["conv", spatial_dims]
        self.join_target = conv(channels, channels, 1)
        self.join_sources = conv(width * len(source_channels), channels, 1, bias=False)
        first_norm, last_norm = (Norm[norm, spatial_dims](channels, affine=True) for _ in range(2))
        self.body = nn.Sequential(
            conv(channels, channels, 3, padding=1, bias=False),
            first_norm,
            nn.ReLU(inplace=True),
            conv(channels, channels, 3, padding=1, bias=False),
            last_norm,
        )
        nn.init.dirac_(self.join_target.weight)
        nn.init.zeros_(self.join_target.bias)
        nn.init.zeros_(self.join_sources.weight)
        nn.init.zeros_(last_norm.weight)

    def forward(self, target: Tensor, sources: list[Tensor]) -> Tensor:
        query = pool_to(target, self.cells)
        attended = []
        for i, attention in enumerate(self.attentions):
            attended.append(attention(query, pool_to(sources[i], self.cells)))
        context = self.join_sources(torch.cat(attended, dim=1))
        if context.shape != target.shape:
            context = F.interpolate(context, size=target.shape[2:], mode=self.mode, align_corners=False)
        # In place: neither a convolution's nor a batch norm's output is needed by its backward pass.
        x = self.join_target(target).add_(context)
        return self.body(x).add_(x)


class CrossAttention(nn.Module):
    """Every pixel of `query` `(B, C, *grid)` attends to those of `source` `(B, C', *grid')`: `(B, width, *grid)`."""

    def __init__(self, channels: int, source_channels: int, width: int, *, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.head_width = width // heads
        self.padding = max(0, FAST_HEAD_WIDTH - self.head_width)
        self.query = nn.Linear(channels, width)
        self.key_value = nn.Linear(source_channels, 2 * width)

    def forward(self, query: Tensor, source: Tensor) -> Tensor:
        q = self.split(self.query(query.flatten(2).transpose(1, 2)))
        k, v = self.key_value(source.flatten(2).transpose(1, 2)).chunk(2, dim=-1)
        attended = F.scaled_dot_product_attention(q, self.split(k), self.split(v), scale=self.head_width**-0.5)
        attended = attended[..., : self.head_width]
        return attended.transpose(2, 3).flatten(1, 2).unflatten(2, query.shape[2:])

    def split(self, tokens: Tensor) -> Tensor:
        """Tokens of each head: `(B, N, width) -> (B, heads, N, head_width)`, narrow heads padded with zeros."""
        heads = tokens.unflatten(2, (self.heads, -1)).transpose(1, 2)
        return F.pad(heads, (0, self.padding)) if self.padding else heads


def pool_to(x: Tensor, cells: int) -> Tensor:
    """Mean over equal cells, the fewest pixels each that leave at most `cells` a side (the last may be smaller).

    Adaptive pooling without its uneven, overlapping cells, which ONNX does not have.
    """
    size = [-(-side // cells) for side in x.shape[2:]]
    if max(size) == 1:
        return x
    if x.dim() == 4:
        return F.avg_pool2d(x, size, ceil_mode=True, count_include_pad=False)
    return F.avg_pool3d(x, size, ceil_mode=True, count_include_pad=False)
