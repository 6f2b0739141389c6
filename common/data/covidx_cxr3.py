# SPDX-License-Identifier: Apache-2.0
"""COVIDx CXR-3: chest radiographs of 17,026 patients from several sources; normal, pneumonia, COVID-19."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from .facts import Facts, Item
from .labelled import labelled, ordered
from .layout import check_root

LISTS = {part: (f"{part}_COVIDx_CXR-3A.txt", f"{part}.txt") for part in ("train", "test")}  # the first found is read
FIX = (
    "Download the images (folders train/ and test/) from https://www.kaggle.com/andyczhao/covidx-cxr2 and the lists"
    " train_COVIDx_CXR-3A.txt and test_COVIDx_CXR-3A.txt from https://github.com/lindawangg/COVID-Net/tree/master/labels."
)
# Decision: these rows are copies of the COVID-19 image collection, a dataset of the same group: an image must not be in two.
LEFT_OUT = ("cohen",)


def cases(root: str | Path) -> list[Item]:
    """List the images of both lists, a case a patient; the published split is not used, folds are drawn by patient.

    A list's row is `patient filename class source`; its images lie in the folder of the list's name. Images in no list are
    not read. The download's own lists, train.txt and test.txt, tell `positive` from `negative` only; they are read where the
    three-class lists are missing, and then need label_values and classes of their own in the group file.
    """
    folder = check_root(root, dataset="covidx_cxr3", fix=FIX)
    return ordered(_items(folder), dataset="covidx_cxr3", root=root, fix=FIX)


def _items(root: Path) -> Iterator[Item]:
    for part, names in LISTS.items():
        path = next((root / name for name in names if (root / name).is_file()), None)
        if path is None:
            raise FileNotFoundError(f"covidx_cxr3: {root} has no {' or '.join(names)}. {FIX}")
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
            where, words = f"{path}, line {number}", line.split()
            if not words:
                continue
            if len(words) < 4:
                raise ValueError(f"covidx_cxr3: {where} is not `patient filename class source`; download the list again. {FIX}")
            patient, *name, label, source = words
            if source not in LEFT_OUT:
                image = root / part / " ".join(name)
                yield labelled("covidx_cxr3", image=image, label=label, patient=patient, origin=where)


FACTS = Facts(
    name="covidx_cxr3",
    reader=cases,
    task="classification",
    classes={"normal": ("normal",), "pneumonia": ("pneumonia",), "covid19": ("COVID-19",)},
    label_values=("normal", "pneumonia", "COVID-19"),
    percentiles=(0.5, 99.5),
    dims=2,
    spacing_known=False,
)
