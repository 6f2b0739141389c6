# SPDX-License-Identifier: Apache-2.0
import math

import pytest
import torch
from timm.models.nextvit import NextConvBlock, NextTransformerBlock

from common.networks import LevelSpec, MedViT
from common.networks.medvit import LFFN, exchange_moments


def count(module: torch.nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize(
    ("variant", "whole", "encoder", "blocks"),
    [
        ("small", 32_161_440, 31_136_440, 20),
        ("base", 45_430_972, 44_405_972, 30),
        ("large", 58_700_504, 57_675_504, 40),
    ],
)
def test_parameter_counts_are_the_published_ones(variant: str, whole: int, encoder: int, blocks: int) -> None:
    with torch.device("meta"):
        network = MedViT(in_channels=3, out_channels=1000, variant=variant)
    assert count(network) == whole
    assert count(network.encoder_only()) == encoder
    assert sum(isinstance(module, LFFN) for module in network.modules()) == blocks


def test_levels_of_the_default() -> None:
    with torch.device("meta"):
        network = MedViT()
    rows = [("stages_0", 96, 4), ("stages_1", 256, 8), ("stages_2", 512, 16), ("stages_3", 1024, 32)]
    assert network.level_specs == tuple(LevelSpec(*row) for row in rows)


def unsettled_lffn(channels: int, ratio: int) -> LFFN:
    torch.manual_seed(0)
    lffn = LFFN(channels, ratio).double().eval()
    with torch.no_grad():
        for parameter in lffn.parameters():
            parameter += 0.5 * torch.randn_like(parameter)
        for name, buffer in lffn.named_buffers():
            if name.endswith(("running_mean", "running_var")):
                buffer += torch.rand_like(buffer)
    return lffn


@pytest.mark.parametrize("ratio", [2, 3])
def test_lffn_against_loops(ratio: int) -> None:
    channels, height, width = 4, 3, 5
    lffn = unsettled_lffn(channels, ratio)
    w = {name: value.tolist() for name, value in lffn.body.state_dict().items() if value.ndim}
    x = torch.randn(1, channels, height, width, dtype=torch.float64)
    pixels = [(i, j) for i in range(height) for j in range(width)]
    hidden = ratio * channels

    def norm(layer: int, c: int, value: float) -> float:
        scale = w[f"{layer}.weight"][c] / math.sqrt(w[f"{layer}.running_var"][c] + 1e-5)
        return (value - w[f"{layer}.running_mean"][c]) * scale + w[f"{layer}.bias"][c]

    def hard_swish(value: float) -> float:
        return value * min(max(value + 3, 0), 6) / 6

    def mix(layer: int, maps: list[dict], outputs: int) -> list[dict]:
        kernel = w[f"{layer}.weight"]
        return [{p: sum(kernel[o][c][0][0] * m[p] for c, m in enumerate(maps)) for p in pixels} for o in range(outputs)]

    maps = [{p: float(x[0, c, *p]) for p in pixels} for c in range(channels)]
    up = [{p: hard_swish(norm(1, c, v)) for p, v in m.items()} for c, m in enumerate(mix(0, maps, hidden))]
    local = []
    for c, m in enumerate(up):
        kernel = w["3.weight"][c][0]
        local.append(
            {
                (i, j): sum(kernel[a][b] * m.get((i + a - 1, j + b - 1), 0.0) for a in range(3) for b in range(3))
                for i, j in pixels
            }
        )
    local = [{p: hard_swish(norm(4, c, v)) for p, v in m.items()} for c, m in enumerate(local)]
    means = [sum(m.values()) / len(pixels) for m in local]
    first, second = "6.layers.0", "6.layers.2"
    assert len(w[f"{first}.weight"]) == ratio
    squeezed = [
        max(sum(a * b for a, b in zip(row, means, strict=True)) + bias, 0)
        for row, bias in zip(w[f"{first}.weight"], w[f"{first}.bias"], strict=True)
    ]
    for c, m in enumerate(local):
        gate = sum(a * b for a, b in zip(w[f"{second}.weight"][c], squeezed, strict=True)) + w[f"{second}.bias"][c]
        local[c] = {p: v * min(max(gate + 3, 0), 6) / 6 for p, v in m.items()}
    down = mix(7, local, channels)
    with torch.no_grad():
        got = lffn(x)
    for c in range(channels):
        for p in pixels:
            assert float(got[0, c, *p]) == pytest.approx(maps[c][p] + norm(8, c, down[c][p]), abs=1e-10)


def test_blocks_add_the_input_twice() -> None:
    """Block output = x + n + body(n), n the normalised x, as in the authors' code; in training too (no drop path here)."""
    torch.manual_seed(0)
    network = MedViT(variant="tiny", drop_path=0.5)
    blocks = [m for m in network.modules() if isinstance(m, NextConvBlock | NextTransformerBlock)]
    assert [block.mlp.body[0].out_channels // block.out_chs for block in blocks] == [3, 2, 3, 3, 3, 3, 2, 2]
    block = blocks[0].train()
    seen: dict[str, torch.Tensor] = {}
    block.norm.register_forward_hook(lambda _, args, out: seen.update(x=args[0], n=out))
    block.mlp.body.register_forward_hook(lambda _, args, out: seen.update(body=out))
    output = block(torch.randn(2, 64, 8, 8))
    torch.testing.assert_close(output, seen["x"] + seen["n"] + seen["body"])


def test_exchange_moments_against_loops() -> None:
    x = torch.randn(4, 6, 2, 3, dtype=torch.float64)
    torch.manual_seed(5)
    got = exchange_moments(x, 0.5)
    torch.manual_seed(5)
    other = torch.randperm(4).tolist()
    chosen = (torch.rand(4, 1, 1, 1) < 0.5).flatten().tolist()
    assert any(chosen) and not all(chosen)
    for i in range(4):
        for p in [(a, b) for a in range(2) for b in range(3)]:
            own, its = x[i, :, *p], x[other[i], :, *p]
            scale = math.sqrt((float(its.var(correction=0)) + 1e-5) / (float(own.var(correction=0)) + 1e-5))
            want = (own - own.mean()) * scale + its.mean() if chosen[i] else own
            torch.testing.assert_close(got[i, :, *p], want)


def test_momentum_is_changed_in_training_only_and_after_the_first_level() -> None:
    torch.manual_seed(0)
    plain = MedViT(variant="tiny", drop_path=0.0)
    changed = MedViT(variant="tiny", drop_path=0.0, patch_momentum=1.0)
    changed.load_state_dict(plain.state_dict(), strict=True)
    image = torch.randn(4, 1, 64, 64)
    with torch.no_grad():
        a, b = plain.train().encode(image), changed.train().encode(image)
        assert torch.equal(a[0], b[0]) and not torch.allclose(a[1], b[1])
        changed.load_state_dict(plain.state_dict(), strict=True)
        assert torch.equal(plain.eval()(image), changed.eval()(image))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"variant": "huge"}, "variant: 'huge'; give small, base or large"),
        ({"variant": "tiny", "pretrained": True}, "no pretrained weights"),
        ({"patch_momentum": 1.5}, "patch_momentum: 1.5"),
    ],
)
def test_wrong_options_are_refused(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MedViT(**options)
