# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections import Counter
from pathlib import Path

import h5py
import numpy as np
import pytest

from common.data.figshare import FACTS, cases
from common.data.fold import split_items
from common.phantoms.layouts import write_dataset


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_dataset("figshare", tmp_path, cases=15, size=16)


def _set(path: Path, field: str, value: np.ndarray) -> None:
    with h5py.File(path, "a") as file:
        del file[field]
        file[field] = value


def test_slices_are_listed_by_patient_with_the_published_fold(root: Path) -> None:
    items = cases(root)
    assert Counter(item["label"] for item in items) == {"1": 10, "2": 10, "3": 10}
    assert {item["case"] for item in items} == {f"figshare/{100000 + n}" for n in range(1, 16)}
    assert Counter(FACTS.class_of(item) for item in items) == {0: 10, 1: 10, 2: 10}
    with h5py.File(root / "cvind.mat") as file:
        published = file["cvind"][0]
    for item in items:
        assert item["fold"] == published[int(Path(item["image"]).stem) - 1] - 1
    assert {(item["fold"], item["label"]) for item in items} == {(fold, label) for fold in range(5) for label in "123"}


def test_the_published_folds_are_the_splits(root: Path) -> None:
    items = cases(root)
    for fold in range(5):
        test = split_items(FACTS, items, fold=fold).test
        assert test == sorted({item["case"] for item in items if item["fold"] == fold})


def test_a_fold_number_that_is_none_and_a_patient_in_two_folds_are_refused(root: Path) -> None:
    with h5py.File(root / "cvind.mat") as file:
        folds = file["cvind"][()]
    folds[0, 1] = 4
    _set(root / "cvind.mat", "cvind", folds)
    with pytest.raises(ValueError, match="patient figshare/100001 is published in two folds"):
        split_items(FACTS, cases(root), fold=0)
    folds[0, 1] = 6
    _set(root / "cvind.mat", "cvind", folds)
    with pytest.raises(ValueError, match=r"cvind\.mat holds fold numbers other than 1 to 5"):
        cases(root)


def test_a_slice_without_its_fields_or_of_an_unknown_label_is_refused_by_name(root: Path) -> None:
    path = root / "brainTumorDataPublic_1-766" / "3.mat"
    _set(path, "cjdata/label", np.array([[4.0]]))
    (item,) = [item for item in cases(root) if item["label"] == "4"]
    with pytest.raises(ValueError, match=r"3\.mat has the label '4'"):
        FACTS.class_of(item)
    with h5py.File(path, "a") as file:
        del file["cjdata"]
    with pytest.raises(ValueError, match=r"3\.mat holds no field cjdata/label; it has none"):
        cases(root)


def test_missing_or_misnamed_files_are_refused_by_name(root: Path) -> None:
    folder = root / "brainTumorDataPublic_1-766"
    (folder / "2.mat").rename(folder / "31.mat")
    with pytest.raises(ValueError, match=r"31\.mat is not one of 1\.mat to 30\.mat, once each"):
        cases(root)
    (folder / "31.mat").rename(root / "1.mat")
    with pytest.raises(ValueError, match=r"/1\.mat is not one of 1\.mat to 30\.mat, once each"):
        cases(root)
    (root / "1.mat").unlink()
    with pytest.raises(FileNotFoundError, match=r"cvind\.mat numbers 30 slices, .* holds 29\. Download"):
        cases(root)
    (root / "cvind.mat").unlink()
    with pytest.raises(FileNotFoundError, match=r"holds no cvind\.mat, the indices of the published folds"):
        cases(root)
