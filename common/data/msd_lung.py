# SPDX-License-Identifier: Apache-2.0
"""MSD Task06 Lung: lung cancer in CT (63 training cases), the Medical Segmentation Decathlon's dataset.json layout."""

from __future__ import annotations

from pathlib import Path

from . import dataset_json
from .facts import Facts, Item
from .layout import check_root

_FIX = "Download Task06_Lung.tar from http://medicaldecathlon.com and unpack it there."


def cases(root: str | Path) -> list[Item]:
    """List the training cases that dataset.json names; `root` is Task06_Lung or the folder that holds it."""
    root = check_root(root, dataset="msd_lung", fix=_FIX)
    nested = root / "Task06_Lung"
    return dataset_json.cases(nested if nested.is_dir() else root, name="msd_lung", fix=_FIX)


FACTS = Facts(
    name="msd_lung",
    reader=cases,
    classes={"lesion": (1,)},
    label_values=(0, 1),
    window=(-1000.0, 400.0),
    percentiles=None,
    orientation="RAS",
)
