# SPDX-License-Identifier: Apache-2.0
from pathlib import Path

import numpy as np
import pytest

from common.data.inputs import inputs
from common.data.series import check_series
from common.data.transforms import LoadItemd
from common.phantoms.files import write_dicom_series


def test_a_scan_and_its_scout_in_one_folder_are_refused(tmp_path: Path) -> None:
    """In training and in inference; MONAI's reader alone takes one of them and warns."""
    for name, slices in (("scan", 5), ("scout", 2)):
        write_dicom_series(np.zeros((16, 16, slices)), (1, 1, 4), tmp_path / name)
    folder = str(tmp_path / "scan")
    assert LoadItemd(["image"], dims=3)({"image": folder})["image"].shape == (1, 16, 16, 5)
    for file in (tmp_path / "scout").iterdir():
        file.rename(Path(folder) / f"scout_{file.name}")
    reads = (check_series, lambda path: LoadItemd(["image"], dims=3)({"image": path}), lambda path: inputs(path, 3))
    for read in reads:
        with pytest.raises(ValueError, match=rf"{folder} holds 2 DICOM series, such as a scan and its scout; give each"):
            read(folder)


def test_files_and_other_folders_pass(tmp_path: Path) -> None:
    (tmp_path / "a.nii.gz").touch()
    check_series(str(tmp_path / "a.nii.gz"))
    check_series(str(tmp_path))
