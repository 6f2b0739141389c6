# SPDX-License-Identifier: Apache-2.0
"""Early-k and late-k distillation of classification, alone and within TeacherStudent."""

import copy
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from common.distillation import Curriculum, DistillationLoss, TeacherStudent
from common.early_late import PooledAdapters, RunningStandard, pair_blocks
from common.losses import Align, ClassWeightedCrossEntropy, Contrastive, Cosine, SoftOutput
from common.networks import FeatureNet, JointClassifier
from tests.tiny_classifier import images, tiny

LABEL = torch.tensor([0, 1, 2, 0])


def joint(**options) -> JointClassifier:
    torch.manual_seed(1)
    return JointClassifier([tiny(0), tiny(1, widths=(3, 5, 6, 10))], 3, **{"joint_ch": 8, "heads": 2} | options)


def build(teacher: FeatureNet | None = None, **options) -> TeacherStudent:
    student, teacher = tiny(4, widths=(3, 4, 5, 6)), teacher or joint()
    torch.manual_seed(0)
    return TeacherStudent(student, teacher, teacher_output=True, **options).train()


def full_loss(**weights: float) -> DistillationLoss:
    return DistillationLoss(
        task=ClassWeightedCrossEntropy([5, 3, 2]),
        terms={"contrastive": Contrastive(), "align": Align(), "cosine": Cosine(), "kld": SoftOutput()},
        weights={"contrastive": 0, "align": 0.3, "cosine": 0.1, "kld": 0.4} | weights,
    )


def names(module: TeacherStudent) -> list[tuple[str, str]]:
    return [(module.student.level_specs[i].name, module.teacher.level_specs[j].name) for i, j in module.pairs]


def test_the_teachers_first_or_last_blocks_teach_the_students_last_levels() -> None:
    pairs = {(p, k): names(build(pairing=p, k=k)) for p in ("early", "late") for k in (1, 2, 3)}
    assert pairs["early", 1] == [("stage_4", "fa_1")]
    assert pairs["late", 1] == [("stage_4", "fa_3")]
    assert pairs["early", 2] == [("stage_3", "fa_1"), ("stage_4", "fa_2")]
    assert pairs["late", 2] == [("stage_3", "fa_2"), ("stage_4", "fa_3")]
    assert pairs["early", 3] == pairs["late", 3] == [("stage_2", "fa_1"), ("stage_3", "fa_2"), ("stage_4", "fa_3")]


