# SPDX-License-Identifier: Apache-2.0
import pytest
import torch
import torchvision

from common.networks import VGG19, LevelSpec


@pytest.mark.parametrize(("channels", "classes", "count"), [(3, 1000, 143_667_240), (3, 2, 139_578_434)])
def test_parameter_counts_are_the_published_ones(channels: int, classes: int, count: int) -> None:
    with torch.device("meta"):
        network = VGG19(in_channels=channels, out_channels=classes)
    assert sum(p.numel() for p in network.parameters()) == count


def test_levels_of_the_default() -> None:
    with torch.device("meta"):
        network = VGG19()
    names = ["conv_1", "conv_2", "conv_3", "conv_4", "conv_5", "pool_5"]
    channels, strides = [64, 128, 256, 512, 512, 512], [1, 2, 4, 8, 16, 32]
    assert network.level_specs == tuple(LevelSpec(*row) for row in zip(names, channels, strides, strict=True))


@pytest.mark.parametrize("variant", ["vgg11", "vgg11_bn"])
def test_encoder_is_torchvisions(variant: str) -> None:
    torch.manual_seed(0)
    network = VGG19(in_channels=3, variant=variant, mlp_ratio=1 / 256).eval()
    with torch.device("meta"):  # its classifier alone has 100 million parameters
        stock = getattr(torchvision.models, variant)(weights=None).features
    stock.load_state_dict(network.features.state_dict(), strict=True, assign=True)
    image = torch.randn(1, 3, 48, 48)
    with torch.no_grad():
        levels = network.encode(image)
        torch.testing.assert_close(stock.eval()(image), levels[-1])
        torch.testing.assert_close(stock[:-1](image), levels[-2])


def test_the_bottleneck_is_averaged_to_the_grid_that_the_classifier_reads() -> None:
    torch.manual_seed(0)
    network = VGG19(variant="vgg11", mlp_ratio=1 / 256).eval()
    image = torch.randn(2, 1, 96, 96)
    with torch.no_grad():
        grid = torch.nn.functional.adaptive_avg_pool2d(network.encode(image)[-1], 7).flatten(1)
        mlp = network.pre_logits
        hidden = torch.relu(grid @ mlp.fc1.weight.flatten(1).T + mlp.fc1.bias)
        hidden = torch.relu(hidden @ mlp.fc2.weight.flatten(1).T + mlp.fc2.bias)
        torch.testing.assert_close(network(image), hidden @ network.head.fc.weight.T + network.head.fc.bias)
