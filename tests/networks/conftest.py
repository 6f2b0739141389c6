# SPDX-License-Identifier: Apache-2.0
from collections.abc import Callable

import pytest
import torch

from common.networks import FeatureNet, JointTeacher, MultiHead, TransResUNet, UNet


def unet(dims: int = 2, **options) -> UNet:
    return UNet(spatial_dims=dims, features=(4, 6, 8, 10, 12, 4), **options)


def narrow(dims: int = 2) -> UNet:
    return UNet(spatial_dims=dims, features=(2, 3, 4, 5, 6, 2))


def transresunet(dims: int = 2, **options) -> TransResUNet:
    return TransResUNet(spatial_dims=dims, width=2, layers=(1, 2, 1), **options)


KINDS: dict[str, Callable[[], FeatureNet]] = {
    "unet": lambda: unet(out_channels=3),
    "unet_3d": lambda: unet(3, out_channels=3),
    "transresunet": lambda: transresunet(out_channels=3),
    "transresunet_3d": lambda: transresunet(3, out_channels=3),
    "joint_unet": lambda: JointTeacher([unet(), transresunet(), narrow()], 3),
    "joint_transresunet": lambda: JointTeacher([transresunet(), unet(), transresunet()], 3),
    "joint_3d": lambda: JointTeacher([unet(3), narrow(3), transresunet(3)], 3),
    "multi_head": lambda: MultiHead(unet(), {"a": 2, "b": 3}, "b"),
    "multi_head_of_joint": lambda: MultiHead(JointTeacher([transresunet(), unet()], 2), {"a": 2, "b": 3}, "b"),
    "joint_of_multi_head": lambda: JointTeacher([MultiHead(unet(), {"a": 2}, "a"), narrow()], 3),
}


def unsettle(network: FeatureNet) -> FeatureNet:
    """Move every weight and statistic off its initial value, as training would: zeros and identities hide mistakes."""
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=generator)
        for name, buffer in network.named_buffers():
            if name.endswith(("running_mean", "running_var")):
                buffer += 0.2 * torch.rand(buffer.shape, generator=generator)
    return network


@pytest.fixture(params=list(KINDS))
def network(request: pytest.FixtureRequest) -> FeatureNet:
    """Each kind of network with 3 output channels, in eval mode."""
    torch.manual_seed(0)
    return unsettle(KINDS[request.param]()).eval()


@pytest.fixture
def build() -> Callable[[str], FeatureNet]:
    """A kind of network by name, as fixture `network` builds it."""

    def build(kind: str) -> FeatureNet:
        torch.manual_seed(0)
        return unsettle(KINDS[kind]()).eval()

    return build


@pytest.fixture
def image() -> Callable[..., torch.Tensor]:
    """`image(network, side, batch)`: noise the network can read; a side is 32, in 3-D 16, unless given."""

    def image(network: FeatureNet, side: int | None = None, batch: int = 2) -> torch.Tensor:
        side = side or (32 if network.spatial_dims == 2 else 16)
        shape = (batch, network.in_channels, *[side] * network.spatial_dims)
        return torch.randn(shape, generator=torch.Generator().manual_seed(1))

    return image
