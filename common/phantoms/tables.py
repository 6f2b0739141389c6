# SPDX-License-Identifier: Apache-2.0
"""Writes phantom cases the way users bring their own: files of their choice and an index.csv that lists them."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from .files import save_nifti, save_png, write_dicom_series
from .scene import Scene

Cases = Iterable[tuple[int, tuple[Scene, ...]]]


def slice_table(keep: tuple[int, ...]) -> Callable[[Path, Cases], None]:
    """A writer of 8-bit PNG slices and masks, index.csv with image, mask, case_id: a case is a set of images.

    Labels in `keep` become 1, 2, ... in that order, the others background.
    """

    def write(folder: Path, cases: Cases) -> None:
        rows = [row[:3] for row in _slices(folder, cases, keep)]
        _index(folder, ("image", "mask", "case_id"), rows)

    return write


def volume_table(folder: Path, cases: Cases) -> None:
    """The same with volume, slice and spacing: slices are put back together to volumes, distances are in mm."""
    _index(folder, ("image", "mask", "case_id", "volume", "slice", "spacing"), _slices(folder, cases, (1, 2, 3)))


def dicom_table(folder: Path, cases: Cases) -> None:
    """DICOM series, a folder each, with NIfTI masks (labels 0, 1 organ, 2 lesion) in the same space."""
    rows = []
    for number, (scene,) in cases:
        name = f"case{number:03d}"
        write_dicom_series(scene.image, scene.spacing, folder / "series" / name)
        save_nifti(folder / "masks" / f"{name}.nii.gz", scene.label, scene.spacing, axes="LPS")  # DICOM's own
        rows.append((f"series/{name}", f"masks/{name}.nii.gz", name, "ct"))
    _index(folder, ("image", "mask", "case_id", "volume"), rows)


def _slices(folder: Path, cases: Cases, keep: tuple[int, ...]) -> list[tuple[Any, ...]]:
    """Write every slice as PNG; rows (image, mask, case_id, volume, slice, spacing in mm)."""
    rows = []
    lookup = np.zeros(256, dtype=np.uint8)
    lookup[list(keep)] = np.arange(1, len(keep) + 1)
    for number, scenes in cases:
        case = f"patient{number:03d}"
        for frame, scene in zip(("frame01", "frame12"), scenes, strict=True):
            pixels = scene.image.clip(0, 255).round().astype(np.uint8)
            for index in range(pixels.shape[2]):
                name = f"{case}_{frame}_s{index:02d}.png"
                save_png(folder / "images" / name, pixels[..., index])
                save_png(folder / "masks" / name, lookup[scene.label[..., index]])
                spacing = " ".join(f"{step:g}" for step in scene.spacing)
                rows.append((f"images/{name}", f"masks/{name}", case, frame, index, spacing))
    return rows


def _index(folder: Path, header: tuple[str, ...], rows: list[tuple[Any, ...]]) -> None:
    with (folder / "index.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows([header, *rows])
