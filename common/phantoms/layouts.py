# SPDX-License-Identifier: Apache-2.0
"""Writes phantom cases in each dataset's official layout."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt

from .domains import DOMAINS
from .files import save_nifti, write_dicom_series
from .picture_layouts import PICTURE_WRITERS, write_pictures
from .scene import Labels, Scene, body_scene, check_shape, heart_scenes
from .tables import dicom_table, slice_table, volume_table

__all__ = ["NAMES", "WRITERS", "check_empty", "write_dataset", "write_dicom_series"]

Scans = tuple[Scene, ...]  # one, or the heart's end diastole and end systole
Cases = Iterable[tuple[int, Scans]]  # numbered from 1
LITS_ORIENTATIONS = ("RAS", "LPS", "LAS", "RPI", "LPI")


def write_dataset(
    name: str,
    out: str | Path,
    *,
    cases: int = 10,
    size: int = 48,
    slices: int = 12,
    seed: int = 0,
    on_case: Callable[[], Any] = lambda: None,
) -> Path:
    """Write `cases` phantom cases of the dataset `name` under `out`/`name` and return that folder.

    The same arguments write the same images; a case does not depend on how many follow it. `on_case` is called after
    each case (a progress bar). Raises ValueError for an unknown name or a bad number, FileExistsError for a folder
    that is not empty.
    """
    if name not in NAMES:
        raise ValueError(f"unknown phantom dataset {name!r}; choose one of {', '.join(NAMES)}")
    if cases < 1:
        raise ValueError(f"phantoms need at least one case, not {cases}")
    check_shape(size, slices)
    folder = check_empty(Path(out, name))
    if name in PICTURE_WRITERS:
        write_pictures(name, folder, cases=cases, size=size, slices=slices, seed=seed, on_case=on_case)
    else:
        domain, write = WRITERS[name]
        write(folder, _draw(domain, cases, size, slices, seed, on_case))
    return folder


def check_empty(folder: Path) -> Path:
    """Raise FileExistsError for a folder that holds something: phantoms never overwrite data."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise FileExistsError(f"{folder} exists and is not empty; choose another --out or remove it first")
    return folder


def _draw(name: str, cases: int, size: int, slices: int, seed: int, on_case: Callable[[], Any]) -> Iterator[tuple[int, Scans]]:
    """Yield each case when it is asked for."""
    draw = heart_scenes if name in ("acdc", "sunnybrook") else body_scene
    for number in range(1, cases + 1):
        rng = np.random.default_rng([seed, zlib.crc32(name.encode()), number])
        drawn = draw(DOMAINS[name], rng, size=size, slices=slices)
        yield number, (drawn,) if isinstance(drawn, Scene) else drawn
        on_case()


def lesion(scene: Scene) -> Labels:
    """The lesion alone, as 0 and 1."""
    return (scene.label == 2).astype(np.uint8)


def int16(scene: Scene) -> NDArray[np.int16]:
    return scene.image.round().astype(np.int16)


def brainmetshare(folder: Path, cases: Cases) -> None:
    for number, (scene,) in cases:
        case = folder / "train" / f"Mets_{number:03d}"
        for sequence, share in (("t1_gd", 1.0), ("bravo", 0.9), ("t1_pre", 0.7), ("flair", 0.6)):
            save_nifti(case / f"{sequence}.nii.gz", (share * int16(scene)).astype(np.int16), scene.spacing, axes="LPS")
        save_nifti(case / "seg.nii.gz", lesion(scene), scene.spacing, axes="LPS")


def isles22(folder: Path, cases: Cases) -> None:
    """Slices are tilted, a few degrees more in each case."""
    for number, (scene,) in cases:
        subject, tilt = f"sub-strokecase{number:04d}", 0.03 * (number % 5)
        for part, image in (("dwi", scene.image), ("adc", scene.image.max() - scene.image)):
            path = folder / subject / "ses-0001" / "dwi" / f"{subject}_ses-0001_{part}.nii.gz"
            save_nifti(path, image.astype(np.float32), scene.spacing, axes="LAS", tilt=tilt)
        mask = folder / "derivatives" / subject / "ses-0001" / f"{subject}_ses-0001_msk.nii.gz"
        save_nifti(mask, lesion(scene), scene.spacing, axes="LAS", tilt=tilt)


