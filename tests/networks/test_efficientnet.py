# SPDX-License-Identifier: Apache-2.0
import torch

from common.networks import EfficientNet, LevelSpec


def test_the_default_is_b0() -> None:
    with torch.device("meta"):
        network = EfficientNet()
        imagenet = EfficientNet(in_channels=3, out_channels=1000)
    assert sum(p.numel() for p in network.parameters()) == 4_009_534
    assert sum(p.numel() for p in imagenet.parameters()) == 5_288_548
    rows = [(0, 16, 2), (1, 24, 4), (2, 40, 8), (3, 80, 16), (4, 112, 16), (6, 320, 32)]
    assert network.level_specs == (*(LevelSpec(f"blocks_{i}", c, s) for i, c, s in rows), LevelSpec("head", 1280, 32))


def test_the_last_level_pooled_is_what_is_classified() -> None:
    torch.manual_seed(0)
    network = EfficientNet(variant="test_efficientnet", out_channels=4).eval()
    image = torch.randn(2, 1, 64, 64)
    with torch.no_grad():
        pooled = network.encode(image)[-1].mean((2, 3))
        torch.testing.assert_close(network(image), pooled @ network.classifier.weight.T + network.classifier.bias)
