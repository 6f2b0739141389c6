# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from common.data.covid_collection import COVID, FACTS, THREE_CLASSES, cases
from common.phantoms.layouts import write_dataset


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_dataset("covid_collection", tmp_path, cases=6, size=16)


def _edit(root: Path, row: int, **cells: str) -> None:
    table = pd.read_csv(root / "metadata.csv", dtype=str, keep_default_na=False)
    for column, value in cells.items():
        table.loc[row, column] = value
    table.to_csv(root / "metadata.csv", index=False)


def test_frontal_radiographs_are_listed_with_the_first_level_of_their_finding(root: Path) -> None:
    items = cases(root)
    assert Counter(item["label"] for item in items) == {COVID: 6, "Pneumonia": 4, "No Finding": 2}
    assert len({item["case"] for item in items}) == 6
    assert not any("-L" in item["image"] for item in items)
    assert Counter(FACTS.class_of(item) for item in items) == {0: 6, 1: 6}
    assert Counter(replace(FACTS, classes=THREE_CLASSES).class_of(item) for item in items) == {0: 2, 1: 4, 2: 6}


def test_ct_other_views_and_open_findings_are_in_no_class(root: Path) -> None:
    _edit(root, 0, modality="CT", folder="volumes", filename="not-there.nii.gz")
    _edit(root, 1, view="AP Supine")
    _edit(root, 3, finding="todo")
    _edit(root, 4, finding="Pneumonia/Viral/Herpes ")
    items = cases(root)
    assert len(items) == 10
    assert [FACTS.class_of(item) for item in items if item["case"] == "covid_collection/2"] == [0, None]


def test_an_unknown_finding_names_its_row(root: Path) -> None:
    _edit(root, 3, finding="COVID-19, ARDS")
    (item,) = [item for item in cases(root) if item["label"] == "COVID-19, ARDS"]
    with pytest.raises(ValueError, match=r"metadata\.csv, row 5: .*has the label 'COVID-19, ARDS'"):
        FACTS.class_of(item)


def test_a_missing_table_column_image_or_patient_is_refused_by_name(root: Path) -> None:
    _edit(root, 3, patientid="")
    with pytest.raises(ValueError, match=r"metadata\.csv, row 5 has no patient id"):
        cases(root)
    (root / "images" / "case-0001-PA.jpg").unlink()
    with pytest.raises(FileNotFoundError, match=r"metadata\.csv, row 2 lists .*case-0001-PA\.jpg, which does not exist"):
        cases(root)
    pd.read_csv(root / "metadata.csv").drop(columns="view").to_csv(root / "metadata.csv")
    with pytest.raises(ValueError, match=r"metadata\.csv lacks the column\(s\) view\. Clone"):
        cases(root)
    (root / "metadata.csv").unlink()
    with pytest.raises(FileNotFoundError, match=r"metadata\.csv does not exist\. Clone"):
        cases(root)
