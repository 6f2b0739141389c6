# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from common.data.brats20 import FACTS, PART_CLASSES, cases


def _case(root: Path, name: str, *files: str) -> None:
    (root / name).mkdir(parents=True)
    for file in files:
        (root / name / file).touch()


def test_reads_flair_and_the_mask_the_release_misnames(tmp_path: Path) -> None:
    name = "BraTS20_Training_355"
    images = [f"{name}_{sequence}.nii" for sequence in ("flair", "t1", "t1ce", "t2")]
    _case(tmp_path / "MICCAI_BraTS2020_TrainingData", name, *images, "W39_1998.09.19_Segm.nii")
    (item,) = cases(tmp_path)
    assert item["image"].endswith(f"{name}_flair.nii")
    assert item["label"] is not None and item["label"].endswith("W39_1998.09.19_Segm.nii")
    assert (item["case"], item["volume"]) == (f"brats20/{name}", name)


def test_leaves_the_validation_cases_out(tmp_path: Path) -> None:
    _case(tmp_path, "BraTS20_Training_001", "BraTS20_Training_001_flair.nii.gz", "BraTS20_Training_001_seg.nii.gz")
    _case(tmp_path, "BraTS20_Validation_001", "BraTS20_Validation_001_flair.nii.gz")
    assert [item["case"] for item in cases(tmp_path)] == ["brats20/BraTS20_Training_001"]


def test_the_whole_tumour_is_the_union_of_its_parts() -> None:
    parts = replace(FACTS, classes=PART_CLASSES).classes.values()
    assert {value for values in parts for value in values} == set(FACTS.classes["lesion"]) == {1, 2, 4}
