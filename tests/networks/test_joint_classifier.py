# SPDX-License-Identifier: Apache-2.0
import copy
import json
import warnings

import pytest
import torch
import torch.nn.functional as F
from monai.bundle import ConfigParser

from common.networks import FeatureNet, FusionAttention, JointClassifier, LevelSpec, MultiHead, UNet
from common.networks.joint_classifier import to_grid
from tests.tiny_classifier import TinyClassifier, images, tiny

DEEP = (3, 5, 6, 10)  # its bottleneck is at stride 16, that of the default at 8


def joint(**options) -> JointClassifier:
    """Of three teachers of two architectures, moved off its initial values."""
    teachers = [tiny(0), tiny(1, widths=DEEP, out_channels=2), tiny(2)]
    torch.manual_seed(5)
    network = JointClassifier(teachers, 3, **{"joint_ch": 8, "heads": 2} | options)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if not name.startswith("teachers."):
                parameter += 0.1 * torch.randn_like(parameter)
    return network.eval()


KINDS = {
    "joint": joint,
    "finer_sources": lambda: JointClassifier([tiny(1, widths=DEEP), tiny(0)], 3, joint_ch=8, heads=2).eval(),
    "target_head": lambda: joint(target_head=True),
    "multi_head_of_joint": lambda: MultiHead(joint(), {"a": 2, "b": 3}, "b").eval(),
    "joint_of_multi_head": lambda: JointClassifier(
        [MultiHead(tiny(), {"a": 3}, "a"), tiny(1)], 3, joint_ch=8, target_head=True
    ).eval(),
}


@pytest.fixture(params=list(KINDS))
def network(request: pytest.FixtureRequest) -> FeatureNet:
    return KINDS[request.param]()


def test_encode_is_adapters_resized_concatenated_and_a_chain_of_blocks() -> None:
    network = joint(fa_blocks=3).double()
    x = images().double()
    with torch.no_grad():
        maps = [teacher.encode(x)[-1] for teacher in network.teachers]
        assert [m.shape[-1] for m in maps] == [4, 2, 4]
        adapted = []
        for m, adapter in zip(maps, network.adapters, strict=True):
            a = torch.einsum("oc,bchw->bohw", adapter.weight.flatten(1), m) + adapter.bias.view(1, -1, 1, 1)
            adapted.append(a if a.shape[-1] == 4 else F.interpolate(a, size=(4, 4), mode="bilinear"))
        one = network.blocks[0](torch.cat(adapted, 1))
        two = network.blocks[1](one)
        three = network.blocks[2](two)
        for got, want in zip(network.encode(x), [one, two, three], strict=True):
            torch.testing.assert_close(got, want)
        linear = network.classifier[1]
        want = three.mean((2, 3)) @ linear.weight.T + linear.bias
        torch.testing.assert_close(network(x), want)
    assert network.level_specs == tuple(LevelSpec(f"fa_{i}", 8, 8) for i in (1, 2, 3))
    assert [type(b) for b in network.blocks] == [FusionAttention] * 3
    assert [b.norm_attention.normalized_shape[0] for b in network.blocks] == [24, 8, 8]


def test_a_finer_map_is_averaged_and_a_coarser_one_interpolated() -> None:
    x = torch.randn(2, 3, 6, 4, dtype=torch.float64)
    cells = [[x[:, :, 3 * i : 3 * i + 3, 2 * j : 2 * j + 2].mean((2, 3)) for j in range(2)] for i in range(2)]
    torch.testing.assert_close(to_grid(x, x[:, :, :2, :2]), torch.stack([torch.stack(row, -1) for row in cells], -2))
    torch.testing.assert_close(to_grid(x, x[:, :, :1, :1])[..., 0, 0], x.mean((2, 3)))
    token = x[..., :1, :1]
    torch.testing.assert_close(to_grid(token, x[:, :, :3, :2]), token.expand(2, 3, 3, 2))
    assert to_grid(x, x + 1) is x


@pytest.mark.parametrize("side", [32, 48])
def test_levels_output_and_halves(network: FeatureNet, side: int) -> None:
    x = images(2, side)
    with torch.no_grad():
        output, levels = network.forward_features(x)
        assert output.shape == (2, 3)
        for level, spec in zip(levels, network.level_specs, strict=True):
            assert level.shape == (2, spec.channels, side // spec.stride, side // spec.stride), spec.name
        assert torch.equal(network.decode(network.encode(x), x), output)
        encoder, decoder = copy.deepcopy(network).encoder_only(), copy.deepcopy(network).decoder_only()
        assert torch.equal(decoder.decode(encoder.encode(x), x), output)
        assert network.with_outputs(5).eval()(x).shape == (2, 5)
    decoder.train()
    assert set(encoder.state_dict()) | set(decoder.state_dict()) == set(network.state_dict())
    assert len({spec.name for spec in network.level_specs}) == len(network.level_specs)


def test_spec_is_json_and_rebuilds_the_network(network: FeatureNet) -> None:
    spec = json.loads(json.dumps(network.spec))
    again = ConfigParser({"n": spec}).get_parsed_content("n")
    assert type(again) is type(network) and again.spec == spec and again.level_specs == network.level_specs
    again.load_state_dict(network.state_dict(), strict=True)
    with torch.no_grad():
        assert torch.equal(again.eval()(images()), network(images()))


def test_an_image_does_not_depend_on_the_others(network: FeatureNet) -> None:
    x = images().double()
    network = network.double()
    with torch.no_grad():
        torch.testing.assert_close(network(x)[:1], network(x[:1]), rtol=0, atol=1e-12)


@pytest.mark.parametrize("options", [{}, {"warm_start": True}, {"dropout": 0.3, "attention_dropout": 0.2}])
def test_frozen_encoders_are_bit_equal_after_training(options: dict) -> None:
    network = joint(**options)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-2)
    for _ in range(3):
        network.train()
        assert network.blocks.training and not any(m.training for m in network.teachers.modules())
        optimizer.zero_grad()
        F.cross_entropy(network(images()), torch.tensor([0, 1, 2, 0])).backward()
        optimizer.step()
    after = network.state_dict()
    frozen = [key for key in before if key.startswith("teachers.")]
    assert any("running_mean" in key for key in frozen) and not any("head" in key for key in frozen)
    assert all(torch.equal(before[key], after[key]) for key in frozen)
    assert all(p.grad is None and not p.requires_grad for p in network.teachers.parameters())
    trained = [name for name, p in network.named_parameters() if p.requires_grad]
    still = [name for name in trained if torch.equal(before[name], after[name])]
    assert not still
    assert len(optimizer.state) == len(trained)


