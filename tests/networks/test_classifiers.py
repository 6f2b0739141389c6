# SPDX-License-Identifier: Apache-2.0
"""What holds for every classification network."""

import copy
import json
import math
import socket
import warnings
from collections.abc import Callable
from functools import cache

import pytest
import timm
import torch
from monai.bundle import ConfigParser
from torch import nn

from common.networks import VGG19, EfficientNet, FeatureNet, Hybrid, MedViT, MultiHead, ViT

SIDE = 64


def efficientnet(**options) -> EfficientNet:
    return EfficientNet(**{"variant": "test_efficientnet", "out_channels": 3} | options)


def vgg(**options) -> VGG19:
    return VGG19(**{"variant": "vgg11", "mlp_ratio": 1 / 256, "out_channels": 3} | options)


def vit(**options) -> ViT:
    return ViT(**{"variant": "test_vit", "image_size": SIDE, "out_channels": 3} | options)


def medvit(**options) -> MedViT:
    return MedViT(**{"variant": "tiny", "out_channels": 3, "patch_momentum": 0.5} | options)


KINDS: dict[str, Callable[[], FeatureNet]] = {
    "efficientnet": efficientnet,
    "vgg": vgg,
    "vit": vit,
    "medvit": medvit,
    "hybrid": lambda: Hybrid([vgg(), vit(dropout=0.1)], 3),
    "twins": lambda: Hybrid([vit(), vit()], 3),
}


def noise(network: FeatureNet, side: int = SIDE, batch: int = 2) -> torch.Tensor:
    return torch.randn(batch, network.in_channels, side, side, generator=torch.Generator().manual_seed(1))


@cache
def settled(kind: str) -> FeatureNet:
    """Weights off their initial values, norms with the statistics of a batch: zeros and vanishing logits hide mistakes."""
    torch.manual_seed(0)
    network = KINDS[kind]().train()
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d)]
    with torch.no_grad():
        for parameter in network.parameters():
            scale = 0.2 if parameter.ndim < 2 else 0.5 / parameter[0].numel() ** 0.5
            parameter += scale * torch.randn(parameter.shape)
        for norm in norms:
            norm.momentum = 1.0
        network(noise(network, batch=4))
        for norm in norms:
            norm.momentum = 0.1
    return network.eval()


@pytest.fixture(params=list(KINDS))
def network(request: pytest.FixtureRequest) -> FeatureNet:
    """Each kind with 3 classes, in eval mode, for images of 64 pixels a side."""
    torch.manual_seed(0)
    return copy.deepcopy(settled(request.param))


