# SPDX-License-Identifier: Apache-2.0
import copy
import math
import warnings

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from ignite.engine import Engine
from monai.losses import DiceCELoss
from torch import nn

from common.distillation import Curriculum, DistillationLoss, TeacherStudent, pair_levels, standardise
from common.losses import Align, Contrastive, Cosine, SoftOutput
from common.networks import Features, LevelSpec, UNet

STUDENT = [LevelSpec("conv_0", 2, 1), LevelSpec("down_1", 4, 2), LevelSpec("down_2", 8, 4)]
TEACHER = [LevelSpec("s1", 6, 2), LevelSpec("s2", 10, 4), LevelSpec("bridge", 12, 8)]
NARROW, WIDE = (2, 3, 4, 5, 6, 2), (4, 6, 8, 10, 12, 4)


def build(**options) -> TeacherStudent:
    torch.manual_seed(0)
    return TeacherStudent(UNet(features=NARROW), UNet(features=WIDE), **options).train()


def full_loss(**weights: float) -> DistillationLoss:
    terms = {"contrastive": Contrastive(), "align": Align(), "cosine": Cosine()}
    return DistillationLoss(
        task=DiceCELoss(include_background=False, softmax=True, to_onehot_y=True),
        terms=terms,
        weights={"contrastive": 0.1, "align": 0.3, "cosine": 0.1} | weights,
    )


def batch(n: int = 4) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    image = torch.randn(n, 1, 32, 32, generator=generator)
    return image, (image > 0.5).long()


def test_levels_pair_by_stride_and_bottleneck_with_bottleneck() -> None:
    assert pair_levels(STUDENT, STUDENT) == [(0, 0), (1, 1), (2, 2)]
    assert pair_levels(STUDENT, TEACHER) == [(1, 0), (2, 2)]
    assert pair_levels(TEACHER, STUDENT) == [(0, 1), (2, 2)]
    assert pair_levels(STUDENT, TEACHER, ["down_2", "down_1"]) == [(1, 0), (2, 2)]
    assert pair_levels(STUDENT, TEACHER, ["down_2"]) == [(2, 2)]


