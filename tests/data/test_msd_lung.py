# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path

from common.data.dataset_json import classes
from common.data.msd_lung import FACTS, cases
from common.phantoms.layouts import write_dataset


def test_the_root_is_the_task_or_the_folder_above(tmp_path: Path) -> None:
    root = write_dataset("msd_lung", tmp_path, cases=2, size=16, slices=4)
    assert cases(root) == cases(root / "Task06_Lung")
    assert [item["case"] for item in cases(root)] == ["msd_lung/lung_001", "msd_lung/lung_002"]


def test_the_json_agrees_with_the_facts(tmp_path: Path) -> None:
    root = write_dataset("msd_lung", tmp_path, cases=1, size=16, slices=4)
    assert list(classes(root / "Task06_Lung", name="msd_lung").values()) == list(FACTS.classes.values())
