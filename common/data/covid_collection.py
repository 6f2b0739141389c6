# SPDX-License-Identifier: Apache-2.0
"""COVID-19 image data collection (Cohen et al. 2020): chest radiographs from publications; COVID-19 or another finding."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from .facts import Facts, Item
from .labelled import labelled, ordered, read_rows
from .layout import check_root

COVID = "Pneumonia/Viral/COVID-19"
VIEWS = ("PA", "AP")  # not AP Supine, which is what the sickest have, nor lateral
COLUMNS = ("patientid", "finding", "view", "modality", "folder", "filename")
FIX = "Clone https://github.com/ieee8023/covid-chestxray-dataset and give its folder (metadata.csv and images/)."


def cases(root: str | Path) -> list[Item]:
    """List the PA and AP radiographs; CT, other views and annotations are not read.

    Decision: findings are a hierarchy (`Pneumonia/Bacterial/Klebsiella`); the label is COVID-19 in full and the first level of
    any other. One patient may have images of two findings. Findings not filled in (`todo`, `Unknown`) are in no class.
    """
    folder = check_root(root, dataset="covid_collection", fix=FIX)
    return ordered(_items(folder), dataset="covid_collection", root=root, fix=FIX)


def _items(root: Path) -> Iterator[Item]:
    for where, row in read_rows(root / "metadata.csv", columns=COLUMNS, dataset="covid_collection", fix=FIX):
        finding = row["finding"]
        if row["modality"] != "X-ray" or row["view"] not in VIEWS:
            continue
        label = finding if finding == COVID else finding.split("/")[0]
        image = root / row["folder"] / row["filename"]
        yield labelled("covid_collection", image=image, label=label, patient=row["patientid"], origin=where)


# Three classes, where folds hold enough of the few dozen images without finding: replace(FACTS, classes=THREE_CLASSES).
THREE_CLASSES: dict[str, tuple[str, ...]] = {
    "normal": ("No Finding",),
    "pneumonia": ("Pneumonia", "Tuberculosis"),
    "covid19": (COVID,),
}

FACTS = Facts(
    name="covid_collection",
    reader=cases,
    task="classification",
    classes={"other": ("No Finding", "Pneumonia", "Tuberculosis"), "covid19": (COVID,)},
    label_values=("No Finding", "Pneumonia", "Tuberculosis", COVID, "todo", "Unknown"),
    percentiles=(0.5, 99.5),
    dims=2,
    spacing_known=False,
)
