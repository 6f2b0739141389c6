# SPDX-License-Identifier: Apache-2.0
import pytest
import torch
from monai.networks.nets import resnet
from torchvision.models import resnet50

from common.networks import LevelSpec, TransResUNet

PARTS = {  # of the published network
    "conv1": 9_408, "bn1": 128, "layer1": 215_808, "layer2": 1_219_584, "layer3": 7_098_368, "attention": 3_483_648,
    "dilated": 9_703_168, "up_1": 4_461_056, "up_2": 1_116_416, "up_3": 238_720, "up_4": 50_688, "head": 33,
}  # fmt: skip


def count(module: torch.nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def test_parameter_counts_are_the_published_ones() -> None:
    with torch.device("meta"):
        network = TransResUNet(in_channels=3, out_channels=1)
    assert count(network) == 27_597_025
    assert {name: count(child) for name, child in network.named_children() if count(child)} == PARTS
    assert network.level_specs == tuple(
        LevelSpec(*row) for row in [("s1", 64, 2), ("s2", 256, 4), ("s3", 512, 8), ("bridge", 512, 16)]
    )


def test_encoder_is_torchvisions_resnet50() -> None:
    torch.manual_seed(0)
    network, stock = TransResUNet(in_channels=3).eval(), resnet50(weights=None).eval()
    keys = [k for k in network.state_dict() if k.startswith(("conv1", "bn1", "layer"))]
    stock.load_state_dict({k: network.state_dict()[k] for k in keys} | {
        k: v for k, v in stock.state_dict().items() if k.startswith(("layer4", "fc"))
    }, strict=True)  # fmt: skip
    image = torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        s1, s2, s3, _ = network.encode(image)
        x = stock.relu(stock.bn1(stock.conv1(image)))
        y = stock.layer1(stock.maxpool(x))
        for got, want in zip((s1, s2, s3), (x, y, stock.layer2(y)), strict=True):
            torch.testing.assert_close(got, want)


def test_encoder_in_3d_is_monais_resnet50() -> None:
    torch.manual_seed(0)
    network = TransResUNet(spatial_dims=3).eval()
    stock = resnet.resnet50(spatial_dims=3, n_input_channels=1, conv1_t_stride=2, shortcut_type="B").eval()
    own = {k: v for k, v in network.state_dict().items() if k.startswith(("conv1", "bn1", "layer"))}
    others = {k: v for k, v in stock.state_dict().items() if k.startswith(("layer4", "fc"))}
    # MONAI's shortcuts have a bias, which the norm behind them undoes
    others |= {k: 0 * v for k, v in stock.state_dict().items() if k.endswith("downsample.0.bias")}
    stock.load_state_dict(own | others, strict=True)
    image = torch.randn(1, 1, 32, 32, 32)
    with torch.no_grad():
        got = network.encode(image)
        x = stock.act(stock.bn1(stock.conv1(image)))
        y = stock.layer1(stock.maxpool(x))
        for level, want in zip(got, (x, y, stock.layer2(y)), strict=False):
            torch.testing.assert_close(level, want)


@pytest.mark.parametrize("size", [(224, 224), (384, 384), (48, 80), (70, 51), (48, 32, 40), (35, 50, 33)])
def test_any_image_size_runs(size: tuple[int, ...]) -> None:
    network = TransResUNet(spatial_dims=len(size), width=2, layers=(1, 1, 1)).eval()
    with torch.no_grad():
        output, levels = network.forward_features(torch.randn(1, 1, *size))
    assert output.shape == (1, 2, *size)
    for level, spec in zip(levels, network.level_specs, strict=True):
        assert level.shape[1:] == (spec.channels, *[-(-n // spec.stride) for n in size])


def test_attention_runs_over_the_pixels_of_one_image() -> None:
    """A change in one corner reaches the opposite one in the same image; convolutions alone do not go that far."""
    torch.manual_seed(0)
    attention = TransResUNet(width=4, layers=(1, 1, 1)).attention.double().eval()
    x = torch.randn(2, 64, 12, 12, dtype=torch.float64)
    y = x.clone()
    y[0, :, 0, 0] *= -1
    with torch.no_grad():
        change = (attention(x) - attention(y)).abs().amax(1)
    assert (change[0] > 1e-9).double().mean() > 0.9 and change[0, -1, -1] > 1e-9
    assert (change[1] == 0).all()


@pytest.mark.parametrize(
    ("options", "message"), [({"width": 3}, "width: 3"), ({"width": 0}, "width: 0"), ({"layers": (3, 4)}, "layers")]
)
def test_wrong_options_are_refused(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TransResUNet(**options)
