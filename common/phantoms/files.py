# SPDX-License-Identifier: Apache-2.0
"""Writes one phantom image as NIfTI, DICOM series or PNG. Arrays are (X, Y, Z), in RAS axes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import itk
import nibabel
import numpy as np
from nibabel.orientations import axcodes2ornt, ornt_transform
from numpy.typing import NDArray
from PIL import Image


def save_nifti(
    path: Path, array: NDArray[Any], spacing: tuple[float, float, float], *, axes: str = "RAS", tilt: float = 0.0
) -> None:
    """Write a RAS array as NIfTI in the axes `axes`, centred on the scanner's origin, tilted by `tilt` radians about x.

    The voxels keep their places in space: only the order in which the file stores them differs with `axes`.
    """
    affine = np.diag([*spacing, 1.0])
    affine[:3, 3] = [-step * (n - 1) / 2 for step, n in zip(spacing, array.shape[:3], strict=True)]
    image = nibabel.Nifti1Image(array, affine).as_reoriented(ornt_transform(axcodes2ornt("RAS"), axcodes2ornt(axes)))
    turn = np.eye(4)
    turn[1:3, 1:3] = [[np.cos(tilt), -np.sin(tilt)], [np.sin(tilt), np.cos(tilt)]]
    image = nibabel.Nifti1Image(np.ascontiguousarray(image.dataobj), turn @ image.affine)
    image.header.set_xyzt_units("mm")
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(image, path)


def write_dicom_series(volume: NDArray[Any], spacing: tuple[float, float, float], out: str | Path) -> None:
    """Write a RAS volume (X, Y, Z) as a DICOM series, one file a slice, in `out`; intensities are rounded to int16.

    The volume is centred on the scanner's origin, as `save_nifti` does. Raises FileExistsError for a folder that is
    not empty, whose files would mix with the series.
    """
    out = Path(out)
    if out.exists() and any(out.iterdir()):
        raise FileExistsError(f"{out} is not empty; a DICOM series needs a folder of its own")
    out.mkdir(parents=True, exist_ok=True)
    # DICOM's axes run to the left and to the back, ITK's arrays are (Z, Y, X)
    array = np.ascontiguousarray(volume[::-1, ::-1].transpose(2, 1, 0).round().astype(np.int16))
    origin = [-step * (n - 1) / 2 for step, n in zip(spacing, volume.shape, strict=True)]
    series = itk.GDCMImageIO.New()  # one for all slices: it numbers the series
    for number, plane in enumerate(array):
        image = itk.image_from_array(plane[None])
        image.SetSpacing(spacing)
        image.SetOrigin([origin[0], origin[1], origin[2] + number * spacing[2]])
        tags = image.GetMetaDataDictionary()
        # CT image storage; under GDCM's default, secondary capture, no position in space is written
        tags["0008|0016"], tags["0008|0060"] = "1.2.840.10008.5.1.4.1.1.2", "CT"
        tags["0020|0013"] = str(number + 1)
        image.SetMetaDataDictionary(tags)
        writer = itk.ImageFileWriter[type(image)].New(Input=image, ImageIO=series, FileName=str(out / f"{number:04d}.dcm"))
        writer.Update()


def save_png(path: Path, pixels: NDArray[np.uint8]) -> None:
    """Write an 8-bit slice (X, Y), X along the rows of the picture."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.ascontiguousarray(pixels.T)).save(path)
