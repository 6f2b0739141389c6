# SPDX-License-Identifier: Apache-2.0
"""What an inference bundle reads, and where below the output folder each result goes."""

from __future__ import annotations

import glob
import math
import os
from collections.abc import Sequence
from pathlib import Path

import nibabel
from monai.data.utils import create_file_basename

from ..errors import brief
from .series import check_series
from .transforms import PICTURES

__all__ = ["inputs", "root_of"]


def inputs(pattern: str, dims: int) -> list[dict[str, str]]:
    """`{"image": path}` for every file or folder of a DICOM series that the glob pattern matches, sorted.

    Raises:
        FileNotFoundError: it matches none.
        ValueError: the header of a NIfTI file cannot be read, or says that it is empty or has other dimensions than `dims`; a
            folder holds several series; or a picture stands where volumes are read.
    """
    paths = sorted(os.path.normpath(path) for path in glob.glob(pattern))  # noqa: PTH207 (Path.glob takes no absolute pattern)
    if not paths:
        raise FileNotFoundError(f"--input {pattern} matches no file; give a path, or a pattern in quotes: 'scans/*.nii.gz'.")
    for path in paths:
        if path.endswith((".nii", ".nii.gz")):
            _check_nifti(path, dims)
        elif dims == 3 and path.lower().endswith(PICTURES):
            raise ValueError(f"{path} is a picture; volumes are read here: NIfTI, or the folder of a DICOM series.")
        check_series(path)
    return [{"image": path} for path in paths]


def _check_nifti(path: str, dims: int) -> None:
    try:
        shape = nibabel.load(path).shape  # type: ignore[attr-defined]
    except Exception as error:  # nibabel, gzip and the system raise types of their own
        raise ValueError(f"{path} cannot be read ({brief(error)}); is the file complete? Copy it again.") from error
    if math.prod(shape) == 0:
        raise ValueError(f"{path} is empty (shape {shape}); export it again.")
    if len(shape) < dims or math.prod(shape[dims:]) > 1:
        raise ValueError(f"{path} has the shape {shape}; {dims} dimensions and one channel are expected: save it so.")


def root_of(items: Sequence[dict[str, str]]) -> str:
    """The folder that holds all inputs: below it `SaveImaged` keeps their folders, so that equal names stay apart.

    Raises:
        ValueError: two inputs would still be saved under one name, as it leaves out what follows the last dot.
    """
    root = os.path.commonpath([Path(item["image"]).parent for item in items])
    saved: dict[str, str] = {}
    for path in (item["image"] for item in items):
        name = create_file_basename("", path, "", data_root_dir=root, separate_folder=False, makedirs=False)
        other = saved.setdefault(name, path)
        if other != path:
            raise ValueError(
                f"{other} and {path} would be saved under one name, {name}: rename one, or infer one at a"
                " time, each with an --output_dir of its own."
            )
    return root
