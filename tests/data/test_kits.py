# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pytest

from common.data.kits import cases
from common.phantoms.layouts import write_dataset


def test_a_case_of_the_test_set_may_lack_a_mask_and_a_training_case_may_not(tmp_path: Path) -> None:
    write_dataset("kits", tmp_path, cases=2, size=16, slices=4)
    (tmp_path / "kits/data/case_00210").mkdir()
    (tmp_path / "kits/data/case_00210/imaging.nii.gz").touch()
    assert [item["case"] for item in cases(tmp_path / "kits")] == ["kits/case_00000", "kits/case_00001"]
    (tmp_path / "kits/data/case_00209").mkdir()
    (tmp_path / "kits/data/case_00209/imaging.nii.gz").touch()
    with pytest.raises(FileNotFoundError, match=r"case_00209/imaging\.nii\.gz has no mask"):
        cases(tmp_path / "kits")


def test_a_clone_without_images_says_how_to_get_them(tmp_path: Path) -> None:
    (tmp_path / "data/case_00000").mkdir(parents=True)
    (tmp_path / "data/case_00000/segmentation.nii.gz").touch()
    with pytest.raises(FileNotFoundError, match="get_imaging"):
        cases(tmp_path)


def test_slices_lie_on_the_first_axis_and_the_affine_says_so(tmp_path: Path) -> None:
    (item,) = cases(write_dataset("kits", tmp_path, cases=1, size=16, slices=4))
    image = nibabel.load(item["image"])
    assert image.shape == (4, 16, 16)
    affine = image.affine[:3, :3]
    pixel, thickness = -affine[0, 2], -affine[2, 0]
    np.testing.assert_allclose(affine, [[0, 0, -pixel], [0, -pixel, 0], [-thickness, 0, 0]], atol=1e-6)
    assert pixel > 0 and thickness > 0
    assert nibabel.as_closest_canonical(image).shape == (16, 16, 4)
