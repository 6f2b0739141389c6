# SPDX-License-Identifier: Apache-2.0
import itertools
import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from common.networks import FusionAttention


def block(in_channels: int, channels: int, **options) -> FusionAttention:
    """In float64, eval mode, moved off its initial values."""
    torch.manual_seed(0)
    module = FusionAttention(in_channels, channels, **options).double().eval()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter += 0.2 * torch.randn_like(parameter)
    return module


def slow_norm(x: Tensor, norm: torch.nn.LayerNorm) -> Tensor:
    mean = sum(x) / len(x)
    variance = sum((v - mean) ** 2 for v in x) / len(x)
    return (x - mean) / torch.sqrt(variance + norm.eps) * norm.weight + norm.bias


def slow_block(module: FusionAttention, level: Tensor) -> Tensor:
    """One image, head and pixel at a time, with every projection written out."""
    channels, size = module.attended.in_features, module.attended.in_features // module.heads
    places = list(itertools.product(*map(range, level.shape[2:])))
    output = torch.zeros(len(level), channels, *level.shape[2:], dtype=level.dtype)
    for b in range(len(level)):
        tokens = [level[b, :, i, j] for i, j in places]
        parts = []
        for token in tokens:
            every = module.query_key_value.weight @ slow_norm(token, module.norm_attention) + module.query_key_value.bias
            parts.append((every[:channels], every[channels : 2 * channels], every[2 * channels :]))
        for n, (i, j) in enumerate(places):
            mixed = torch.zeros(channels, dtype=level.dtype)
            for head in range(module.heads):
                rows = slice(head * size, (head + 1) * size)
                scores = [math.exp(float(parts[n][0][rows] @ key[rows]) / math.sqrt(size)) for _, key, _ in parts]
                values = [value[rows] for _, _, value in parts]
                mixed[rows] = sum(s * v for s, v in zip(scores, values, strict=True)) / sum(scores)
            kept = tokens[n] if isinstance(module.project, torch.nn.Identity) else module.project(tokens[n])
            x = kept + module.attended.weight @ mixed + module.attended.bias
            hidden = F.gelu(module.mlp.linear1(slow_norm(x, module.norm_mlp)))
            output[b, :, i, j] = x + module.mlp.linear2(hidden)
    return output


@pytest.mark.parametrize(("in_channels", "channels", "heads"), [(12, 4, 2), (6, 6, 3), (3, 8, 1)])
def test_equals_a_slow_loop(in_channels: int, channels: int, heads: int) -> None:
    module = block(in_channels, channels, heads=heads, mlp_ratio=2)
    level = torch.randn(2, in_channels, 3, 2, dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(module(level), slow_block(module, level), rtol=1e-10, atol=1e-10)


def test_the_residual_is_projected_only_where_the_widths_differ() -> None:
    assert isinstance(FusionAttention(8, 8).project, torch.nn.Identity)
    wide = FusionAttention(24, 8)
    assert wide.project.weight.shape == (8, 24)
    one, two = (sum(p.numel() for p in FusionAttention(c, 8).parameters()) for c in (24, 8))
    assert one - two == (24 - 8) * 2 + 24 * (24 - 8) + (24 * 8 + 8)  # norm, queries keys and values, projection


def test_without_position_pixels_may_be_in_any_order() -> None:
    module = block(6, 4, heads=2)
    level, order = torch.randn(2, 6, 1, 9, dtype=torch.float64), torch.randperm(9)
    with torch.no_grad():
        torch.testing.assert_close(module(level[..., order]), module(level)[..., order], rtol=1e-9, atol=1e-9)
        single = module(level[..., :1])  # one pixel attends to itself
    assert single.shape == (2, 4, 1, 1) and single.isfinite().all()


@pytest.mark.parametrize("option", ["dropout", "attention_dropout"])
def test_dropouts_act_in_training_only(option: str) -> None:
    module, plain = block(6, 8, heads=2, **{option: 0.5}), block(6, 8, heads=2)
    level = torch.randn(2, 6, 4, 4, dtype=torch.float64)
    assert torch.equal(module(level), plain(level))
    module.train()
    plain.train()
    assert not torch.allclose(module(level), module(level))
    assert torch.equal(plain(level), plain.eval()(level))
    if option == "attention_dropout":
        for each in (module, plain):  # what attention adds is linear in its weights, the MLP behind it is not
            torch.nn.init.zeros_(each.mlp.linear2.weight)
        torch.manual_seed(0)
        mean = torch.stack([module(level) for _ in range(2000)]).mean(0)  # what is left is scaled up
        torch.testing.assert_close(mean, plain(level), rtol=0, atol=0.05)


def test_every_parameter_gets_a_gradient_and_bfloat16_runs() -> None:
    module = block(12, 8, heads=2).float().train()
    level = torch.randn(2, 12, 4, 4)
    module(level).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in module.parameters())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        low = module(level)
    torch.testing.assert_close(low.float(), module(level), rtol=0.2, atol=0.3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"heads": 3}, "heads: 3 do not divide 8"),
        ({"heads": 0}, "heads: 0"),
        ({"dropout": 1.0}, "dropout: 1.0"),
        ({"attention_dropout": -0.1}, "attention_dropout: -0.1"),
    ],
)
def test_wrong_options_are_refused(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        FusionAttention(8, 8, **options)
