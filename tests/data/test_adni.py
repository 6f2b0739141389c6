# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections import Counter
from pathlib import Path

import nibabel
import pandas as pd
import pytest

from common.data.adni import FACTS, cases
from common.phantoms.layouts import write_dataset


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_dataset("adni", tmp_path, cases=6, size=16, slices=4)


def _edit(root: Path, row: int, **cells: str) -> None:
    table = pd.read_csv(root / "phantom_collection.csv", dtype=str, keep_default_na=False)
    for column, value in cells.items():
        table.loc[row, column.replace("_", " ")] = value
    table.to_csv(root / "phantom_collection.csv", index=False)


def test_volumes_are_matched_to_the_table_by_image_id(root: Path) -> None:
    (root / "ADNIMERGE.csv").write_text("RID,PTID\n1,001_S_0001\n")
    items = cases(root)
    assert [item["case"] for item in items] == [f"adni/{n:03d}_S_{n:04d}" for n in range(1, 7)]
    assert [item["volume"] for item in items] == [f"I{45000 + n}" for n in range(1, 7)]
    assert all(item["image"].endswith(item["volume"] + ".nii") for item in items)
    assert Counter(item["label"] for item in items) == {"CN": 2, "MCI": 2, "AD": 2}
    assert {nibabel.aff2axcodes(nibabel.load(item["image"]).affine) for item in items} == {("P", "S", "R")}


def test_early_and_late_impairment_are_one_class_and_concern_alone_is_none(root: Path) -> None:
    _edit(root, 0, Group="EMCI", Image_Data_ID="45001")  # ids are written with and without the I
    _edit(root, 1, Group="LMCI")
    _edit(root, 2, Group="SMC")
    _edit(root, 3, Modality="PET")
    assert [FACTS.class_of(item) for item in cases(root)] == [1, 1, None, 1, 2]
    _edit(root, 4, Group="Patient")
    item = cases(root)[3]
    with pytest.raises(ValueError, match=r"phantom_collection\.csv, row 6: .*I45005\.nii has the label 'Patient'"):
        FACTS.class_of(item)


def test_a_row_without_file_and_a_file_without_row_are_refused_by_name(root: Path) -> None:
    _edit(root, 2, Image_Data_ID="I99")
    with pytest.raises(FileNotFoundError, match=r"phantom_collection\.csv, row 4 lists image I99, of which .* holds no file"):
        cases(root)
    _edit(root, 2, Image_Data_ID="I45001")
    with pytest.raises(ValueError, match=r"row 4 says that .*I45001\.nii is of subject '003_S_0003'"):
        cases(root)
    _edit(root, 2, Subject="001_S_0001", Group="CN")
    with pytest.raises(ValueError, match=r"I45003\.nii is not in .*phantom_collection\.csv, so that its group is unknown"):
        cases(root)


def test_tables_and_names_that_cannot_be_used_are_refused_by_name(root: Path) -> None:
    (path,) = root.rglob("*I45006.nii")
    twin = path.rename(path.with_name("ADNI_006_S_0006_MR_I45005.nii"))
    with pytest.raises(ValueError, match=r"are both image I45005"):
        cases(root)
    twin.rename(path.with_name("scan.nii"))
    with pytest.raises(ValueError, match=r"no image id can be read from the name of .*scan\.nii"):
        cases(root)
    (root / "other.csv").write_text('"Image Data ID","Subject"\n')
    with pytest.raises(ValueError, match=r"other\.csv and .*phantom_collection\.csv are both tables of a collection"):
        cases(root)
    (root / "phantom_collection.csv").unlink()
    (root / "other.csv").unlink()
    with pytest.raises(FileNotFoundError, match="holds no CSV with a column `Image Data ID`"):
        cases(root)