def brats20(folder: Path, cases: Cases) -> None:
    """Labels from the inside out: 1 necrotic core, 4 enhancing, 2 oedema; together the whole tumour."""
    for number, (scene,) in cases:
        name = f"BraTS20_Training_{number:03d}"
        case = folder / "MICCAI_BraTS2020_TrainingData" / name
        for sequence, share in (("flair", 1.0), ("t1", 0.6), ("t1ce", 0.8), ("t2", 0.9)):
            image = (share * int16(scene)).astype(np.int16)
            save_nifti(case / f"{name}_{sequence}.nii.gz", image, scene.spacing, axes="LPS")
        depth = distance_transform_edt(lesion(scene), sampling=(1, 1, 1000))  # in the plane only
        label = np.select([depth > max(1.5, 0.7 * depth.max()), depth > max(1, 0.4 * depth.max()), depth > 0], [1, 4, 2])
        save_nifti(case / f"{name}_seg.nii.gz", label.astype(np.uint8), scene.spacing, axes="LPS")


def msd_lung(folder: Path, cases: Cases) -> None:
    task, training = folder / "Task06_Lung", []
    for number, (scene,) in cases:
        name = f"lung_{number:03d}.nii.gz"
        save_nifti(task / "imagesTr" / name, int16(scene), scene.spacing, axes="LAS")
        save_nifti(task / "labelsTr" / name, lesion(scene), scene.spacing, axes="LAS")
        training.append({"image": f"./imagesTr/{name}", "label": f"./labelsTr/{name}"})
    content = {
        "name": "Lung", "description": "synthetic phantom", "tensorImageSize": "3D", "modality": {"0": "CT"},
        "labels": {"0": "background", "1": "cancer"}, "numTraining": len(training), "numTest": 0,
        "training": training, "test": [],
    }  # fmt: skip
    (task / "dataset.json").write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def lits(folder: Path, cases: Cases) -> None:
    """Two batch folders; the orientation changes from case to case, mirrored ones included."""
    for number, (scene,) in cases:
        axes = LITS_ORIENTATIONS[(number - 1) % len(LITS_ORIENTATIONS)]
        batch = folder / f"Training Batch {1 + (number > 3)}"
        save_nifti(batch / f"volume-{number - 1}.nii", int16(scene), scene.spacing, axes=axes)
        save_nifti(batch / f"segmentation-{number - 1}.nii", scene.label, scene.spacing, axes=axes)


def kits(folder: Path, cases: Cases) -> None:
    """Slices on the first axis, head to foot, as the affine says: [[0, 0, -s], [0, -s, 0], [-t, 0, 0]]."""
    for number, (scene,) in cases:
        case = folder / "data" / f"case_{number - 1:05d}"
        save_nifti(case / "imaging.nii.gz", int16(scene), scene.spacing, axes="IPL")
        save_nifti(case / "segmentation.nii.gz", scene.label, scene.spacing, axes="IPL")


def acdc_official(folder: Path, cases: Cases) -> None:
    for number, scenes in cases:
        patient = f"patient{number:03d}"
        case = folder / "training" / patient
        for frame, scene in zip((1, 12), scenes, strict=True):
            save_nifti(case / f"{patient}_frame{frame:02d}.nii.gz", int16(scene), scene.spacing, axes="LPS")
            save_nifti(case / f"{patient}_frame{frame:02d}_gt.nii.gz", scene.label, scene.spacing, axes="LPS")
        series = np.stack([int16(scene) for scene in scenes], axis=-1)
        save_nifti(case / f"{patient}_4d.nii.gz", series, scenes[0].spacing, axes="LPS")
        info = {"ED": 1, "ES": 12, "Group": "NOR", "Height": 170.0, "NbFrame": 24, "Weight": 70.0}
        (case / "Info.cfg").write_text("".join(f"{key}: {value}\n" for key, value in info.items()), encoding="utf-8")


# dataset -> (the domain it looks like, its writer)
WRITERS: dict[str, tuple[str, Callable[[Path, Cases], None]]] = {
    "brainmetshare": ("brainmetshare", brainmetshare),
    "isles22": ("isles22", isles22),
    "brats20": ("brats20", brats20),
    "msd_lung": ("msd_lung", msd_lung),
    "lits": ("lits", lits),
    "kits": ("kits", kits),
    "acdc_official": ("acdc", acdc_official),
    "acdc": ("acdc", slice_table((1, 2, 3))),
    "sunnybrook": ("sunnybrook", slice_table((3,))),
    "acdc_volumes": ("acdc", volume_table),
    "lits_dicom": ("lits", dicom_table),
}

NAMES = (*WRITERS, *PICTURE_WRITERS)
