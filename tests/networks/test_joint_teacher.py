# SPDX-License-Identifier: Apache-2.0
import copy

import pytest
import torch

from common.networks import JointTeacher, MultiHead, TransResUNet, UNet


def unet(seed: int = 0, **options) -> UNet:
    torch.manual_seed(seed)
    return UNet(features=(4, 6, 8, 10, 12, 4), **options)


def transresunet(**options) -> TransResUNet:
    torch.manual_seed(1)
    return TransResUNet(width=2, layers=(1, 1, 1), **options)


def batch(size: int = 32) -> torch.Tensor:
    return torch.randn(2, 1, size, size, generator=torch.Generator().manual_seed(3))


def plan(joint: JointTeacher) -> dict[str, list[tuple[int, str]]]:
    """Level name -> (teacher, name of its level) pairs."""
    names = [[spec.name for spec in specs] for specs in ([t.level_specs for t in joint.teachers])]
    return {
        names[0][i]: [(k, names[k][j]) for k, j in partners] for i, partners in zip(joint.fused, joint.partners, strict=True)
    }


def test_levels_pair_by_stride_and_bottlenecks_with_one_another() -> None:
    u, t = unet(), transresunet()
    assert plan(JointTeacher([u, u], 2)) == {spec.name: [(1, spec.name)] for spec in u.level_specs}
    assert plan(JointTeacher([u, t, u], 2)) == {
        "conv_0": [(2, "conv_0")],
        "down_1": [(1, "s1"), (2, "down_1")],
        "down_2": [(1, "s2"), (2, "down_2")],
        "down_3": [(1, "s3"), (2, "down_3")],
        "down_4": [(1, "bridge"), (2, "down_4")],
    }
    assert plan(JointTeacher([t, u], 2)) == {
        "s1": [(1, "down_1")], "s2": [(1, "down_2")], "s3": [(1, "down_3")], "bridge": [(1, "down_4")],
    }  # fmt: skip
    shallow = copy.deepcopy(t)
    shallow.level_specs = (
        *t.level_specs[:2],
        t.level_specs[2]._replace(stride=7),
        t.level_specs[3]._replace(stride=32),
    )
    assert plan(JointTeacher([u, shallow], 2)) == {
        "down_1": [(1, "s1")], "down_2": [(1, "s2")], "down_4": [(1, "bridge")],
    }  # fmt: skip


@pytest.mark.parametrize("levels", [["down_4"], ["down_2", "down_1"], None])
def test_only_chosen_levels_that_a_source_has_are_changed(levels: list[str] | None) -> None:
    target, source = unet(), transresunet()
    joint = JointTeacher([target, source], 2, levels=levels).eval()
    with torch.no_grad():
        for parameter in joint.fusions.parameters():
            parameter += 0.1
        got, own = joint.encode(batch()), target.eval().encode(batch())
    changed = {spec.name for spec, a, b in zip(joint.level_specs, got, own, strict=True) if not torch.equal(a, b)}
    assert changed == set(levels or ["down_1", "down_2", "down_3", "down_4"])
    assert joint.level_specs == target.level_specs


def test_wrong_teachers_and_levels_are_refused() -> None:
    u, t = unet(), transresunet()
    with pytest.raises(ValueError, match=r"down_9, x unknown; .* conv_0, down_1, down_2, down_3, down_4"):
        JointTeacher([u, u], 2, levels=["down_9", "down_1", "x"])
    with pytest.raises(ValueError, match="nothing to fuse"):
        JointTeacher([u, t], 2, levels=["conv_0"])
    with pytest.raises(ValueError, match="nothing to fuse"):
        JointTeacher([u, u], 2, levels=[])
    for few in ([], [u]):
        with pytest.raises(ValueError, match="at least one source"):
            JointTeacher(few, 2)
    for other in (UNet(spatial_dims=3, features=(2, 2, 2, 2, 2, 2)), unet(in_channels=2)):
        with pytest.raises(ValueError, match=r"teachers\[2\]"):
            JointTeacher([u, u, other], 2)


@pytest.mark.parametrize("target", [unet, transresunet])
def test_frozen_encoders_are_bit_equal_after_training(target) -> None:
    teachers = [target(), unet(5), transresunet()]
    joint = JointTeacher(teachers, 2)
    before = {key: value.clone() for key, value in joint.state_dict().items()}
    optimizer = torch.optim.Adam(joint.parameters(), lr=1e-2)
    for _ in range(3):
        joint.train()
        assert joint.training and joint.decoder.training and joint.fusions.training
        assert not any(module.training for module in joint.teachers.modules())
        optimizer.zero_grad()
        joint(batch(64)).square().mean().backward()
        optimizer.step()
    after = joint.state_dict()
    frozen = [key for key in before if key.startswith("teachers.")]
    assert any("running_mean" in key for key in frozen)
    assert all(torch.equal(before[key], after[key]) for key in frozen)
    # Everything else moved, or the test above proves nothing. A bias before a batch norm has no effect.
    rest = [p for name, p in joint.named_parameters() if not name.startswith("teachers.")]
    moved = [not torch.equal(before[name], p) for name, p in joint.named_parameters() if not name.startswith("teachers.")]
    assert sum(moved) > 0.9 * len(rest)
    assert all(p.grad is None and not p.requires_grad for p in joint.teachers.parameters())
    assert len(optimizer.state) == len(rest)


def test_teachers_handed_in_stay_as_they_are() -> None:
    target, source = unet().train(), unet(1).train()
    before = target.state_dict()
    joint = JointTeacher([target, source], 2)
    assert target.training and all(p.requires_grad for p in target.parameters())
    assert target.state_dict().keys() == before.keys()
    target(batch())
    with torch.no_grad():
        target.conv_0.conv_0.conv.weight.zero_()
    assert joint.teachers[0].conv_0.conv_0.conv.weight.abs().sum() > 0


def test_the_teachers_decoders_are_neither_run_nor_kept() -> None:
    joint = JointTeacher([unet(), unet(1)], 2)
    assert not any("upcat" in key or "final" in key for key in joint.state_dict() if key.startswith("teachers."))
    assert all(key.startswith(("upcat", "final")) for key in joint.decoder.state_dict())


@pytest.mark.parametrize("kind", ["unet", "transresunet", "multi_head"])
def test_warm_start_begins_with_exactly_the_target_teachers_output(kind: str) -> None:
    target = {
        "unet": unet, "transresunet": transresunet, "multi_head": lambda: MultiHead(unet(), {"a": 3, "b": 2}, "b"),
    }[kind]().eval()  # fmt: skip
    cold = JointTeacher([target, unet(1)], 2).eval()
    warm = JointTeacher([target, unet(1)], 2, warm_start=True).eval()
    with torch.no_grad():
        want = target(batch())
        assert torch.equal(warm(batch()), want)
        assert not torch.equal(cold(batch()), want)
    with pytest.raises(ValueError, match="warm_start"):
        JointTeacher([target, unet(1)], 5, warm_start=True)


def test_joint_teachers_nest() -> None:
    inner = JointTeacher([unet(), unet(1)], 2)
    outer = JointTeacher([inner, transresunet()], 3).train()
    outer(batch(64)).sum().backward()
    assert all(p.grad is None for p in outer.teachers.parameters())
    assert not any(module.training for module in outer.teachers.modules())