def test_teachers_handed_in_stay_as_they_are() -> None:
    target, source = tiny().train(), tiny(1).train()
    network = JointClassifier([target, source], 3, joint_ch=8)
    assert target.training and all(p.requires_grad for p in target.parameters())
    with torch.no_grad():
        target.stages[0][0].weight.zero_()
    assert network.teachers[0].stages[0][0].weight.abs().sum() > 0


@pytest.mark.parametrize("target", [tiny, lambda: MultiHead(tiny(), {"a": 2, "b": 3}, "b").eval()])
def test_warm_start_begins_with_exactly_the_target_teachers_output(target) -> None:
    teacher = target()
    warm = JointClassifier([teacher, tiny(1, widths=DEEP)], 3, joint_ch=8, warm_start=True).eval()
    cold = JointClassifier([teacher, tiny(1, widths=DEEP)], 3, joint_ch=8).eval()
    with torch.no_grad():
        want = teacher(images())
        assert torch.equal(warm(images()), want)
        assert not torch.allclose(cold(images()), want)
    assert [spec.name for spec in warm.level_specs][:3] == ["target_stage_1", "target_stage_2", "target_stage_3"]
    F.cross_entropy(warm.train()(images()), torch.tensor([0, 1, 2, 0])).backward()
    assert warm.classifier[1].weight.grad.abs().sum() > 0
    heads = [p.grad for p in warm.target_heads.parameters()]
    assert all(grad is not None for grad in heads)
    with pytest.raises(ValueError, match="warm_start: the first teacher's head does not fit one of 5 classes"):
        JointClassifier([teacher, tiny(1)], 5, joint_ch=8, warm_start=True)


def test_what_is_fused_learns_after_a_warm_start() -> None:
    """Behind a classifier of zeros the blocks have no gradient at first; from the second step on they do."""
    network = JointClassifier([tiny(), tiny(1)], 3, joint_ch=8, warm_start=True).train()
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-2)
    sums = []
    for _ in range(2):
        optimizer.zero_grad()
        F.cross_entropy(network(images()), torch.tensor([0, 1, 2, 0])).backward()
        sums.append(sum(p.grad.abs().sum().item() for p in [*network.blocks.parameters(), *network.adapters.parameters()]))
        optimizer.step()
    assert sums[0] == 0 < sums[1]


@pytest.mark.parametrize(
    ("teachers", "options", "message"),
    [
        ([tiny()], {}, "at least one source"),
        ([tiny(), tiny(in_channels=3)], {}, r"teachers\[1\]"),
        ([UNet(spatial_dims=3, features=(2,) * 6)] * 2, {}, "3-D"),
        ([tiny(), tiny()], {"fa_blocks": 0}, "fa_blocks: 0"),
        ([tiny(), tiny()], {"heads": 3}, "heads: 3"),
        ([tiny(), tiny()], {"dropout": 2}, "dropout: 2"),
    ],
)
def test_wrong_options_are_refused(teachers: list, options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        JointClassifier(teachers, 3, **options)


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")
def test_torchscript(network: FeatureNet) -> None:
    scripted = torch.jit.script(network)
    with torch.no_grad():
        output, levels = network.forward_features(images())
        torch.testing.assert_close(scripted(images()), output, rtol=1e-5, atol=1e-5)
        for one, two in zip(scripted.forward_features(images())[1], levels, strict=True):
            torch.testing.assert_close(one, two, rtol=1e-5, atol=1e-5)


def test_compile_without_graph_breaks(network: FeatureNet) -> None:
    torch.compiler.reset()
    compiled = torch.compile(network, fullgraph=True, backend="eager")
    with torch.no_grad():
        torch.testing.assert_close(compiled(images()), network(images()), rtol=1e-5, atol=1e-5)
    network.train()
    compiled(images()).sum().backward()
    assert sum(p.grad is not None for p in network.parameters()) > 10
    torch.compiler.reset()


@pytest.mark.parametrize("kind", ["joint", "finer_sources", "joint_of_multi_head"])
def test_onnx(kind: str) -> None:
    network, x = KINDS[kind](), images(1)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # the exporter's own
        program = torch.onnx.export(network, (x,), dynamo=True, verbose=False)
        torch.testing.assert_close(program(x)[0], network(x), rtol=0, atol=1e-4)


def test_the_tiny_network_is_a_classifier() -> None:
    assert TinyClassifier().eval()(images()).shape == (4, 3)
