# SPDX-License-Identifier: Apache-2.0
"""The annotator's volumes: phantoms, the first turned in every way that a scanner or a converter turns them."""

from __future__ import annotations

from pathlib import Path

import nibabel
import nrrd
import numpy as np
from scipy.spatial.transform import Rotation
from students import DATA

TURNED = ("I", "R", "P")  # axes permuted and two of them flipped: slices come first
OTHER = ("A", "S", "L")  # the same volume in yet another order


def oriented(image: nibabel.Nifti1Image, axcodes: tuple[str, ...]) -> nibabel.Nifti1Image:
    """The same voxels at the same places in another order of axes; nothing is interpolated."""
    now = nibabel.io_orientation(image.affine)
    return image.as_reoriented(nibabel.orientations.ornt_transform(now, nibabel.orientations.axcodes2ornt(axcodes)))


def turned(image: nibabel.Nifti1Image) -> nibabel.Nifti1Image:
    """Cropped to three different axis lengths, in the order of axes TURNED, and rotated in space by odd angles."""
    cropped = oriented(image, ("R", "A", "S")).slicer[4:44, :, 1:]
    order = oriented(cropped, TURNED)
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_euler("xyz", [14, -9, 21], degrees=True).as_matrix()
    return nibabel.Nifti1Image(np.asarray(order.dataobj), affine @ order.affine)


def case(number: int, folder: Path) -> tuple[Path, Path]:
    """Image and label volume (class indices) of a phantom patient, written to `folder`; patient 0's are `turned`."""
    (source,) = DATA.glob(f"lits/*/volume-{number}.nii")
    image = nibabel.load(source)
    mask = nibabel.load(source.with_name(f"segmentation-{number}.nii"))
    label = nibabel.Nifti1Image((np.asarray(mask.dataobj) == 2).astype(np.uint8), mask.affine)
    files = folder / f"patient_{number}.nii.gz", folder / f"patient_{number}_label.nii.gz"
    for volume, file in zip((image, label), files, strict=True):
        nibabel.save(turned(volume) if number == 0 else volume, file)
    return files


def read_nrrd(file: str | Path) -> nibabel.Nifti1Image:
    """A label as 3D Slicer receives it, with its affine in RAS."""
    voxels, header = nrrd.read(str(file))
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = np.asarray(header["space directions"], float).T, header["space origin"]
    assert header["space"] == "left-posterior-superior"
    return nibabel.Nifti1Image(voxels, np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine)
