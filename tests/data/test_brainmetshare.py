# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pytest
from PIL import Image

from common.data.brainmetshare import cases, convert
from common.phantoms.layouts import write_dataset

SLICES, ROWS, COLUMNS = 11, 6, 5


def _png_release(root: Path, *, cases_with_masks: tuple[str, ...], without: tuple[str, ...] = ()) -> np.ndarray:
    """Slice k of sequence s holds 10 s + k everywhere, and 200 in the first row's last column."""
    volumes = np.zeros((4, SLICES, ROWS, COLUMNS), np.uint8)
    volumes += (10 * np.arange(4)[:, None] + np.arange(SLICES))[..., None, None].astype(np.uint8)
    volumes[:, :, 0, -1] = 200
    for case in cases_with_masks + without:
        for part in ("0", "1", "2", "3") + (("seg",) if case in cases_with_masks else ()):
            folder = root / case / part
            folder.mkdir(parents=True)
            for k in range(SLICES):
                pixels = 255 * (volumes[0, k] == 200).astype(np.uint8) if part == "seg" else volumes[int(part), k]
                Image.fromarray(pixels).save(folder / f"{k}.png")
    return volumes


def test_the_sequence_is_an_option_and_test_cases_are_left_out(tmp_path: Path) -> None:
    root = write_dataset("brainmetshare", tmp_path, cases=2, size=16, slices=4)
    (root / "test/Mets_201").mkdir(parents=True)
    (root / "test/Mets_201/flair.nii.gz").touch()
    assert [Path(item["image"]).name for item in cases(root)] == ["flair.nii.gz"] * 2
    (root / "test/Mets_201/flair.nii.gz").rename(root / "test/Mets_201/t1_gd.nii.gz")
    assert [Path(item["image"]).name for item in cases(root, sequence="t1_gd")] == ["t1_gd.nii.gz"] * 2
    with pytest.raises(ValueError, match=r"unknown sequence 't2'; choose one of bravo, t1_pre, t1_gd, flair"):
        cases(root, sequence="t2")


def test_the_png_release_is_refused_with_the_command_that_converts_it(tmp_path: Path) -> None:
    _png_release(tmp_path / "mets_stanford_releaseMask_train", cases_with_masks=("Mets_001",))
    with pytest.raises(ValueError, match=rf"python -m common\.data\.brainmetshare {tmp_path} NEW_FOLDER"):
        cases(tmp_path)


def test_conversion_orders_slices_by_number_and_keeps_the_pictures_sides(tmp_path: Path) -> None:
    png, out = tmp_path / "png", tmp_path / "nifti"
    volumes = _png_release(png, cases_with_masks=("Mets_001",), without=("Mets_201",))
    convert(png, out)
    (item,) = cases(out)
    assert item["case"] == "brainmetshare/Mets_001" and (out / "test/Mets_201/flair.nii.gz").is_file()
    image, label = nibabel.load(item["image"]), nibabel.load(item["label"])
    np.testing.assert_array_equal(image.get_fdata(), volumes[3].transpose(2, 1, 0))
    np.testing.assert_array_equal(label.get_fdata(), (volumes[0] == 200).transpose(2, 1, 0))
    assert nibabel.aff2axcodes(image.affine) == ("L", "P", "S")
    np.testing.assert_allclose(image.header.get_zooms(), (0.94, 0.94, 1.0))
    np.testing.assert_array_equal(image.affine, label.affine)


def test_conversion_names_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"holds no Mets_XXX/0/N\.png"):
        convert(tmp_path, tmp_path / "out")
    _png_release(tmp_path, cases_with_masks=("Mets_001",))
    (tmp_path / "Mets_001/seg/4.png").unlink()
    with pytest.raises(FileNotFoundError, match=r"Mets_001/seg/4\.png is missing"):
        convert(tmp_path, tmp_path / "out")
