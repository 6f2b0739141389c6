# SPDX-License-Identifier: Apache-2.0
"""Folders of DICOM files."""

from __future__ import annotations

from pathlib import Path

import itk

__all__ = ["check_series"]


def check_series(path: str) -> None:
    """Refuse a folder of several DICOM series, of which MONAI's reader takes the one whose UID comes first.

    Raises:
        ValueError: names the folder; any other path passes.
    """
    if not Path(path).is_dir():
        return
    names = itk.GDCMSeriesFileNames.New()  # as monai.data.ITKReader sets it
    names.SetUseSeriesDetails(True)
    names.AddSeriesRestriction("0008|0021")
    names.SetDirectory(path)
    series = len(names.GetSeriesUIDs())
    if series > 1:
        raise ValueError(f"{path} holds {series} DICOM series, such as a scan and its scout; give each a folder of its own.")
