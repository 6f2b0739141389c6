# SPDX-License-Identifier: Apache-2.0
"""OASIS-1 as slices: some 86,000 axial brain MR images in four folders by Clinical Dementia Rating."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from .facts import Facts, Item
from .labelled import PICTURE, labelled, ordered
from .layout import check_root, matches, nifti_files

LABELS = ("Non Demented", "Very mild Dementia", "Mild Dementia", "Moderate Dementia")  # CDR 0, 0.5, 1, 2
NAME = r"(?P<patient>OAS1_\d{4})_(?P<session>MR\d)_mpr-\d_\d+" + PICTURE
FIX = (
    "Download https://www.kaggle.com/datasets/ninadaithal/imagesoasis and give its folder; images lie in"
    " [Data/]{" + ",".join(LABELS) + "}/OAS1_0028_MR1_mpr-1_100.jpg."
)


def cases(root: str | Path) -> list[Item]:
    """List every slice; a case is a subject (`OAS1_0028`), so that folds never part the slices of one brain.

    Each subject has a few hundred images: slices of three or four repeats of one scan. Splits by image, as are common for this
    download, test on the brains that were trained on. Decision: the four classes as published, though only two subjects are of
    CDR 2: one trains, one tests, and validation has none (see `folds.check_split`).
    """
    check_root(root, dataset="oasis", fix=FIX)
    items = list(_items(Path(root)))
    absent = [label for label in LABELS if items and label not in {item["label"] for item in items}]
    if absent:
        raise FileNotFoundError(f"oasis: {root} holds no images in the folder(s) {', '.join(absent)}. {FIX}")
    return ordered(items, dataset="oasis", root=root, fix=FIX)


def _items(root: Path) -> Iterator[Item]:
    rated: dict[str, Path] = {}  # session -> the first of its files
    for path in nifti_files(root, dataset="oasis", fix=FIX, ending=PICTURE):
        match = matches(NAME, path, root)
        if match is None:
            raise ValueError(f"oasis: no subject can be read from the name of {path}; rename or remove it. {FIX}")
        session = f"{match['patient']}_{match['session']}"
        first = rated.setdefault(session, path)
        if first.parent.name != path.parent.name:
            raise ValueError(f"oasis: {first} and {path} are of one scan ({session}) but of two ratings; remove one of them.")
        yield labelled("oasis", image=path, label=path.parent.name, patient=match["patient"], origin=str(path))


FACTS = Facts(
    name="oasis",
    reader=cases,
    task="classification",
    classes={
        "non_demented": ("Non Demented",),
        "very_mild": ("Very mild Dementia",),
        "mild": ("Mild Dementia",),
        "moderate": ("Moderate Dementia",),
    },
    label_values=LABELS,
    percentiles=(0.5, 99.5),
    dims=2,
    spacing_known=False,
)
