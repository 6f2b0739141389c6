# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path

import pytest

from common.data.isles22 import cases


def _touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def test_reads_the_dwi_of_both_published_layouts_and_leaves_adc_and_flair_out(tmp_path: Path) -> None:
    name = "sub-strokecase0001_ses-0001"
    mask = tmp_path / "derivatives/sub-strokecase0001/ses-0001" / f"{name}_msk.nii.gz"
    for folder, flair in (("zenodo", "FLAIR"), ("rawdata", "flair")):
        root = tmp_path / folder
        bids = root if folder == "zenodo" else root / "rawdata"
        part = bids / "sub-strokecase0001/ses-0001" / ("dwi" if folder == "zenodo" else "")
        _touch(*(part / f"{name}_{kind}.nii.gz" for kind in ("dwi", "adc", flair)), root / mask.relative_to(tmp_path))
        (item,) = cases(root)
        assert item == {
            "image": str(part / f"{name}_dwi.nii.gz"),
            "label": str(root / mask.relative_to(tmp_path)),
            "case": "isles22/sub-strokecase0001",
            "volume": "ses-0001",
        }


def test_refuses_a_file_of_another_subject_in_a_subject_folder(tmp_path: Path) -> None:
    _touch(tmp_path / "sub-strokecase0001/ses-0001/dwi/sub-strokecase0002_ses-0001_dwi.nii.gz")
    with pytest.raises(ValueError, match="sub-strokecase0002_ses-0001_dwi"):
        cases(tmp_path)
