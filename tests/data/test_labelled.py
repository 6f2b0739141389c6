# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path

import pytest

from common.data.facts import Item
from common.data.labelled import labelled, ordered, read_rows


def _item(image: str, label: str = "a", case: str = "toy/1", origin: str = "list, row 2") -> Item:
    return Item(image=image, label=label, case=case, volume="", origin=origin)


def test_rows_are_stripped_text_numbered_as_a_spreadsheet_does(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_text('id,other,label\n007,x," a "\n8,y,\n', encoding="utf-8")
    rows = list(read_rows(path, columns=("label", "id"), dataset="toy", fix="Get it."))
    assert rows == [(f"{path}, row 2", {"label": "a", "id": "007"}), (f"{path}, row 3", {"label": "", "id": "8"})]


@pytest.mark.parametrize(
    ("content", "error", "match"),
    [
        (None, FileNotFoundError, r"toy: .*table\.csv does not exist\. Get it\."),
        (b"", ValueError, r"toy: .*table\.csv is not a CSV table"),
        (b"\xff\xfe\x00", ValueError, r"table\.csv is not a CSV table"),
        (b"id,name\n1,2\n", ValueError, r"table\.csv lacks the column\(s\) label\. Get it\."),
    ],
)
def test_a_table_that_cannot_be_used_is_refused_by_name(content, error, match, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "table.csv").write_bytes(content)
    with pytest.raises(error, match=match):
        list(read_rows(tmp_path / "table.csv", columns=("id", "label"), dataset="toy", fix="Get it."))


def test_an_item_needs_a_patient_and_a_file(tmp_path: Path) -> None:
    image = tmp_path / "x.png"
    with pytest.raises(FileNotFoundError, match=r"toy: list, row 2 lists .*x\.png, which does not exist"):
        labelled("toy", image=image, label="a", patient="1", origin="list, row 2")
    image.touch()
    with pytest.raises(ValueError, match="toy: list, row 2 has no patient id"):
        labelled("toy", image=image, label="a", patient="", origin="list, row 2")
    item = labelled("toy", image=image, label="a", patient="1", origin="list, row 2", volume="v")
    assert item == _item(str(image)) | {"volume": "v"}


def test_items_are_sorted_and_an_image_has_one_label_and_one_patient() -> None:
    items = [_item("c", case="toy/2"), _item("b"), _item("a"), _item("a", origin="list, row 5")]
    found = ordered(items, dataset="toy", root="root", fix="Get it.")
    assert [item["image"] for item in found] == ["a", "b", "c"]
    for other in (_item("a", label="b", origin="list, row 9"), _item("a", case="toy/2", origin="list, row 9")):
        with pytest.raises(ValueError, match="list, row 2 and list, row 9 differ on patient or label of a"):
            ordered([*items, other], dataset="toy", root="root", fix="Get it.")
    with pytest.raises(FileNotFoundError, match=r"toy: root holds no labelled image\. Get it\."):
        ordered([], dataset="toy", root="root", fix="Get it.")
