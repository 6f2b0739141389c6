# SPDX-License-Identifier: Apache-2.0
"""Any CSV of images or volumes: how a user brings a dataset."""

from __future__ import annotations

import math
import os
import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import pandas as pd

from .facts import Item
from .labelled import read_csv

__all__ = ["cases", "read_table"]

REQUIRED = ("image", "case_id")


def read_table(path: Path, *, task: str = "segmentation") -> pd.DataFrame:
    """Read and check a table: columns `image`, `case_id`, and optionally `mask`, `volume`, `slice`, `spacing`.

    One row is an image file (PNG, JPEG, NIfTI, a DICOM folder); paths are relative to the table. An empty `mask` is an
    unlabelled image. A table for classification needs a column `label` instead, the image's class as text; an empty one is an
    unlabelled image. Other columns are ignored.
    Rows of one `case_id` and `volume` with a `slice` column are 2-D slices of one volume, in the order of `slice`; without a
    `volume` column a case is a set of images. `spacing` is "x y z" in millimetres.

    Raises:
        FileNotFoundError, ValueError: no table, a missing column, an empty or repeated image; the message names table and row.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist; a table dataset is a folder with an index.csv.")
    table = read_csv(path)
    required = (*REQUIRED, *(["label"] if task == "classification" else []))
    missing = [column for column in required if column not in table.columns]
    if missing:
        found = ", ".join(table.columns)
        fix = "save it with commas" if {";", "\t"} & set(found) else "add or rename them"
        raise ValueError(f"{path} lacks the column(s) {', '.join(missing)}; it has {found}: {fix}.")
    if table.empty:
        raise ValueError(f"{path} has no rows; list an image a row.")
    for column in REQUIRED:
        if (table[column] == "").any():
            raise ValueError(
                f"{path}, row {int((table[column] == '').idxmax()) + 2}: {column} is empty; fill it or remove the row."
            )
    again = table["image"].map(os.path.normpath).duplicated()
    if again.any():
        raise ValueError(f"{path}: image {table['image'][again].iloc[0]} is listed twice; remove one row.")
    return table


def cases(root: Path, dataset: str, *, task: str = "segmentation") -> list[Item]:
    """The items of the table `<root>/index.csv`, sorted by case, volume and slice."""
    path = Path(root) / "index.csv"
    table = read_table(path, task=task)
    files = {
        column: [str(path.parent / v) if v else None for v in table[column]] for column in ("image", "mask") if column in table
    }
    rows: list[dict[str, Any]] = []
    for i, row in enumerate(table.to_dict("records")):
        rows.append(
            {
                "image": files["image"][i],
                "label": (row["label"] or None) if task == "classification" else files["mask"][i] if "mask" in files else None,
                "case": f"{dataset}/{row['case_id']}",
                "volume": row.get("volume", ""),
                "slice": row.get("slice", ""),
                "spacing": _spacing(row.get("spacing", ""), path, i),
                "origin": f"{path}, row {i + 2}" if task == "classification" else None,
            }
        )
    if "slice" in table.columns:
        bad = [i for i, row in enumerate(rows) if not re.fullmatch(r"-?[0-9]+", row["slice"])]
        if bad:
            value = rows[bad[0]]["slice"]
            raise ValueError(f"{path}, row {bad[0] + 2}: slice {value!r} is not a whole number; number the slices in order.")
    rows.sort(key=lambda r: (r["case"], r["volume"], int(r["slice"] or 0), r["image"]))
    stacked = "slice" in table.columns and "volume" in table.columns
    return _stack(rows, path, task) if stacked else [_item(row) for row in rows]


def _item(row: dict[str, Any]) -> Item:
    item = Item(image=row["image"], label=row["label"], case=row["case"], volume=row["volume"])
    if row["spacing"] is not None:
        item["spacing"] = row["spacing"]
    if row["origin"] is not None:
        item["origin"] = row["origin"]
    return item


def _stack(rows: list[dict[str, Any]], path: Path, task: str) -> list[Item]:
    """One item a (case, volume), its slice files in order."""
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault((row["case"], row["volume"]), []).append(row)
    items = []
    for (case, volume), group in groups.items():
        numbers = [int(row["slice"]) for row in group]  # sorted
        twice = [a for a, b in pairwise(numbers) if a == b]
        if twice:
            raise ValueError(f"{path}: volume {volume!r} of case {case} has slice {twice[0]} twice; number its slices apart.")
        spacings = {str(row["spacing"]) for row in group}
        if len(spacings) > 1:
            found = " and ".join(sorted(spacings))
            raise ValueError(f"{path}: volume {volume!r} of case {case} has the spacings {found}; a volume has one.")
        labels = [row["label"] for row in group]
        if task == "classification" and len(set(labels)) > 1:
            found = ", ".join(sorted(str(label) for label in set(labels)))
            raise ValueError(f"{path}: volume {volume!r} of case {case} has the labels {found}; a volume has one class.")
        if None in labels and any(labels):
            raise ValueError(f"{path}: volume {volume!r} of case {case} has masks on some slices only; give all or none.")
        label = None if None in labels else labels[0] if task == "classification" else labels
        whole = group[0] | {"image": [row["image"] for row in group], "label": label}
        items.append(_item(whole))
    return items


def _spacing(text: str, path: Path, row: int) -> list[float] | None:
    if not text:
        return None
    try:
        values = [float(v) for v in text.replace(",", " ").split()]
    except ValueError:
        values = []
    if len(values) not in (2, 3) or not all(0 < v < math.inf for v in values):
        raise ValueError(
            f"{path}, row {row + 2}: spacing {text!r} is not two or three positive numbers in mm; write, say, 1.5 1.5 8."
        )
    return values
