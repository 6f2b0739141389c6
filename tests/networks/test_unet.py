# SPDX-License-Identifier: Apache-2.0
import pytest
import torch
from monai.networks.nets import BasicUNet

from common.networks import LevelSpec, UNet


@pytest.mark.parametrize(
    ("features", "count"), [((64, 128, 256, 512, 1024, 64), 31_112_130), ((32, 64, 128, 256, 512, 32), 7_782_882)]
)
def test_parameter_counts_of_the_paper(features: tuple[int, ...], count: int) -> None:
    with torch.device("meta"):
        network = UNet(features=features)
    assert sum(p.numel() for p in network.parameters()) == count


def test_the_default_is_the_papers_teacher() -> None:
    with torch.device("meta"):
        network = UNet()
    assert network.level_specs == tuple(
        LevelSpec(*row)
        for row in [("conv_0", 64, 1), ("down_1", 128, 2), ("down_2", 256, 4), ("down_3", 512, 8), ("down_4", 1024, 16)]
    )


@pytest.mark.parametrize(("dims", "size"), [(2, (32, 48)), (2, (37, 51)), (3, (16, 32, 16)), (3, (17, 16, 23))])
@pytest.mark.parametrize("train", [False, True])
def test_equals_the_stock_network_bit_for_bit(dims: int, size: tuple[int, ...], train: bool) -> None:
    torch.manual_seed(0)
    features = (4, 6, 8, 10, 12, 4)
    ours = UNet(spatial_dims=dims, in_channels=2, out_channels=3, features=features).train(train)
    stock = BasicUNet(dims, 2, 3, features, act=("relu", {"inplace": True}), norm="batch").train(train)
    stock.load_state_dict(ours.state_dict(), strict=True)
    image = torch.randn(2, 2, *size)
    got, want = ours(image), stock(image)
    assert got.shape == (2, 3, *size)
    assert torch.equal(got, want)
    got.square().sum().backward()
    want.square().sum().backward()
    for (name, one), two in zip(ours.named_parameters(), stock.parameters(), strict=True):
        assert torch.equal(one.grad, two.grad), name


def test_wrong_features_are_refused() -> None:
    with pytest.raises(ValueError, match=r"features: \[8, 16\]; give six"):
        UNet(features=[8, 16])