def test_a_warm_teachers_own_levels_are_not_blocks_and_a_single_teacher_has_only_levels() -> None:
    assert names(build(joint(warm_start=True), pairing="early", k=2)) == [("stage_3", "fa_1"), ("stage_4", "fa_2")]
    assert names(build(tiny(1), pairing="early", k=1)) == [("stage_4", "stage_1")]
    assert names(build(tiny(1), pairing="late", k=2)) == [("stage_3", "stage_2"), ("stage_4", "stage_3")]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pairing": "middle", "k": 1}, "pairing: 'middle'"),
        ({"pairing": "late", "k": 0}, "k: 0; the teacher has 3 blocks, the student 4 levels: give 1 to 3"),
        ({"pairing": "late", "k": 4}, "k: 4"),
        ({"pairing": "late"}, "give both"),
        ({"k": 2}, "give both"),
        ({"pairing": "late", "k": 1, "levels": ["stage_4"]}, "leave out levels"),
        ({"pairing": "late", "k": 1, "student_adapter": True}, "student_adapter"),
        ({"levels": {"stage_4": "fa_9"}}, "stage_4: fa_9; give student's: teacher's, .* stage_4 and the teacher's fa_1"),
        ({"levels": {}}, "empty"),
    ],
)
def test_wrong_options_are_refused(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build(**options)
    assert names(build(levels={"stage_4": "fa_2", "stage_1": "fa_1"})) == [("stage_1", "fa_1"), ("stage_4", "fa_2")]


@settings(deadline=None, max_examples=30)
@given(
    sizes=st.lists(st.integers(1, 5), min_size=1, max_size=6), scale=st.floats(0.01, 100), offset=st.floats(-50, 50),
    seed=st.integers(0, 99),
)  # fmt: skip
def test_running_standard_is_that_of_all_images_so_far(sizes: list[int], scale: float, offset: float, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    module, seen = RunningStandard(3).double().train(), []
    for size in sizes:
        seen.append(offset + scale * torch.randn(size, 3, generator=generator, dtype=torch.float64))
        got = module(seen[-1])
        every = torch.cat(seen)
        mean = torch.stack([sum(every[:, c].tolist(), torch.tensor(0.0).double()) / len(every) for c in range(3)])
        deviation = ((every - mean).square().mean(0) + 1e-8).sqrt()
        torch.testing.assert_close(got, (seen[-1] - mean) / deviation, rtol=1e-6, atol=1e-6)
    module.eval()
    state = copy.deepcopy(module.state_dict())
    module(torch.full((2, 3), 1e6).double())
    assert all(torch.equal(value, state[key]) for key, value in module.state_dict().items())


def test_a_channel_that_never_varies_gives_zero() -> None:
    module = RunningStandard(2)
    for _ in range(3):
        got = module(torch.tensor([[7.3, 1.0], [7.3, 2.0]]))
    assert (got[:, 0].abs() < 0.05).all() and got[:, 1].tolist() == pytest.approx([-1, 1], abs=1e-3)


def test_statistics_are_those_of_all_ranks(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors = torch.randn(6, 3, generator=torch.Generator().manual_seed(0))
    whole, rank = RunningStandard(3), RunningStandard(3)
    want = whole(vectors)[2:4]
    monkeypatch.setattr("common.early_late.gather", lambda own: vectors)
    torch.testing.assert_close(rank(vectors[2:4]), want)
    assert rank.count == 6


def test_adapted_are_pooled_linear_and_standardised() -> None:
    module = build(pairing="late", k=2)
    student, teacher = module(images(6))
    maps = module.teacher.encode(images(6))[-2:]
    for n in range(2):
        layer = module.pooled.adapters[n]
        vectors = torch.stack([torch.stack([m.mean() for m in image]) for image in student.levels[n]])
        torch.testing.assert_close(student.adapted[n], vectors @ layer.weight.T + layer.bias, rtol=1e-4, atol=1e-5)
        goal = maps[n].mean((2, 3))
        goal = (goal - goal.mean(0)) / goal.std(0, correction=0)
        torch.testing.assert_close(teacher.adapted[n], goal, rtol=1e-2, atol=1e-2)
        assert student.adapted[n].shape == teacher.adapted[n].shape == (6, 8)
    assert student.levels[0].ndim == 4  # raw, for the contrastive term
    student, teacher = module.eval()(images(6))
    torch.testing.assert_close(student.output, module.student(images(6)))
    torch.testing.assert_close(teacher.output, module.teacher(images(6)))


def test_align_and_cosine_of_pooled_vectors_are_the_closed_forms_and_equal_ones_give_zero() -> None:
    student, teacher = build(pairing="late", k=3)(images())
    want = sum(((s - t) ** 2).mean() for s, t in zip(student.adapted, teacher.adapted, strict=True)) / 3
    torch.testing.assert_close(Align()(student, teacher), want)
    cosines = []
    for s, t in zip(student.adapted, teacher.adapted, strict=True):
        for a, b in zip(s.tolist(), t.tolist(), strict=True):
            dot = sum(x * y for x, y in zip(a, b, strict=True))
            cosines.append(dot / math.sqrt(sum(x * x for x in a)) / math.sqrt(sum(y * y for y in b)))
    torch.testing.assert_close(Cosine()(student, teacher).item(), 1 - sum(cosines) / len(cosines), rtol=1e-4, atol=1e-5)
    same = student._replace(output=teacher.output, adapted=teacher.adapted)
    assert Align()(same, teacher) == 0 and SoftOutput()(same, teacher) == 0
    assert Cosine()(same, teacher).abs() < 1e-6


def test_loss_is_equation_16() -> None:
    module, loss = build(pairing="late", k=2), full_loss()
    loss.functions["contrastive"] = None  # would raise if it were computed
    pred = module(images())
    parts = [Align()(*pred), Cosine()(*pred), SoftOutput()(*pred)]
    task = loss.task(pred[0].output, LABEL)
    torch.testing.assert_close(loss(pred, LABEL), 0.5 * task)
    loss.cf = 0.7
    want = 0.5 * task + 0.7 * (0.3 * parts[0] + 0.1 * parts[1] + 0.4 * parts[2])
    torch.testing.assert_close(loss(pred, LABEL), want)
    assert list(loss.terms) == ["task", "align", "cosine", "kld"]
    Curriculum(loss, ceiling=0.5)  # a contrastive term that is off is left alone


@pytest.mark.parametrize("options", [{"pairing": "late", "k": 3}, {"pairing": "early", "k": 1}])
def test_training_moves_student_and_adapters_and_never_the_teacher(options: dict) -> None:
    module, loss = build(**options), full_loss()
    loss.cf = 1.0
    before = copy.deepcopy(module.state_dict())
    optimizer = torch.optim.Adam([p for p in module.parameters() if p.requires_grad], lr=1e-2)
    for _ in range(2):
        module.train()
        optimizer.zero_grad()
        loss(module(images()), LABEL).backward()
        optimizer.step()
    assert all(p.grad is None and not p.requires_grad for p in module.teacher.parameters())
    assert not any(part.training for part in module.teacher.modules())
    for key, value in module.state_dict().items():
        assert torch.equal(value, before[key]) == key.startswith("teacher."), key
    assert not [key for key in module.deployable.state_dict() if "pooled" in key]


def test_terms_alone_reach_the_student_and_the_adapters_it_has() -> None:
    module = build(pairing="late", k=2)
    for term in (Align(), Cosine()):
        module.zero_grad()
        term(*module(images())).backward()
        assert all(p.grad.abs().sum() > 0 for p in module.pooled.parameters())
        assert module.student.stages[0][0].weight.grad.abs().sum() > 0
    module.zero_grad()
    module(images())[0].output.sum().backward()  # no term reads the adapters: a gradient of zeros, for DDP
    assert all(p.grad is not None and (p.grad == 0).all() for p in module.pooled.parameters())
    none = build(pairing="late", k=2, adapters=False)
    assert none(images())[0].adapted == [] and none.pooled is None


def test_the_student_learns_what_the_teacher_knows_about_images_without_labels() -> None:
    """The align term alone: a linear probe of the student's features finds the teacher's within a few steps."""
    module = build(pairing="late", k=1)
    optimizer = torch.optim.Adam([p for p in module.parameters() if p.requires_grad], lr=1e-2)
    values = []
    for step in range(60):
        value = Align()(*module(images(16, seed=step % 2)))
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        values.append(value.item())
    assert sum(values[-4:]) / 4 < 0.6 * sum(values[2:6]) / 4


def test_bfloat16_compares_in_float32() -> None:
    module, loss = build(pairing="late", k=2), full_loss()
    loss.cf = 1.0
    with torch.autocast("cpu", dtype=torch.bfloat16):
        student, teacher = module(images())
    value = loss((student, teacher), LABEL)
    assert all(t.dtype == torch.float32 for t in teacher.adapted)
    value.backward()
    assert value.isfinite() and all(p.grad.isfinite().all() for p in module.student.parameters())


def test_compile_of_a_training_step() -> None:
    torch.compiler.reset()
    module = build(pairing="late", k=2)
    compiled = torch.compile(module, fullgraph=True, backend="eager")
    Align()(*compiled(images())).backward()
    assert all(p.grad is not None for p in module.pooled.parameters())
    torch.compiler.reset()


def test_pair_blocks_and_adapters_need_nothing_but_specs() -> None:
    student, teacher = tiny().level_specs, joint().level_specs
    assert pair_blocks(student, teacher, pairing="late", k=2) == [(1, 1), (2, 2)]
    adapters = PooledAdapters([(2, 3)])
    assert isinstance(adapters.adapters[0], nn.Linear)
    (s,), (t,) = adapters([torch.randn(4, 2, 5, 5)], [torch.randn(4, 3, 2, 2)])
    assert s.shape == t.shape == (4, 3) and not t.requires_grad
