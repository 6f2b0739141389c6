# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from monai.transforms import LoadImage
from PIL import Image

from common.data.table import cases
from common.phantoms.layouts import write_dataset


def _labels(root: Path) -> list[np.ndarray]:
    return [np.asarray(Image.open(root / name)) for name in pd.read_csv(root / "index.csv")["mask"]]


@pytest.mark.parametrize(("name", "values"), [("acdc", {0, 1, 2, 3}), ("sunnybrook", {0, 1})])
def test_a_table_of_slices_is_a_set_of_images_a_patient(name: str, values: set[int], tmp_path: Path) -> None:
    root = write_dataset(name, tmp_path, cases=2, size=24, slices=5)
    assert list(pd.read_csv(root / "index.csv").columns) == ["image", "mask", "case_id"]
    items = cases(root, name)
    assert len(items) == 2 * 2 * 5  # patients, frames, slices
    assert {item["case"] for item in items} == {f"{name}/patient001", f"{name}/patient002"}
    assert {item["volume"] for item in items} == {""}
    masks = _labels(root)
    assert set(np.unique(masks).tolist()) == values
    assert any(mask.any() for mask in masks) and not all(mask.any() for mask in masks)
    assert Image.open(items[0]["image"]).size == (24, 24)


def test_the_left_ventricle_is_drawn_by_the_same_rule_in_both(tmp_path: Path) -> None:
    for name, value in (("acdc", 3), ("sunnybrook", 1)):
        root = write_dataset(name, tmp_path, cases=3, size=32, slices=5)
        cavity, wall = [], []
        for image, mask in zip(pd.read_csv(root / "index.csv")["image"], _labels(root), strict=True):
            pixels = np.asarray(Image.open(root / image)).astype(float)
            cavity += pixels[mask == value].tolist()
            wall += pixels[mask == 0].tolist()
        assert np.mean(cavity) > np.mean(wall)


def test_a_table_with_volume_slice_and_spacing_is_put_back_to_volumes(tmp_path: Path) -> None:
    root = write_dataset("acdc_volumes", tmp_path, cases=2, size=16, slices=4)
    items = cases(root, "acdc_volumes")
    assert [(item["case"], item["volume"]) for item in items] == [
        (f"acdc_volumes/patient00{patient}", frame) for patient in (1, 2) for frame in ("frame01", "frame12")
    ]
    for item in items:
        assert len(item["image"]) == len(item["label"]) == 4
        assert len(item["spacing"]) == 3


def test_a_table_of_dicom_series_holds_folders(tmp_path: Path) -> None:
    root = write_dataset("lits_dicom", tmp_path, cases=2, size=16, slices=4)
    for item in cases(root, "lits_dicom"):
        assert len(list(Path(item["image"]).glob("*.dcm"))) == 4
        assert item["volume"] == "ct"
        image, mask = (LoadImage(image_only=True)(item[key]) for key in ("image", "label"))
        np.testing.assert_allclose(image.affine, mask.affine, atol=1e-3)
        assert image[mask == 2].mean() > image[mask == 1].mean() > image[mask == 0].mean()
