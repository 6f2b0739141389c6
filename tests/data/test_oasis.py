# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path

import pytest

from common.data.oasis import FACTS, cases
from common.phantoms.layouts import write_dataset


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_dataset("oasis", tmp_path, cases=8, size=16, slices=5)


def test_every_slice_is_listed_under_its_subject(root: Path) -> None:
    items = cases(root)
    assert Counter(item["label"] for item in items) == dict.fromkeys(FACTS.label_values, 10)
    assert Counter(item["case"] for item in items) == {f"oasis/OAS1_{n:04d}": 5 for n in range(1, 9)}
    assert Counter(FACTS.class_of(item) for item in items) == dict.fromkeys(range(4), 10)
    assert {len({i["label"] for i in items if i["case"] == case}) for case in {i["case"] for i in items}} == {1}


def test_a_second_session_and_repeat_are_of_the_same_subject(root: Path) -> None:
    for name in ("OAS1_0001_MR2_mpr-1_100.jpg", "OAS1_0001_MR1_mpr-4_160.jpg"):
        (root / "Data" / "Non Demented" / name).touch()
    assert sum(item["case"] == "oasis/OAS1_0001" for item in cases(root)) == 7


def test_a_scan_in_two_folders_is_refused(root: Path) -> None:
    moved = root / "Data" / "Mild Dementia" / "OAS1_0001_MR1_mpr-1_103.jpg"
    shutil.move(root / "Data" / "Non Demented" / moved.name, moved)
    with pytest.raises(ValueError, match=r"OAS1_0001_MR1_mpr-1_10\d\.jpg are of one scan \(OAS1_0001_MR1\) but of two ratings"):
        cases(root)


def test_an_incomplete_layout_or_a_name_without_subject_is_refused_by_name(root: Path) -> None:
    (root / "Data" / "Non Demented" / "slice_1.jpg").touch()
    with pytest.raises(ValueError, match=r"no subject can be read from the name of .*slice_1\.jpg; .*Download"):
        cases(root)
    (root / "Data" / "Non Demented" / "slice_1.jpg").unlink()
    shutil.rmtree(root / "Data" / "Moderate Dementia")
    with pytest.raises(FileNotFoundError, match=r"holds no images in the folder\(s\) Moderate Dementia\. Download"):
        cases(root)
    shutil.rmtree(root / "Data")
    with pytest.raises(FileNotFoundError, match=r"oasis holds no labelled image\. Download"):
        cases(root)
