# SPDX-License-Identifier: Apache-2.0
"""Every stage of the cardiac and pneumonia bundles on tiny phantoms, as calls of `monai.bundle.run`."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import monai.bundle
import pytest
import torch

from common.phantoms.layouts import write_dataset

ROOT = Path(__file__).parents[1]
CONFIGS = {
    "alone": "teacher_{target}/configs/train.yaml",
    "adapt": "teacher_{source}/configs/adapt.yaml",
    "joint": "joint_teacher_{group}/configs/train.yaml",
    "distill": "student_{target}/configs/distill.yaml",
    "distill_wide": "student_{target}/configs/distill.yaml",
    "multi_head": "multi_head_{group}/configs/train.yaml",
}
RUNS = {
    "alone": "teacher_{target}/alone/0",
    "adapt": "teacher_{source}/for_{target}/0",
    "joint": "joint_teacher_{group}/for_{target}/0",
    "distill": "student_{target}/distill/0",
    "distill_wide": "student_{target}/distill_wide/0",
    "multi_head": "multi_head_{group}/for_{target}/0",
}
GROUPS: dict[str, dict[str, Any]] = {
    "cardiac": {"target": "acdc", "source": "sunnybrook", "cases": 8, "network": {"unet::features": [4, 4, 8, 8, 8, 4]}},
    "pneumonia": {
        "target": "kermany",
        "source": "nih",
        "cases": 15,
        "network": {"networks::EfficientNet::variant": "test_efficientnet"},
    },
}


class TinyStages:
    """The stages of a group on phantoms of 32 pixels with tiny networks; `stages` and `run_dirs` are keyed by stage.

    `data` is written once a session; each set of runs is a folder of its own and shares one slice store.
    """

    stages = tuple(CONFIGS)

    def __init__(self, root: Path, group: str = "cardiac") -> None:
        self.data, self.store = root / "data", root / "store"
        self.group, facts = group, GROUPS[group]
        self.target, self.source, self.network = facts["target"], facts["source"], facts["network"]
        self.names = {"group": group, "target": self.target, "source": self.source}
        for name in (self.target, self.source):
            write_dataset(name, str(self.data), cases=facts["cases"], size=32, slices=4, seed=0)

    def run_dir(self, stage: str, runs: Path) -> Path:
        return runs / RUNS[stage].format(**self.names)

    def job(self, stage: str, runs: Path, *, teachers: Path, **overrides: Any) -> dict[str, Any]:
        """Arguments of `monai.bundle.run`; `teachers` is the folder of runs that hold what the stage is taught by."""
        own: dict[str, Any] = {
            "data_dir": str(self.data),
            "store_dir": str(self.store),
            "runs_dir": str(runs),
            "image_size": 32,
            "batch_size": 4,
            "epoch_length": 2,
            "max_epochs": 4,
            "select_from": 1,
            "teacher_floor": 0,
        } | self.network
        if stage in ("adapt", "joint", "multi_head"):
            own["target"] = self.target
        if stage in ("joint", "multi_head"):
            own["sources"] = [self.source]
        if stage == "joint":
            own["teachers"] = [str(self.run_dir("alone", teachers)), str(self.run_dir("adapt", teachers))]
        if stage.startswith("distill"):
            own |= {"teacher": str(self.run_dir("joint", teachers)), "warmup": 0, "ramp": 2}
        if stage == "distill_wide":
            own |= {"variant": stage, "wide": True}
        own |= overrides
        if stage == "joint":  # its network is made of its teachers
            own = {key: value for key, value in own.items() if not key.startswith(("unet", "networks"))}
        return {"run_id": "training", "config_file": f"bundles/{CONFIGS[stage].format(**self.names)}"} | own

    def train(self, stage: str, runs: Path, *, teachers: Path, **overrides: Any) -> Path:
        """Train in this process, on one thread; returns the run's folder."""
        monai.bundle.run(**self.job(stage, runs, teachers=teachers, **overrides))
        return self.run_dir(stage, runs)


@pytest.fixture(scope="session")
def one_thread() -> Iterator[None]:
    """Runs in this process, from the repository's root, on one thread."""
    threads, level = torch.get_num_threads(), logging.root.level
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        yield
    torch.set_num_threads(threads)
    logging.root.setLevel(level)


@pytest.fixture(scope="session")
def tiny_stages(one_thread: None, tmp_path_factory: pytest.TempPathFactory) -> TinyStages:
    return TinyStages(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="session")
def tiny_classifiers(one_thread: None, tmp_path_factory: pytest.TempPathFactory) -> TinyStages:
    return TinyStages(tmp_path_factory.mktemp("tiny_classifiers"), "pneumonia")
