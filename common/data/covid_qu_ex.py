# SPDX-License-Identifier: Apache-2.0
"""COVID-QU-Ex: 33,920 chest radiographs of 256 pixels with lung masks; COVID-19, another infection, normal."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from .facts import Facts, Item
from .labelled import PICTURE, labelled, ordered
from .layout import check_root, matches, nifti_files

PARTS = ("Train", "Val", "Test")
LABELS = ("Normal", "Non-COVID", "COVID-19")
FIX = (
    "Download https://www.kaggle.com/datasets/anasmohammedtahir/covidqu and give its folder; images lie in"
    " [Lung Segmentation Data/Lung Segmentation Data/]{Train,Val,Test}/{COVID-19,Non-COVID,Normal}/images/."
)


def cases(root: str | Path) -> list[Item]:
    """List the images of the lung segmentation data in all three parts; masks and the infection subset are not read.

    Decision: the dataset publishes no patient ids. An image named after a subject (`sub-S03936_ses-E08636...`) is of that
    subject, any other is a case of its own. The infection subset repeats images of the lung data. Images were collected from
    public sets, also from those that the other two datasets of the group draw on, and resized: such copies cannot be told by
    their content.
    """
    check_root(root, dataset="covid_qu_ex", fix=FIX)
    items = list(_items(Path(root)))
    present = {(Path(str(item["image"])).parts[-4], item["label"]) for item in items}
    absent = [f"{part}/{label}/images" for part in PARTS for label in LABELS if items and (part, label) not in present]
    if absent:
        raise FileNotFoundError(f"covid_qu_ex: {root} holds no images in {', '.join(absent)}. {FIX}")
    return ordered(items, dataset="covid_qu_ex", root=root, fix=FIX)


def _items(root: Path) -> Iterator[Item]:
    for path in nifti_files(root, dataset="covid_qu_ex", fix=FIX, ending=PICTURE):
        if "Infection Segmentation Data" in path.parts or not matches(r"images/[^/]+", path, root):
            continue
        match = matches(rf"(?:{'|'.join(PARTS)})/(?P<label>[^/]+)/images/[^/]+", path, root)
        if match is None:
            raise ValueError(f"covid_qu_ex: {path} lies in no folder of this dataset; move or remove it. {FIX}")
        subject = re.match(r"sub-S\d+", path.name)
        patient = subject[0] if subject else path.stem
        yield labelled("covid_qu_ex", image=path, label=match["label"], patient=patient, origin=str(path))


FACTS = Facts(
    name="covid_qu_ex",
    reader=cases,
    task="classification",
    classes={"normal": ("Normal",), "pneumonia": ("Non-COVID",), "covid19": ("COVID-19",)},
    label_values=LABELS,
    percentiles=(0.5, 99.5),
    dims=2,
    spacing_known=False,
)
