# SPDX-License-Identifier: Apache-2.0
"""Writes phantom cases of classification datasets, each in its official layout (kermany and nih as tables)."""

from __future__ import annotations

import csv
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from .files import save_nifti, save_png
from .looks import COVID, LOOKS
from .pictures import FINDINGS, TUMOURS, brain, chest, tumour

__all__ = ["PICTURE_WRITERS", "write_pictures"]

IMAGES = 2  # of a patient, where images are drawn one by one
FOLDS = 5


class Picture(NamedTuple):
    """One drawn image (X, Y) or volume (X, Y, Z), its raw label, and what else was drawn of it (lungs or tumour)."""

    image: NDArray[np.float32]
    label: str
    mask: NDArray[np.bool_]


Cases = Iterable[tuple[int, tuple[Picture, ...]]]  # numbered from 1


def write_pictures(
    name: str, folder: Path, *, cases: int, size: int, slices: int, seed: int, on_case: Callable[[], Any] = lambda: None
) -> None:
    """Write `cases` cases of `name` into `folder`; see `write_dataset`."""
    PICTURE_WRITERS[name](folder, _draw(name, cases, size, slices, seed, on_case))


def _draw(name: str, cases: int, size: int, slices: int, seed: int, on_case: Callable[[], Any]) -> Iterator[tuple[int, Any]]:
    """Yield each case when it is asked for; the findings of `LOOKS` take turns."""
    look = LOOKS[name]
    for number in range(1, cases + 1):
        rng = np.random.default_rng([seed, zlib.crc32(name.encode()), number])
        turn = (number - 1) % len(look.findings)
        label = look.findings[turn]
        if name in ("oasis", "adni"):
            severity, extent = turn / (len(look.findings) - 1), 0.3 if name == "oasis" else 1.0
            volume = brain(look, rng, severity=severity, size=size, slices=slices, extent=extent)
            yield number, (Picture(volume, label, np.zeros(0, bool)),)
        elif name == "figshare":
            yield number, tuple(_tumour(rng, label, size) for _ in range(IMAGES))
        else:
            # every fifth patient of nih has images of both classes, as in the original
            labels = look.findings if name == "nih" and number % 5 == 0 else (label,) * (3 if name == "covid_qu_ex" else IMAGES)
            yield number, tuple(_chest(rng, name, each, size) for each in labels)
        on_case()


def _tumour(rng: np.random.Generator, label: str, size: int) -> Picture:
    image, mask = tumour(LOOKS["figshare"], rng, kind=TUMOURS[int(label) - 1], size=size)
    return Picture(image, label, mask)


def _chest(rng: np.random.Generator, name: str, label: str, size: int) -> Picture:
    drawn = {"normal": 0, "Normal": 0, "No Finding": 0, "COVID-19": 2, COVID: 2}  # any other is a pneumonia
    image, lungs = chest(LOOKS[name], rng, finding=FINDINGS[drawn.get(label, 1)], size=size)
    return Picture(image, label, lungs)


def _grey(image: NDArray[np.float32]) -> NDArray[np.uint8]:
    return image.clip(0, 255).round().astype(np.uint8)


def _save_jpg(path: Path, pixels: NDArray[np.uint8]) -> None:
    """A grey picture (X, Y) as an RGB JPEG, as downloads have it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.ascontiguousarray(pixels.T)).convert("RGB").save(path, quality=95)


def _write_csv(path: Path, header: Iterable[str], rows: Iterable[Iterable[object]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows([header, *rows])


def covidx_cxr3(folder: Path, cases: Cases) -> None:
    """Every fifth patient is in the published test part."""
    lines: dict[str, list[str]] = {"train": [], "test": []}
    for number, pictures in cases:
        part = "test" if number % 5 == 0 else "train"
        for index, picture in enumerate(pictures):
            source = "ricord" if picture.label == "COVID-19" else "rsna"
            name = f"{source}-{number:06d}-{index}.png"
            save_png(folder / part / name, _grey(picture.image))
            lines[part].append(f"{source}-{number:06d} {name} {picture.label} {source}\n")
    for part, rows in lines.items():
        (folder / f"{part}_COVIDx_CXR-3A.txt").write_text("".join(rows), encoding="utf-8")


def covid_collection(folder: Path, cases: Cases) -> None:
    """A patient has a PA and an AP radiograph, and a lateral one that is not read."""
    header = ("patientid", "offset", "sex", "age", "finding", "view", "modality", "date", "location", "folder", "filename")
    rows = []
    for number, (pa, ap) in cases:
        for view, picture in (("PA", pa), ("AP", ap), ("L", pa)):
            name = f"case-{number:04d}-{view}.jpg"
            image = picture.image if view != "L" else picture.image[::-1]
            _save_jpg(folder / "images" / name, _grey(image))
            rows.append((number, 0, "", "", picture.label, view, "X-ray", "", "phantom", "images", name))
    _write_csv(folder / "metadata.csv", header, rows)


def covid_qu_ex(folder: Path, cases: Cases) -> None:
    """A case's three images are of three unnamed patients, one in each part."""
    names = {"Normal": "Normal ({})", "Non-COVID": "non_COVID ({})", "COVID-19": "covid_{}"}
    root = folder / "Lung Segmentation Data" / "Lung Segmentation Data"
    for number, pictures in cases:
        for index, (part, picture) in enumerate(zip(("Train", "Val", "Test"), pictures, strict=True)):
            name = names[picture.label].format(3 * number + index) + ".png"
            save_png(root / part / picture.label / "images" / name, _grey(picture.image))
            save_png(root / part / picture.label / "lung masks" / name, (255 * picture.mask).astype(np.uint8))


