# SPDX-License-Identifier: Apache-2.0
import itertools
import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from common.networks import CrossAttentionFusion
from common.networks.fusion import CrossAttention, pool_to


def slow_attention(module: CrossAttention, query: Tensor, source: Tensor) -> Tensor:
    """Softmax attention, one image, head and query pixel at a time, with the projections written out."""
    width = module.query.out_features
    size = width // module.heads
    batch, grid = len(query), query.shape[2:]
    wk, wv = module.key_value.weight.split(width)
    bk, bv = module.key_value.bias.split(width)
    output = torch.zeros(batch, width, *grid, dtype=query.dtype)
    for b in range(batch):
        tokens = [source[b][(slice(None), *at)] for at in itertools.product(*map(range, source.shape[2:]))]
        for head in range(module.heads):
            rows = slice(head * size, (head + 1) * size)
            keys = [wk[rows] @ token + bk[rows] for token in tokens]
            values = [wv[rows] @ token + bv[rows] for token in tokens]
            for at in itertools.product(*map(range, grid)):
                q = module.query.weight[rows] @ query[b][(slice(None), *at)] + module.query.bias[rows]
                scores = [math.exp(float(q @ key) / math.sqrt(size)) for key in keys]
                mix = sum(score * value for score, value in zip(scores, values, strict=True)) / sum(scores)
                output[b][(rows, *at)] = mix
    return output


def slow_pool(x: Tensor, cells: int) -> Tensor:
    """Mean of each cell, written out."""
    sides = [math.ceil(n / cells) for n in x.shape[2:]]
    counts = [math.ceil(n / side) for n, side in zip(x.shape[2:], sides, strict=True)]
    output = torch.zeros(*x.shape[:2], *counts, dtype=x.dtype)
    for at in itertools.product(*map(range, counts)):
        cell = x[(slice(None), slice(None), *[slice(i * s, (i + 1) * s) for i, s in zip(at, sides, strict=True)])]
        output[(slice(None), slice(None), *at)] = cell.flatten(2).mean(-1)
    return output


def fusion(dims: int, channels: int, sources: list[int], **options) -> CrossAttentionFusion:
    """In float64, moved off its initial values."""
    torch.manual_seed(0)
    module = CrossAttentionFusion(dims, channels, sources, **options).double()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter += 0.3 * torch.randn_like(parameter)
    return module


CASES = [  # dims, channels, target grid, sources (channels, grid), heads, tokens
    (2, 16, (4, 4), [(16, (4, 4))], 2, 16),  # nothing pooled
    (2, 16, (12, 10), [(5, (12, 10)), (7, (6, 5))], 2, 4),  # pooled, other widths and grids, uneven last cells
    (2, 18, (9, 9), [(3, (2, 11))], 4, 3),  # width no multiple of the heads
    (2, 3, (8, 8), [(2, (8, 8))], 4, 4),  # too narrow for more than one head
    (3, 8, (4, 6, 5), [(4, (4, 6, 5)), (2, (2, 3, 2))], 1, 4),
]


@pytest.mark.parametrize("case", CASES, ids=range(len(CASES)))
def test_against_loops_and_a_plain_concatenation(case) -> None:
    dims, channels, grid, sources, heads, tokens = case
    module = fusion(dims, channels, [c for c, _ in sources], heads=heads, tokens=tokens)
    target = torch.randn(2, channels, *grid, dtype=torch.float64)
    maps = [torch.randn(2, c, *size, dtype=torch.float64) for c, size in sources]
    cells = tokens if dims == 2 else tokens // 2
    joined = [target]
    with torch.no_grad():
        for attention, source in zip(module.attentions, maps, strict=True):
            attended = slow_attention(attention, slow_pool(target, cells), slow_pool(source, cells))
            joined.append(F.interpolate(attended, size=grid, mode="bilinear" if dims == 2 else "trilinear"))
        weight = torch.cat([module.join_target.weight, module.join_sources.weight], dim=1).flatten(1)
        x = torch.einsum("oc,bc...->bo...", weight, torch.cat(joined, dim=1))
        x = x + module.join_target.bias.view(1, -1, *[1] * dims)
        torch.testing.assert_close(module(target, maps), x + module.body(x), rtol=1e-9, atol=1e-9)


def test_heads_are_at_least_eight_wide_and_tokens_bounded() -> None:
    assert [CrossAttentionFusion(2, c, [4]).attentions[0].heads for c in (3, 8, 16, 31, 32, 512)] == [1, 1, 2, 3, 4, 4]
    for side in (1, 15, 16, 17, 64, 100, 127):
        pooled = pool_to(torch.randn(1, 1, side, 3), 16)
        assert pooled.shape[2] <= 16
        assert pooled.shape[2] > 8 or side <= 8
    assert pool_to(torch.randn(1, 1, 40, 8, 9), 8).shape[2:] == (8, 8, 5)


@pytest.mark.parametrize("dims", [2, 3])
def test_starts_as_the_targets_map_and_learns_from_every_source(dims: int) -> None:
    torch.manual_seed(0)
    module = CrossAttentionFusion(dims, 6, [4, 6])
    target, first, second = (torch.randn(2, c, *[8] * dims) for c in (6, 4, 6))
    goal = torch.randn_like(target)
    assert torch.equal(module(target, [first, second]), target)
    optimizer = torch.optim.Adam(module.parameters(), lr=1e-2)
    before = [p.detach().clone() for p in module.parameters()]
    for _ in range(3):
        optimizer.zero_grad()
        F.mse_loss(module(target, [first, second]), goal).backward()
        optimizer.step()
    assert all(not torch.equal(p, q) for p, q in zip(module.parameters(), before, strict=True))
    output = module.eval()(target, [first, second])
    assert not torch.equal(output, module(target, [-first, second]))
    assert not torch.equal(output, module(target, [first, -second]))


def test_bfloat16_autocast() -> None:
    module = fusion(2, 8, [8]).float()
    target, source = torch.randn(1, 8, 32, 32), torch.randn(1, 8, 32, 32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = module(target, [source])
    assert output.isfinite().all()
    torch.testing.assert_close(output.float(), module(target, [source]), rtol=0.2, atol=0.2)


@pytest.mark.parametrize(
    ("dims", "sources", "options", "message"),
    [(2, [], {}, "at least one source"), (2, [8], {"heads": 0}, "heads: 0"), (3, [8], {"tokens": 1}, "tokens: 1")],
)
def test_wrong_options_are_refused(dims: int, sources: list[int], options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CrossAttentionFusion(dims, 8, sources, **options)
