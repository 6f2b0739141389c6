# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path

import pytest

from common.data.covid_qu_ex import FACTS, cases
from common.phantoms.layouts import write_dataset

LUNG = Path("Lung Segmentation Data", "Lung Segmentation Data")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_dataset("covid_qu_ex", tmp_path, cases=6, size=16)


def test_images_of_all_parts_are_listed_without_masks_each_a_case(root: Path) -> None:
    assert len(list(root.rglob("lung masks/*.png"))) == 18
    items = cases(root)
    assert Counter(item["label"] for item in items) == {"Normal": 6, "Non-COVID": 6, "COVID-19": 6}
    assert len({item["case"] for item in items}) == 18
    assert all(Path(item["image"]).parent.name == "images" for item in items)
    assert {FACTS.class_of(item) for item in items} == {0, 1, 2}


def test_the_infection_subset_is_left_out_and_a_subject_in_the_name_is_the_patient(root: Path) -> None:
    copy = root / "Infection Segmentation Data" / "Infection Segmentation Data"
    shutil.copytree(root / LUNG / "Train" / "COVID-19", copy / "Train" / "COVID-19")
    folder = root / LUNG / "Test" / "COVID-19" / "images"
    for name in ("sub-S03936_ses-E08636_run-1.png", "sub-S03936_ses-E09999_run-1.png"):
        (folder / name).touch()
    items = cases(root)
    assert len(items) == 20
    assert sum(item["case"] == "covid_qu_ex/sub-S03936" for item in items) == 2


def test_the_folder_with_the_three_parts_may_be_given_itself(root: Path) -> None:
    assert [i["case"] for i in cases(root / LUNG)] == [i["case"] for i in cases(root)]


def test_an_incomplete_or_shuffled_layout_is_refused_by_name(root: Path) -> None:
    stray = root / LUNG / "images" / "x.png"
    stray.parent.mkdir()
    stray.touch()
    with pytest.raises(ValueError, match=r"images/x\.png lies in no folder of this dataset; .*Download"):
        cases(root)
    shutil.rmtree(stray.parent)
    shutil.rmtree(root / LUNG / "Val" / "Normal")
    with pytest.raises(FileNotFoundError, match=r"holds no images in Val/Normal/images\. Download"):
        cases(root)
    shutil.rmtree(root / LUNG)
    with pytest.raises(FileNotFoundError, match=r"covid_qu_ex holds no labelled image\. Download"):
        cases(root)


def test_an_unknown_class_folder_is_refused_with_its_image(root: Path) -> None:
    folder = root / LUNG / "Train" / "Influenza" / "images"
    folder.mkdir(parents=True)
    (folder / "x.png").touch()
    (item,) = [item for item in cases(root) if item["label"] == "Influenza"]
    with pytest.raises(ValueError, match=r"Influenza/images/x\.png has the label 'Influenza'"):
        FACTS.class_of(item)
