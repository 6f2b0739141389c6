# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path

from common.data.acdc import FACTS, PART_CLASSES, cases


def test_a_case_is_a_patient_a_volume_a_frame_and_the_rest_is_not_read(tmp_path: Path) -> None:
    for part, patient in (("training", "patient001"), ("testing", "patient101")):
        folder = tmp_path / "database" / part / patient
        folder.mkdir(parents=True)
        for name in ("frame01", "frame01_gt", "frame12", "frame12_gt", "4d"):
            (folder / f"{patient}_{name}.nii.gz").touch()
        (folder / "Info.cfg").touch()
    assert [(item["case"], item["volume"]) for item in cases(tmp_path)] == [
        ("acdc/patient001", "frame01"),
        ("acdc/patient001", "frame12"),
    ]


def test_the_default_is_the_left_ventricle_read_in_the_files_own_axes() -> None:
    assert FACTS.classes == {"lv": PART_CLASSES["lv"]} == {"lv": (3,)}
    assert (FACTS.orientation, FACTS.slice_axis) == (None, 2)