@pytest.mark.parametrize(
    ("levels", "message"),
    [
        (["down_9"], "down_9; the student's levels are conv_0, down_1, down_2"),
        ([], "empty"),
        (["conv_0"], "strides are 2, 4, 8"),
    ],
)
def test_wrong_levels_are_refused_by_name(levels: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        pair_levels(STUDENT, TEACHER, levels)


@settings(deadline=None, max_examples=20)
@given(scale=st.floats(0.1, 100), offset=st.floats(-10, 10), dims=st.sampled_from([2, 3]))
def test_standardised_levels_have_unit_channels_whatever_their_scale(scale: float, offset: float, dims: int) -> None:
    level = torch.randn(2, 3, *[6] * dims, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    got = standardise(level * scale + offset)
    axes = tuple(range(2, 2 + dims))
    torch.testing.assert_close(got.mean(axes), torch.zeros(2, 3, dtype=torch.float64), atol=1e-6, rtol=0)
    torch.testing.assert_close(got.std(axes, correction=0), torch.ones(2, 3, dtype=torch.float64), atol=2e-3, rtol=0)
    torch.testing.assert_close(standardise(level)[:1], standardise(level[:1]))
    assert (standardise(torch.full((2, 3, 4, 4), 7.3)).abs() < 0.01).all()
    with pytest.raises(ValueError, match="larger images"):
        standardise(torch.ones(2, 3, 1, 1))


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("student_adapter", [False, True])
def test_forward_pairs_and_adapts_in_2d_and_3d(dims: int, student_adapter: bool) -> None:
    torch.manual_seed(0)
    narrow, wide = UNet(spatial_dims=dims, features=NARROW), UNet(spatial_dims=dims, features=WIDE)
    module = TeacherStudent(narrow, wide, levels=["down_1", "down_4"], student_adapter=student_adapter, teacher_output=True)
    module.eval()
    image = torch.randn(2, 1, *[32] * dims)
    student, teacher = module(image)
    torch.testing.assert_close(student.output, narrow(image))
    torch.testing.assert_close(teacher.output, wide(image))
    maps = wide.encode(image)
    for i, level in enumerate([1, 4]):
        torch.testing.assert_close(teacher.levels[i], maps[level])
        weight = module.adapters[i].weight[:, :, 0]
        want = standardise(torch.einsum("oc,bc...->bo...", weight, standardise(maps[level])))
        torch.testing.assert_close(teacher.adapted[i], want, rtol=1e-4, atol=1e-5)
        assert student.adapted[i].shape == teacher.adapted[i].shape
        assert (student.adapted[i] is student.levels[i]) != student_adapter


def test_teacher_is_bit_equal_after_training_and_decodes_only_on_demand() -> None:
    module = build()
    before = copy.deepcopy(module.teacher.state_dict())
    module.teacher.decode = None  # type: ignore[method-assign,assignment]  # would raise if it ran
    loss = full_loss()
    loss.cf = 1.0
    optimizer = torch.optim.Adam([p for p in module.parameters() if p.requires_grad], lr=1e-2)
    image, label = batch()
    for _ in range(3):
        module.train()
        assert not module.teacher.training and module.student.training
        optimizer.zero_grad()
        loss(module(image), label).backward()
        optimizer.step()
    assert all(torch.equal(value, before[key]) for key, value in module.teacher.state_dict().items())
    assert all(p.grad is None and not p.requires_grad for p in module.teacher.parameters())


def test_gradient_reaches_student_and_every_adapter() -> None:
    module, loss = build(student_adapter=True), full_loss()
    loss.cf = 1.0
    image, label = batch()
    loss(module(image), label).backward()
    for name, parameter in [*module.adapters.named_parameters(), *module.student.named_parameters()]:
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name
    assert all(p.grad.abs().sum() > 0 for p in [*module.adapters.parameters(), *module.student_adapters.parameters()])
    # Without a term that reads them the adapters still get a gradient, of zeros: DDP waits for it.
    module, loss = build(student_adapter=True), full_loss(align=0, cosine=0)
    loss(module(image), label).backward()
    assert all(p.grad is not None and (p.grad == 0).all() for p in module.adapters.parameters())


def test_features_and_deployable_are_those_of_the_plain_student() -> None:
    module = build(adapters=False)
    student, teacher = module(batch()[0])
    assert student.adapted == [] and teacher.adapted == [] and teacher.output.numel() == 0
    UNet(features=NARROW).load_state_dict(module.deployable.state_dict(), strict=True)
    with pytest.raises(ValueError, match="adapters=True"):
        build(adapters=False, student_adapter=True)


def test_loss_is_the_weighted_sum_and_logs_its_terms() -> None:
    module, loss = build(), full_loss()
    image, label = batch()
    pred = module(image)
    parts = {name: function(*pred) for name, function in loss.functions.items()}
    task = loss.task(pred[0].output, label)
    torch.testing.assert_close(loss(pred, label), 0.5 * task)
    loss.cf = 0.4
    want = 0.5 * task + 0.4 * (0.1 * parts["contrastive"] + 0.3 * parts["align"] + 0.1 * parts["cosine"])
    torch.testing.assert_close(loss(pred, label), want)
    assert list(loss.terms) == ["task", "contrastive", "align", "cosine"]
    assert not any(value.requires_grad for value in loss.terms.values())
    torch.testing.assert_close(loss.terms["align"], parts["align"].detach())


def test_a_term_of_weight_zero_is_not_computed() -> None:
    def explode(student: Features, teacher: Features) -> torch.Tensor:
        raise AssertionError

    loss = DistillationLoss(task=DiceCELoss(softmax=True, to_onehot_y=True), terms={"x": explode}, weights={"x": 0})
    image, label = batch()
    loss(build(adapters=False)(image), label)
    assert list(loss.terms) == ["task"]


@pytest.mark.parametrize("labelled", [0, 1, 3])
def test_unlabelled_images_carry_only_the_terms(labelled: int) -> None:
    module = build(teacher_output=True, adapters=False)
    task = nn.CrossEntropyLoss()
    loss = DistillationLoss(
        task=lambda output, label: task(output, label[:, 0]), terms={"soft": SoftOutput()}, weights={"soft": 0.7}
    )
    loss.cf = 1.0
    image, label = batch()
    student, teacher = module(image)
    student.output.retain_grad()
    value = loss((student, teacher), label[:labelled])
    supervised = task(student.output[:labelled], label[:labelled, 0]) if labelled else torch.tensor(0.0)
    torch.testing.assert_close(value, 0.5 * supervised + 0.7 * SoftOutput()(student, teacher))
    value.backward()
    assert (student.output.grad.flatten(1).abs().sum(1) > 0).all()
    assert all(p.grad is not None for p in module.student.parameters())


def test_wrong_names_and_labels_are_refused() -> None:
    task = DiceCELoss()
    with pytest.raises(ValueError, match="aling"):
        DistillationLoss(task=task, terms={"align": Align()}, weights={"align": 0.3, "aling": 0.1})
    with pytest.raises(ValueError, match="align"):
        DistillationLoss(task=task, terms={"align": Align()}, weights={})
    image, label = batch()
    with pytest.raises(ValueError, match="8 labels for 4 images"):
        full_loss()(build()(image), label.repeat(2, 1, 1, 1))


def run(curriculum: Curriculum, epochs: int) -> list[tuple[float, float, float]]:
    """(cf, temperature, beta) at every epoch, as an ignite engine would set them."""
    seen = []
    loss = curriculum.loss
    contrastive = loss.functions["contrastive"]
    engine = Engine(lambda *_: seen.append((loss.cf, contrastive.temperature, loss.weights["contrastive"])))
    curriculum.attach(engine)
    engine.run([0], max_epochs=epochs)
    return seen


def test_curriculum_follows_the_printed_schedules() -> None:
    seen = run(Curriculum(full_loss()), 100)
    assert [cf for cf, _, _ in seen[:17]] == pytest.approx([0] * 6 + [i / 10 for i in range(1, 10)] + [1, 1])
    assert [t for _, t, _ in seen] == pytest.approx([max(0.5, 2 * 0.9 ** (e / 5)) for e in range(100)])
    assert seen[0][1] == 2 and seen[-1][1] == 0.5
    assert [b for _, _, b in seen[:17]] == pytest.approx([0.1] * 6 + [0.1 + 0.04 * i for i in range(1, 10)] + [0.5] * 2)
    assert Curriculum(full_loss()).full_epoch == 15


def test_a_curriculum_longer_than_the_training_is_warned_of() -> None:
    with pytest.warns(UserWarning, match=r"warmup 5 \+ ramp 10 epochs\) is not over in 15 epochs"):
        run(Curriculum(full_loss()), 15)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run(Curriculum(full_loss()), 16)


def test_curriculum_options() -> None:
    cosine = run(Curriculum(full_loss(), warmup=1, ramp=4, ceiling=0.5, shape="cosine", beta=None), 7)
    assert [cf for cf, _, _ in cosine] == pytest.approx(
        [0, 0] + [0.25 * (1 - math.cos(math.pi * p)) for p in (0.25, 0.5, 0.75)] + [0.5, 0.5]
    )
    assert {beta for _, _, beta in cosine} == {0.1}
    assert [cf for cf, _, _ in run(Curriculum(full_loss(), warmup=2, ramp=0), 4)] == [0, 0, 1, 1]
    assert [cf for cf, _, _ in run(Curriculum(full_loss(), warmup=0, ramp=0), 2)] == [1, 1]


def test_curriculum_leaves_a_term_that_is_off_and_needs_no_contrastive_term() -> None:
    off = full_loss(contrastive=0)
    run(Curriculum(off), 20)
    assert off.cf == 1 and off.weights["contrastive"] == 0
    only = DistillationLoss(task=DiceCELoss(), terms={"align": Align()}, weights={"align": 0.3})
    engine = Engine(lambda *_: None)
    Curriculum(only).attach(engine)
    engine.run([0], max_epochs=16)
    assert only.cf == 1 and only.weights == {"align": 0.3}


def test_beta_is_a_range_of_its_own_and_0_turns_the_term_off() -> None:
    betas = [beta for _, _, beta in run(Curriculum(full_loss(contrastive=1), warmup=1, ramp=2, beta=[0, 0.8]), 5)]
    assert betas == pytest.approx([0, 0, 0.4, 0.8, 0.8])
    off = full_loss(contrastive=1)
    assert {beta for _, _, beta in run(Curriculum(off, beta=[0, 0]), 20)} == {0}
    image, label = batch()
    off(build()(image), label)
    assert list(off.terms) == ["task", "align", "cosine"]


def test_resumed_curriculum_is_where_it_was() -> None:
    whole, resumed = run(Curriculum(full_loss()), 12), full_loss()
    engine = Engine(lambda *_: None)
    Curriculum(resumed).attach(engine)
    engine.load_state_dict({"epoch": 11, "max_epochs": 12, "epoch_length": 1})
    engine.run([0])
    assert (resumed.cf, resumed.functions["contrastive"].temperature, resumed.weights["contrastive"]) == whole[-1]


@pytest.mark.parametrize(
    "options",
    [
        {"shape": "step"},
        {"ramp": -1},
        {"t_floor": 0},
        {"beta": 0.3},
        {"beta": "0.3"},
        {"beta": [0.1]},
        {"beta": [0.1, -1]},
    ],
)
def test_bad_curriculum_is_refused(options: dict) -> None:
    with pytest.raises(ValueError, match="curriculum"):
        Curriculum(full_loss(), **options)
