# SPDX-License-Identifier: Apache-2.0
"""Figshare brain tumours (Cheng 2017): 3064 contrast-enhanced T1 slices of 233 patients; meningioma, glioma, pituitary."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from .facts import Facts, Item
from .labelled import labelled, ordered
from .layout import check_root, nifti_files
from .matlab import read_field

FOLDS = 5
FIX = (
    "Download https://figshare.com/articles/dataset/brain_tumor_dataset/1512427, unpack its four archives (1.mat to 3064.mat)"
    " there, and put cvind.mat beside them."
)


def cases(root: str | Path) -> list[Item]:
    """List every slice; a case is a patient (PID), `fold` the published fold (0..4) that tests it.

    `cvind.mat` holds one number (1..5) a slice, in the order of the files' numbers.
    """
    check_root(root, dataset="figshare", fix=FIX)
    return ordered(_items(Path(root)), dataset="figshare", root=root, fix=FIX)


def _items(root: Path) -> Iterator[Item]:
    files = nifti_files(root, dataset="figshare", fix=FIX, ending=r"\.mat")
    indices = [path for path in files if path.name == "cvind.mat"]
    slices = [path for path in files if path.name != "cvind.mat"]
    if not indices:
        raise FileNotFoundError(f"figshare: {root} holds no cvind.mat, the indices of the published folds. {FIX}")
    folds = read_field(indices[0], "cvind").ravel().astype(int).tolist()
    if set(folds) - set(range(1, FOLDS + 1)):
        raise ValueError(f"figshare: {indices[0]} holds fold numbers other than 1 to {FOLDS}; download it again. {FIX}")
    if len(folds) != len(slices):
        raise FileNotFoundError(f"figshare: {indices[0]} numbers {len(folds)} slices, {root} holds {len(slices)}. {FIX}")
    left = {str(number) for number in range(1, len(folds) + 1)}
    for path in slices:
        if path.stem not in left:
            raise ValueError(f"figshare: {path} is not one of 1.mat to {len(folds)}.mat, once each; remove it. {FIX}")
        left.remove(path.stem)
        label = str(int(read_field(path, "cjdata/label").item()))
        patient = "".join(map(chr, read_field(path, "cjdata/PID").ravel().astype(int))).strip()
        item = labelled("figshare", image=path, label=label, patient=patient, origin=str(path))
        item["fold"] = folds[int(path.stem) - 1] - 1
        yield item


FACTS = Facts(
    name="figshare",
    reader=cases,
    task="classification",
    classes={"meningioma": ("1",), "glioma": ("2",), "pituitary": ("3",)},
    label_values=("1", "2", "3"),
    percentiles=(0.5, 99.5),
    dims=2,
    spacing_known=False,
)