@pytest.mark.parametrize("side", [96, 128])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("build", [efficientnet, vgg, vit, medvit])
def test_output_is_logits_and_levels_are_as_specified(build: Callable[..., FeatureNet], side: int, channels: int) -> None:
    options = {"image_size": side} if build is vit else {}
    network = build(in_channels=channels, out_channels=5, **options).eval()
    with torch.no_grad():
        output, levels = network.forward_features(torch.randn(2, channels, side, side))
    assert output.shape == (2, 5) and network.in_channels == channels and network.spatial_dims == 2
    for level, spec in zip(levels, network.level_specs, strict=True):
        assert level.shape == (2, spec.channels, side // spec.stride, side // spec.stride), spec.name
    strides = [spec.stride for spec in network.level_specs]
    assert strides == sorted(strides)
    assert len({spec.name for spec in network.level_specs}) == len(levels)


def test_levels_of_the_settled_networks_are_as_specified(network) -> None:
    with torch.no_grad():
        output, levels = network.forward_features(noise(network))
    assert output.shape == (2, 3) and output.std() > 1e-3
    for level, spec in zip(levels, network.level_specs, strict=True):
        assert level.shape == (2, spec.channels, SIDE // spec.stride, SIDE // spec.stride), spec.name


@pytest.mark.parametrize("build", [efficientnet, vgg, vit, medvit])
def test_training_starts_from_a_guess(build: Callable[..., FeatureNet]) -> None:
    """Logits near 0: cross-entropy starts at log(classes), whatever the class."""
    torch.manual_seed(0)
    network = build(out_channels=2)
    with torch.no_grad():
        logits = network(torch.randn(8, 1, SIDE, SIDE))
    for label in range(2):
        loss = torch.nn.functional.cross_entropy(logits, torch.full((8,), label))
        assert loss == pytest.approx(math.log(2), abs=0.3)


@pytest.mark.parametrize(("build", "short"), [(efficientnet, False), (medvit, False), (vgg, True)])
@pytest.mark.parametrize("size", [(100, 70), (33, 47)])
def test_any_image_size_runs(build: Callable[..., FeatureNet], short: bool, size: tuple[int, int]) -> None:
    network = build().eval()
    with torch.no_grad():
        output, levels = network.forward_features(torch.randn(1, 1, *size))
    assert output.shape == (1, 3)
    for level, spec in zip(levels, network.level_specs, strict=True):
        assert list(level.shape[2:]) == [n // spec.stride if short else -(-n // spec.stride) for n in size], spec.name


def test_decode_reads_the_bottleneck_and_leaves_it_alone(network) -> None:
    x = noise(network)
    with torch.no_grad():
        output, levels = network.forward_features(x)
        before = levels[-1].clone()
        assert torch.equal(network(x), output)
        assert torch.equal(network.decode(levels[-1:], x), output)
    assert torch.equal(levels[-1], before)


def test_a_prediction_does_not_depend_on_the_other_images_of_the_batch(network) -> None:
    network = network.double()
    x = noise(network, batch=3).double()
    other = torch.cat([x[:1], -2 * x[1:]])
    with torch.no_grad():
        torch.testing.assert_close(network(x)[:1], network(other)[:1], rtol=0, atol=1e-12)
        torch.testing.assert_close(network(x)[:1], network(x[:1]), rtol=0, atol=1e-12)


def test_every_parameter_gets_a_gradient(network) -> None:
    network.train()
    output = network(noise(network, batch=4))
    (output * torch.randn_like(output)).sum().backward()
    parameters = dict(network.named_parameters())
    assert [name for name, parameter in parameters.items() if parameter.grad is None] == []
    assert sum(bool(p.grad.abs().sum() > 0) for p in parameters.values()) > 0.9 * len(parameters)


def test_spec_is_json_and_rebuilds_the_network(network) -> None:
    spec = json.loads(json.dumps(network.spec))
    again = ConfigParser({"n": spec}).get_parsed_content("n")
    assert type(again) is type(network) and again.spec == spec and again.level_specs == network.level_specs
    again.load_state_dict(network.state_dict(), strict=True)
    with torch.no_grad():
        assert torch.equal(again.eval()(noise(network)), network(noise(network)))


@pytest.mark.parametrize("kind", ["efficientnet", "vgg", "vit"])
def test_the_stock_network_runs_the_weights(kind: str) -> None:
    network = settled(kind)
    stock = ConfigParser({"n": json.loads(json.dumps(network.stock))}).get_parsed_content("n")
    stock.load_state_dict(network.state_dict(), strict=True)
    assert list(stock.state_dict()) == list(network.state_dict())
    with torch.no_grad():
        torch.testing.assert_close(stock.eval()(noise(network)), network(noise(network)))


def test_halves_keep_their_keys_and_work_alone(network) -> None:
    x = noise(network)
    encoder, decoder = copy.deepcopy(network).encoder_only(), copy.deepcopy(network).decoder_only()
    whole, one, two = network.state_dict(), encoder.state_dict(), decoder.state_dict()
    assert one and two and set(one) | set(two) == set(whole) and not set(one) & set(two)
    assert list(network.decoder_state()) == list(two)
    with torch.no_grad():
        assert torch.equal(decoder.decode(encoder.encode(x), x), network(x))
    for half in (encoder, decoder):
        with pytest.raises(RuntimeError, match="half of this network"):
            half(x)


def test_with_outputs_is_the_same_architecture_with_other_outputs(network) -> None:
    other = network.with_outputs(5).eval()
    x = noise(network)
    with torch.no_grad():
        assert other(x).shape == (2, 5)
        assert other.decode(network.encode(x), x).shape == (2, 5)


def test_datasets_with_other_classes_have_heads_of_their_own() -> None:
    network = MultiHead(copy.deepcopy(settled("efficientnet")), {"a": 2, "b": 4}, "b").eval()
    x = noise(network)
    with torch.no_grad():
        levels = network.encode(x)
        assert network(x).shape == (2, 4) and network.decode_head("a", levels, x).shape == (2, 2)


@pytest.mark.parametrize("build", [efficientnet, vgg, vit, medvit])
def test_nothing_is_downloaded_unless_asked_for(build, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a connection was tried")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    build()
    asked = []
    create = timm.create_model
    monkeypatch.setattr(timm, "create_model", lambda *a, pretrained, **o: (asked.append(pretrained), create(*a, **o))[1])
    network = build(pretrained=True, **({"variant": "small"} if build is medvit else {}))
    assert asked == [True] and "pretrained" not in network.spec


@pytest.mark.parametrize("build", [efficientnet, vgg, vit])
@pytest.mark.parametrize("variant", ["resnet18", "no_such_network", "hf-hub:timm/vgg19"])
def test_another_network_is_refused(build: Callable[..., FeatureNet], variant: str) -> None:
    with pytest.raises(ValueError, match=f"variant: '{variant}'"):
        build(variant=variant)


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")
def test_torchscript(network) -> None:
    scripted = torch.jit.script(network)
    x = noise(network)
    with torch.no_grad():
        output, levels = network.forward_features(x)
        got, got_levels = scripted.forward_features(x)
        torch.testing.assert_close(scripted(x), output, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(got, output, rtol=1e-5, atol=1e-5)
    for one, two in zip(got_levels, levels, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", ["efficientnet", "hybrid"])
def test_compile_without_graph_breaks(kind: str) -> None:
    torch.compiler.reset()
    network = copy.deepcopy(settled(kind))
    compiled = torch.compile(network, fullgraph=True, backend="eager")
    x = noise(network)
    with torch.no_grad():
        torch.testing.assert_close(compiled(x), network(x), rtol=1e-5, atol=1e-5)
    torch.compiler.reset()


def test_compile_of_a_training_step_with_the_patch_momentum_changer() -> None:
    torch.compiler.reset()
    network = copy.deepcopy(settled("medvit")).train()
    torch.compile(network, fullgraph=True, backend="eager")(noise(network)).sum().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())
    torch.compiler.reset()


@pytest.mark.parametrize("kind", ["efficientnet", "medvit", "hybrid"])
def test_onnx_of_any_batch_size(kind: str) -> None:
    network = copy.deepcopy(settled(kind))
    batch = torch.export.Dim("batch", min=1)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # the exporter's own
        program = torch.onnx.export(network, (noise(network),), dynamo=True, verbose=False, dynamic_shapes=({0: batch},))
        x = noise(network, batch=3)
        torch.testing.assert_close(program(x)[0], network(x), rtol=0, atol=1e-4)
