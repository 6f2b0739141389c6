# SPDX-License-Identifier: Apache-2.0
"""What readers of tables share: the text of a CSV, and the checks of every labelled image."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import pandas as pd

from ..errors import brief
from .facts import Item

PICTURE = r"\.(?i:png|jpe?g)"


def read_csv(path: Path) -> pd.DataFrame:
    """A CSV as text: column names and cells, which nothing is taken for a number or missing, without blanks around them.

    Raises:
        ValueError: it is no CSV, or a row has more fields than the header, which would shift its cells.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)
            table = pd.read_csv(path, dtype=str, keep_default_na=False, index_col=False)
    except pd.errors.ParserWarning as error:
        raise ValueError(
            f"{path} has rows of more fields than its header names; name the columns, or remove the commas."
        ) from error
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not a CSV table ({brief(error)}); save it as UTF-8 text with commas.") from error
    return table.rename(columns=str.strip).map(str.strip)


def read_rows(path: Path, *, columns: Sequence[str], dataset: str, fix: str) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield `("<path>, row N", row)` of a CSV, cells as stripped text; N counts as a spreadsheet does, the header is row 1.

    Raises FileNotFoundError for a missing table, ValueError for one that is no CSV or lacks one of `columns`.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{dataset}: {path} does not exist. {fix}")
    try:
        table = read_csv(path)
    except ValueError as error:
        raise ValueError(f"{dataset}: {error} {fix}") from error
    missing = [column for column in columns if column not in table.columns]
    if missing:
        raise ValueError(f"{dataset}: {path} lacks the column(s) {', '.join(missing)}. {fix}")
    for number, values in enumerate(table[list(columns)].itertuples(index=False), start=2):
        yield f"{path}, row {number}", dict(zip(columns, values, strict=True))


def labelled(dataset: str, *, image: Path, label: str, patient: str, origin: str, volume: str = "") -> Item:
    """One image with its raw label; `origin` names the row or file that says so. Labels are checked by `Facts.class_of`.

    Raises ValueError for an empty patient id, FileNotFoundError for an image that is not there.
    """
    if not patient:
        raise ValueError(f"{dataset}: {origin} has no patient id; fill it, as folds are by patient.")
    if not image.is_file():
        raise FileNotFoundError(f"{dataset}: {origin} lists {image}, which does not exist; complete the download.")
    return Item(image=str(image), label=label, case=f"{dataset}/{patient}", volume=volume, origin=origin)


def ordered(items: Iterable[Item], *, dataset: str, root: str | Path, fix: str) -> list[Item]:
    """Sort by case, volume and image; an image listed twice with one label is kept once.

    Raises FileNotFoundError when there is none, ValueError for an image listed with two labels or for two patients.
    """
    found: dict[str, Item] = {}
    for item in items:
        other = found.setdefault(str(item["image"]), item)
        if (other["case"], other["label"]) != (item["case"], item["label"]):
            raise ValueError(
                f"{dataset}: {other['origin']} and {item['origin']} differ on patient or label of {item['image']};"
                " correct one of them."
            )
    if not found:
        raise FileNotFoundError(f"{dataset}: {root} holds no labelled image. {fix}")
    return sorted(found.values(), key=lambda item: (item["case"], item["volume"], str(item["image"])))
