# SPDX-License-Identifier: Apache-2.0
"""ADNI: T1-weighted brain MR volumes of a collection, with its table; cognitively normal, impaired, Alzheimer's disease."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from .facts import Facts, Item
from .labelled import labelled, ordered, read_rows
from .layout import NIFTI, check_root, nifti_files

COLUMNS = ("Image Data ID", "Subject", "Group", "Modality")
FIX = (
    "In https://ida.loni.usc.edu add the images to a collection, download them as NIfTI, and put the collection's CSV beside"
    " them; names end in the image id, as ADNI_002_S_0295_MR_..._S13408_I45107.nii."
)


def cases(root: str | Path) -> list[Item]:
    """List the MR volumes of the collection's table; a case is a subject, a volume an image id.

    The table is the CSV in `root` with a column `Image Data ID`. Its `Group` is the diagnosis at enrolment. Early and late
    impairment (EMCI, LMCI) are MCI; a memory concern only (SMC) is in no class.
    """
    folder = check_root(root, dataset="adni", fix=FIX)
    return ordered(_items(folder), dataset="adni", root=root, fix=FIX)


def _table(root: Path) -> Path:
    """The one CSV of `root` whose header names image ids; other tables of the study may lie beside it."""
    found = []
    for path in sorted(root.glob("*.csv")):
        with path.open(encoding="utf-8", errors="replace") as file:
            if "Image Data ID" in file.readline():
                found.append(path)
    if not found:
        raise FileNotFoundError(f"adni: {root} holds no CSV with a column `Image Data ID`. {FIX}")
    if len(found) > 1:
        raise ValueError(f"adni: {found[0]} and {found[1]} are both tables of a collection; keep one, with the rows of both.")
    return found[0]


def _volumes(root: Path) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for path in nifti_files(root, dataset="adni", fix=FIX):
        match = re.search(rf"_(I\d+){NIFTI}$", path.name)
        if match is None:
            raise ValueError(f"adni: no image id can be read from the name of {path}; rename or remove it. {FIX}")
        other = found.setdefault(match[1], path)
        if other != path:
            raise ValueError(f"adni: {other} and {path} are both image {match[1]}; remove one of them.")
    return found


def _items(root: Path) -> Iterator[Item]:
    table, volumes = _table(root), _volumes(root)
    listed = set()
    for where, row in read_rows(table, columns=COLUMNS, dataset="adni", fix=FIX):
        number = "I" + row["Image Data ID"].removeprefix("I")
        listed.add(number)
        if row["Modality"] != "MRI":
            continue
        if number not in volumes:
            raise FileNotFoundError(f"adni: {where} lists image {number}, of which {root} holds no file. {FIX}")
        image, label, subject = volumes[number], row["Group"], row["Subject"]
        if subject not in image.name:
            raise ValueError(f"adni: {where} says that {image} is of subject {subject!r}; correct the row or the file's name.")
        yield labelled("adni", image=image, label=label, patient=subject, origin=where, volume=number)
    unknown = sorted(volumes.keys() - listed)
    if unknown:
        raise ValueError(f"adni: {volumes[unknown[0]]} is not in {table}, so that its group is unknown; add its row.")


FACTS = Facts(
    name="adni",
    reader=cases,
    task="classification",
    classes={"cn": ("CN",), "mci": ("MCI", "EMCI", "LMCI"), "ad": ("AD",)},
    label_values=("CN", "SMC", "EMCI", "MCI", "LMCI", "AD"),
    percentiles=(0.5, 99.5),
    orientation="RAS",
    middle_share=0.3,  # about the span of brain that the slices of OASIS show
)
