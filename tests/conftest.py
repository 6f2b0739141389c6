# SPDX-License-Identifier: Apache-2.0
"""Every stage of the cardiac bundles on tiny phantoms, as calls of `monai.bundle.run`."""

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
    "alone": "teacher_acdc/configs/train.yaml",
    "adapt": "teacher_sunnybrook/configs/adapt.yaml",
    "joint": "joint_teacher_cardiac/configs/train.yaml",
    "distill": "student_acdc/configs/distill.yaml",
    "distill_wide": "student_acdc/configs/distill.yaml",
    "multi_head": "multi_head_cardiac/configs/train.yaml",
}
RUNS = {
    "alone": "teacher_acdc/alone/0",
    "adapt": "teacher_sunnybrook/for_acdc/0",
    "joint": "joint_teacher_cardiac/for_acdc/0",
    "distill": "student_acdc/distill/0",
    "distill_wide": "student_acdc/distill_wide/0",
    "multi_head": "multi_head_cardiac/for_acdc/0",
}


class TinyStages:
    """The stages on phantoms of 32 pixels with networks of 4 to 8 channels; `stages` and `run_dirs` are keyed by stage.

    `data` is written once a session; each set of runs is a folder of its own and shares one slice store.
    """

    stages = tuple(CONFIGS)

    def __init__(self, root: Path) -> None:
        self.data, self.store = root / "data", root / "store"
        for name in ("acdc", "sunnybrook"):
            write_dataset(name, str(self.data), cases=8, size=32, slices=4, seed=0)

    def run_dir(self, stage: str, runs: Path) -> Path:
        return runs / RUNS[stage]

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
            "unet::features": [4, 4, 8, 8, 8, 4],
        }
        if stage in ("adapt", "joint", "multi_head"):
            own["target"] = "acdc"
        if stage in ("joint", "multi_head"):
            own["sources"] = ["sunnybrook"]
        if stage == "joint":
            own["teachers"] = [str(self.run_dir("alone", teachers)), str(self.run_dir("adapt", teachers))]
            del own["unet::features"]
        if stage.startswith("distill"):
            own |= {"teacher": str(self.run_dir("joint", teachers)), "warmup": 0, "ramp": 2}
        if stage == "distill_wide":
            own |= {"variant": stage, "wide": True}
        own |= {key: value for key, value in overrides.items() if stage != "joint" or not key.startswith("unet")}
        return {"run_id": "training", "config_file": f"bundles/{CONFIGS[stage]}"} | own

    def train(self, stage: str, runs: Path, *, teachers: Path, **overrides: Any) -> Path:
        """Train in this process, on one thread; returns the run's folder."""
        monai.bundle.run(**self.job(stage, runs, teachers=teachers, **overrides))
        return self.run_dir(stage, runs)


@pytest.fixture(scope="session")
def tiny_stages(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TinyStages]:
    threads, level = torch.get_num_threads(), logging.root.level
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        yield TinyStages(tmp_path_factory.mktemp("tiny"))
    torch.set_num_threads(threads)
    logging.root.setLevel(level)
