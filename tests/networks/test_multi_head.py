# SPDX-License-Identifier: Apache-2.0
import pytest
import torch

from common.networks import MultiHead, UNet


def unet(**options) -> UNet:
    torch.manual_seed(0)
    return UNet(features=(4, 6, 8, 10, 12, 4), **options)


def batch() -> torch.Tensor:
    return torch.randn(2, 1, 32, 32, generator=torch.Generator().manual_seed(1))


def test_every_head_is_the_network_with_its_own_decoder() -> None:
    network = MultiHead(unet(), {"a": 2, "b": 4}, "b").eval()
    levels = network.encode(batch())
    for name, channels in (("a", 2), ("b", 4)):
        alone = UNet(features=(4, 6, 8, 10, 12, 4), out_channels=channels)
        alone.load_state_dict(network.encoder.state_dict() | network.decoders[name].state_dict(), strict=True)
        assert torch.equal(network.decode_head(name, levels, batch()), alone.eval()(batch()))
    assert torch.equal(network(batch()), network.decode_head("b", levels, batch()))
    network.target = "a"
    assert network(batch()).shape[1] == 2


def test_the_encoder_is_a_copy_with_the_networks_weights() -> None:
    plain = unet()
    network = MultiHead(plain, {"a": 2}, "a")
    for key, value in network.encoder.state_dict().items():
        assert torch.equal(value, plain.state_dict()[key])
        assert value.data_ptr() != plain.state_dict()[key].data_ptr()
    assert plain(batch()).shape == (2, 2, 32, 32)


def test_a_heads_gradient_stays_out_of_the_other_heads() -> None:
    network = MultiHead(unet(), {"a": 2, "b": 3}, "b")
    network(batch()).sum().backward()
    assert all(p.grad is None for p in network.decoders["a"].parameters())
    assert all(p.grad is not None for p in [*network.decoders["b"].parameters(), *network.encoder.parameters()])


def test_wrong_heads_are_refused() -> None:
    with pytest.raises(ValueError, match="'c' has no head; heads are a, b"):
        MultiHead(unet(), {"a": 2, "b": 3}, "c")
    with pytest.raises(ValueError, match="empty"):
        MultiHead(unet(), {}, "a")
    with pytest.raises(ValueError, match=r"'a\.b'"):
        MultiHead(unet(), {"a.b": 2}, "a.b")
    network = MultiHead(unet(), {"a": 2}, "a")
    with pytest.raises(ValueError, match="no head z"):
        network.decode_head("z", network.encode(batch()), batch())
