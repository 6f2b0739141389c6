# SPDX-License-Identifier: Apache-2.0
"""Sizes of networks, images and training: as published, for two CPU cores in hours, for two CPU cores in minutes."""

from __future__ import annotations

from typing import Any

__all__ = ["PRESETS"]

PLATEAU = {"_target_": "torch.optim.lr_scheduler.ReduceLROnPlateau", "optimizer": "@optimizer", "mode": "max"}
DECAY: dict[str, Any] = {"_target_": "torch.optim.lr_scheduler.PolynomialLR", "optimizer": "@optimizer"}
DECAY |= {"total_iters": "@max_epochs", "power": 0.9}


def _training(image: int, batch: int, steps: int, epochs: int, rate: float, scheduler: dict[str, Any]) -> dict[str, Any]:
    training = {"image_size": image, "batch_size": batch, "epoch_length": steps, "max_epochs": epochs}
    return training | {"learning_rate": rate, "scheduler": scheduler}


# Of a group's classification networks the group file names the architectures, and may set any of these a dataset, as
# tables 9 and 12 of multi-dataset cross-domain distillation do, and section 3 of cross-architecture distillation (figshare).
CLASSIFIER = {
    "teacher": "EfficientNet",
    "student": "EfficientNet",
    "medvit": "small",
    "dropout": 0.2,
    "attention_dropout": 0.0,
    "learning_rate": None,  # the preset's
    "weight_decay": 0.01,
    "student_learning_rate": None,
    "student_weight_decay": 0.01,
    "baseline_learning_rate": None,  # the student's; of the student's network where it is not distilled
    "baseline_weight_decay": None,  # the student's
    "joint_ch": 256,
    "fa_blocks": 3,
    "joint_learning_rate": None,
    "joint_weight_decay": 0.01,
    "class_weights": True,  # of students
    "alpha": 0.5,
    "temperature": 2.0,
    "warmup": 5,
    "ramp": 10,
    "ceiling": 1.0,
    "gamma": 0.3,
    "delta": 0.1,
    "kappa": 0.4,
    "geometric": 0.0,
    "upright": False,
}

PRESETS: dict[str, dict[str, dict[str, Any]]] = {
    "paper": {
        "segmentation": {
            "training": _training(256, 8, 250, 300, 0.0001, PLATEAU | {"factor": 0.1, "patience": 5}),
            "teacher": {"features": [64, 128, 256, 512, 1024, 64], "width": 64},
            "student": {"features": [32, 64, 128, 256, 512, 32], "width": 32},
        },
        "classification": {
            "training": _training(224, 16, 250, 100, 0.0001, PLATEAU | {"factor": 0.1, "patience": 5}),
            "variants": {"EfficientNet": "efficientnet_b0"},
        },
    },
    "small": {
        "segmentation": {
            "training": _training(96, 8, 75, 20, 0.001, DECAY),
            "teacher": {"features": [16, 32, 64, 128, 128, 16], "width": 16},
            "student": {"features": [8, 16, 32, 64, 64, 8], "width": 8},
        },
        "classification": {
            "training": _training(128, 8, 75, 20, 0.001, DECAY),
            "variants": {"EfficientNet": "efficientnet_b0"},
        },
    },
    "demo": {
        "segmentation": {
            "training": _training(48, 8, 30, 20, 0.002, DECAY),
            "teacher": {"features": [8, 16, 32, 64, 64, 8], "width": 8},
            "student": {"features": [8, 8, 16, 32, 32, 8], "width": 4},
        },
        "classification": {
            "training": _training(64, 8, 30, 20, 0.002, DECAY),  # so many that the curriculum ends
            "variants": {"EfficientNet": "test_efficientnet"},  # the smallest that timm has
        },
    },
}