def table(folder: Path, cases: Cases) -> None:
    """PNG images and an index.csv with image, label, case_id."""
    rows = []
    for number, pictures in cases:
        for index, picture in enumerate(pictures):
            name = f"images/p{number:04d}_{index}.png"
            save_png(folder / name, _grey(picture.image))
            rows.append((name, picture.label, f"p{number:04d}"))
    _write_csv(folder / "index.csv", ("image", "label", "case_id"), rows)


def oasis(folder: Path, cases: Cases) -> None:
    for number, ((volume, label, _),) in cases:
        for index in range(volume.shape[2]):
            pixels = _grey(volume[:, ::-1, index])  # the face upwards
            _save_jpg(folder / "Data" / label / f"OAS1_{number:04d}_MR1_mpr-1_{100 + index}.jpg", pixels)


def adni(folder: Path, cases: Cases) -> None:
    """Sagittal slices on the last axis, as they were acquired."""
    header = (
        "Image Data ID", "Subject", "Group", "Sex", "Age", "Visit", "Modality", "Description", "Type", "Acq Date", "Format",
        "Downloaded",
    )  # fmt: skip
    rows = []
    for number, ((volume, label, _),) in cases:
        subject, image, kind = f"{number % 90:03d}_S_{number:04d}", f"I{45000 + number}", "MPR__GradWarp__B1_Correction__N3"
        name = f"ADNI_{subject}_MR_{kind}_Br_20070319113435616_S{13000 + number}_{image}.nii"
        path = folder / "ADNI" / subject / kind / "2006-04-18_08_20_30.0" / image / name
        save_nifti(path, volume.round().astype(np.int16), (0.94, 0.94, 1.2), axes="PSR")
        rows.append((image, subject, label, "", "", 1, "MRI", kind, "Processed", "4/18/2006", "NiFTI", ""))
    _write_csv(folder / "phantom_collection.csv", header, rows)


def figshare(folder: Path, cases: Cases) -> None:
    """Files as MATLAB writes them; published folds go by patient, three after three, so that each holds every class."""
    folds = []
    for number, pictures in cases:
        for picture in pictures:
            folds.append(1 + (number - 1) // len(TUMOURS) % FOLDS)
            path = folder / "brainTumorDataPublic_1-766" / f"{len(folds)}.mat"
            path.parent.mkdir(parents=True, exist_ok=True)
            with h5py.File(path, "w") as file:
                file["cjdata/label"] = np.array([[float(picture.label)]])
                file["cjdata/PID"] = np.array([[ord(letter)] for letter in f"{100000 + number}"], dtype=np.uint16)
                file["cjdata/image"] = picture.image.round().astype(np.int16)  # (X, Y): HDF5 reverses MATLAB's axes
                file["cjdata/tumorMask"] = picture.mask.astype(np.uint8)
                file["cjdata/tumorBorder"] = np.argwhere(picture.mask).astype(float).reshape(1, -1)
    with h5py.File(folder / "cvind.mat", "w") as file:
        file["cvind"] = np.array([folds], dtype=float)


PICTURE_WRITERS: dict[str, Callable[[Path, Cases], None]] = {
    "covidx_cxr3": covidx_cxr3,
    "covid_collection": covid_collection,
    "covid_qu_ex": covid_qu_ex,
    "kermany": table,
    "nih": table,
    "oasis": oasis,
    "adni": adni,
    "figshare": figshare,
}
