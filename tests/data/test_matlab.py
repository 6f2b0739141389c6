# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
from monai.transforms import LoadImage
from PIL import Image

from common.data.matlab import MatReader, read_field


def test_an_image_reads_as_the_png_of_the_same_picture(tmp_path: Path) -> None:
    rows = np.random.default_rng(0).integers(0, 256, (5, 7), np.uint8)  # as MATLAB and a picture show it
    Image.fromarray(rows).save(tmp_path / "a.png")
    with h5py.File(tmp_path / "1.mat", "w") as file:
        file["cjdata/image"] = rows.T  # as MATLAB stores it
    load = LoadImage(image_only=True, ensure_channel_first=True)
    load.register(MatReader())
    mat, png = load(tmp_path / "1.mat"), load(tmp_path / "a.png")
    assert mat.shape == png.shape == (1, 7, 5)
    np.testing.assert_array_equal(mat.numpy(), png.numpy())
    assert mat.meta["filename_or_obj"] == str(tmp_path / "1.mat")


def test_a_file_without_the_field_or_of_another_kind_is_refused_by_name(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "cvind.mat", "w") as file:
        file["cvind"] = np.ones((1, 3))
    np.testing.assert_array_equal(read_field(tmp_path / "cvind.mat", "cvind"), np.ones((1, 3)))
    with pytest.raises(ValueError, match=r"cvind\.mat holds no field cjdata/image; it has cvind: download it again"):
        read_field(tmp_path / "cvind.mat", "cjdata/image")
    (tmp_path / "torn.mat").write_bytes(b"MATLAB 7.3 MAT-file")
    with pytest.raises(ValueError, match=r"torn\.mat is not a MATLAB v7\.3 file"):
        read_field(tmp_path / "torn.mat", "cjdata/image")
    with pytest.raises(FileNotFoundError):
        read_field(tmp_path / "absent.mat", "cjdata/image")
