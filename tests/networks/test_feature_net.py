# SPDX-License-Identifier: Apache-2.0
"""What holds for every network."""

import copy
import json

import pytest
import torch
from monai.bundle import ConfigParser


@pytest.mark.parametrize("side", [64, 96])
def test_output_has_the_input_size_and_levels_are_as_specified(network, image, side: int) -> None:
    x = image(network, side if network.spatial_dims == 2 else side // 2)
    with torch.no_grad():
        output, levels = network.forward_features(x)
    assert output.shape == (2, 3, *x.shape[2:])
    assert len(levels) == len(network.level_specs)
    for level, spec in zip(levels, network.level_specs, strict=True):
        assert level.shape == (2, spec.channels, *[n // spec.stride for n in x.shape[2:]]), spec.name
    assert len({spec.name for spec in network.level_specs}) == len(levels)


def test_forward_is_decode_of_encode(network, image) -> None:
    x = image(network)
    with torch.no_grad():
        output, levels = network.forward_features(x)
        again = network.encode(x)
        assert torch.equal(network(x), output)
        assert torch.equal(network.decode(again, x), output)
    assert all(torch.equal(a, b) for a, b in zip(levels, again, strict=True))


def test_decode_leaves_levels_and_image_alone(network, image) -> None:
    x = image(network)
    with torch.no_grad():
        levels = network.encode(x)
        before = [level.clone() for level in [*levels, x]]
        network.decode(levels, x)
    assert all(torch.equal(a, b) for a, b in zip(before, [*levels, x], strict=True))


def test_a_prediction_does_not_depend_on_the_other_images_of_the_batch(network, image) -> None:
    network = network.double()  # the differences that rounding makes are then far below those of a mistake
    x = image(network, batch=3).double()
    other = torch.cat([x[:1], -2 * x[1:]])
    with torch.no_grad():
        torch.testing.assert_close(network(x)[:1], network(other)[:1], rtol=0, atol=1e-12)
        torch.testing.assert_close(network(x)[:1], network(x[:1]), rtol=0, atol=1e-12)


def test_every_trainable_parameter_gets_a_gradient(network, image) -> None:
    network.train()
    x = image(network, side=64 if network.spatial_dims == 2 else 32)
    levels = network.encode(x)
    heads = [network.decode_head(n, levels, x) for n in network.decoders] if hasattr(network, "decoders") else None
    outputs = heads or [network.decode(levels, x)]
    sum((output * torch.randn_like(output)).sum() for output in outputs).backward()
    for name, parameter in network.named_parameters():
        assert (parameter.grad is not None) == parameter.requires_grad, name
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    assert trained and sum(bool(p.grad.abs().sum() > 0) for p in trained) > 0.9 * len(trained)


def test_spec_is_json_and_rebuilds_the_network(network, image) -> None:
    spec = json.loads(json.dumps(network.spec))
    again = ConfigParser({"n": spec}).get_parsed_content("n")
    assert type(again) is type(network) and again.spec == spec and again.level_specs == network.level_specs
    again.load_state_dict(network.state_dict(), strict=True)
    x = image(network)
    with torch.no_grad():
        assert torch.equal(again.eval()(x), network(x))


def test_a_copy_is_independent(network, image) -> None:
    x, twin = image(network), copy.deepcopy(network)
    with torch.no_grad():
        before = network(x)
        assert torch.equal(twin(x), before)
        for parameter in twin.parameters():
            parameter.zero_()
        assert torch.equal(network(x), before)


def test_halves_keep_their_keys_and_work_alone(network, image) -> None:
    x = image(network)
    encoder, decoder = copy.deepcopy(network).encoder_only(), copy.deepcopy(network).decoder_only()
    whole, one, two = network.state_dict(), encoder.state_dict(), decoder.state_dict()
    assert one and two and set(one) | set(two) == set(whole) and not set(one) & set(two)
    with torch.no_grad():
        assert torch.equal(decoder.decode(encoder.encode(x), x), network(x))
    for half in (encoder, decoder):
        with pytest.raises(RuntimeError, match="half of this network"):
            half(x)
    decoder.train().eval()


def test_with_outputs_is_the_same_architecture_with_other_outputs(network, image) -> None:
    other = network.with_outputs(5).eval()
    x = image(network)
    with torch.no_grad():
        assert other(x).shape[1] == 5
        assert other.decode(network.encode(x), x).shape[1] == 5
