# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest

from common.data.covidx_cxr3 import FACTS, cases
from common.phantoms.layouts import write_dataset

TRAIN, TEST = "train_COVIDx_CXR-3A.txt", "test_COVIDx_CXR-3A.txt"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_dataset("covidx_cxr3", tmp_path, cases=6, size=16)


def test_both_lists_are_read_by_patient(root: Path) -> None:
    items = cases(root)
    assert Counter(item["label"] for item in items) == {"normal": 4, "pneumonia": 4, "COVID-19": 4}
    assert len({item["case"] for item in items}) == 6
    assert {Path(item["image"]).parent.name for item in items} == {"train", "test"}
    assert {FACTS.class_of(item) for item in items} == {0, 1, 2}
    assert {item["volume"] for item in items} == {""}


def test_names_with_blanks_are_read_and_copies_of_the_collection_and_unlisted_images_are_not(root: Path) -> None:
    (root / "train" / "COVID (1).png").touch()
    (root / "train" / "unlisted.png").touch()
    with (root / TRAIN).open("a") as file:
        file.write("\nP1 COVID (1).png COVID-19 fig1\n2 auntminnie.jpeg COVID-19 cohen\n")
    items = cases(root)
    assert len(items) == 13
    assert [item["image"] for item in items if item["case"] == "covidx_cxr3/P1"] == [str(root / "train" / "COVID (1).png")]


def test_the_lists_of_the_download_are_read_where_the_three_class_lists_are_missing(root: Path) -> None:
    for old, new in ((TRAIN, "train.txt"), (TEST, "test.txt")):
        (root / new).write_text(re.sub(r"normal|pneumonia", "negative", (root / old).read_text()))
        (root / old).unlink()
    (item, *_) = [item for item in cases(root) if item["label"] == "negative"]
    with pytest.raises(
        ValueError, match=r"train\.txt, line \d+: .*has the label 'negative'; dataset covidx_cxr3 knows 'normal'"
    ):
        FACTS.class_of(item)


def test_a_missing_list_image_or_field_is_refused_by_name(root: Path) -> None:
    (image,) = root.glob("test/*-0.png")
    image.unlink()
    with pytest.raises(FileNotFoundError, match=rf"{TEST}, line 1 lists .*{image.name}, which does not exist"):
        cases(root)
    (root / TRAIN).write_text("P1 x.png COVID-19\n")
    with pytest.raises(ValueError, match=f"{TRAIN}, line 1 is not `patient filename class source`"):
        cases(root)
    (root / TRAIN).unlink()
    with pytest.raises(FileNotFoundError, match=rf"has no {TRAIN} or train\.txt\. Download"):
        cases(root)
    with pytest.raises(FileNotFoundError, match="absent does not exist"):
        cases(root / "absent")


def test_an_image_listed_with_two_labels_is_refused(root: Path) -> None:
    lines = (root / TEST).read_text().splitlines()
    (root / TEST).write_text("\n".join([*lines, lines[0].replace("pneumonia", "normal")]))
    with pytest.raises(ValueError, match=f"{TEST}, line 1 and .*{TEST}, line 3 differ"):
        cases(root)
