# SPDX-License-Identifier: Apache-2.0
"""Benchmarks of classification's stages 2 and 3 on EfficientNet-B0, or a `variant` that timm knows, at `size` pixels a side."""

from __future__ import annotations

import torch
from bench_timing import Row, alternate, divide, row, stepper, took
from torch.nn import CrossEntropyLoss

from common.distillation import DistillationLoss, TeacherStudent
from common.losses import Align, Cosine, SoftOutput
from common.networks import EfficientNet, FeatureNet, JointClassifier

BATCH = 8
B0 = "efficientnet_b0"


def _network(variant: str) -> FeatureNet:
    return EfficientNet(variant=variant).to(memory_format=torch.channels_last)


def _batch(size: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.rand(BATCH, 1, size, size, generator=generator), torch.arange(BATCH) % 2


def stage2(*, variant: str = B0, size: int = 128, repeats: int = 15) -> list[Row]:
    """A step of the joint classifier of three frozen teachers against one teacher's own training step."""
    joint = JointClassifier([_network(variant) for _ in range(3)], 2).to(memory_format=torch.channels_last)
    arms = {
        "joint": stepper(joint, CrossEntropyLoss(), *_batch(size)),
        "teacher": stepper(_network(variant), CrossEntropyLoss(), *_batch(size)),
    }
    seconds = alternate(arms, repeats)
    ratios, other = divide(seconds["joint"], seconds["teacher"]), f"a teacher's step {took(seconds['teacher'])}"
    return [row(f"stage 2 step, classification, three {variant}", ratios, None, took(seconds["joint"]), other)]


def stage3(*, variant: str = B0, size: int = 128, repeats: int = 15) -> list[Row]:
    """A step of late-3 distillation with eq. 16's terms against a step of the student and a forward of the teacher."""
    teacher = JointClassifier([_network(variant), _network(variant)], 2)
    terms = {"align": Align(), "cosine": Cosine(), "soft_output": SoftOutput()}
    weights = {"align": 0.3, "cosine": 0.1, "soft_output": 0.4}
    loss = DistillationLoss(task=CrossEntropyLoss(), terms=terms, weights=weights)
    loss.cf = 1.0  # the curriculum's end
    module = TeacherStudent(_network(variant), teacher, teacher_output=True, pairing="late", k=3).to(
        memory_format=torch.channels_last
    )
    image, label = _batch(size)
    frozen = JointClassifier([_network(variant), _network(variant)], 2).to(memory_format=torch.channels_last).eval()
    seconds = alternate(
        {
            "distill": stepper(module, loss, image, label),
            "student": stepper(_network(variant), CrossEntropyLoss(), image, label),
            "teacher": torch.no_grad()(lambda: frozen(image)),
        },
        repeats,
    )
    parts = [a + b for a, b in zip(seconds["student"], seconds["teacher"], strict=True)]
    name, ours = f"stage 3 step, classification, late-3, {variant}", took(seconds["distill"])
    return [row(name, divide(seconds["distill"], parts), ("at most", 1.05), ours, f"student step + teacher {took(parts)}")]
