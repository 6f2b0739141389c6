# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path

import pytest

from common.data.table import cases, read_table


def write(folder: Path, *lines: str) -> Path:
    (folder / "index.csv").write_text("\n".join(lines) + "\n")
    return folder


def test_a_row_is_an_image_with_paths_relative_to_the_table(tmp_path: Path) -> None:
    write(tmp_path, "image,mask,case_id", "b/2.png,b/2_m.png,p2", "a/1.png,,p1")
    assert cases(tmp_path, "toy") == [
        {"image": f"{tmp_path}/a/1.png", "label": None, "case": "toy/p1", "volume": ""},
        {"image": f"{tmp_path}/b/2.png", "label": f"{tmp_path}/b/2_m.png", "case": "toy/p2", "volume": ""},
    ]


def test_without_masks_every_image_is_unlabelled_and_an_absolute_path_stays(tmp_path: Path) -> None:
    write(tmp_path, "case_id,image", "p1,/elsewhere/1.nii.gz")
    assert [(item["image"], item["label"]) for item in cases(tmp_path, "toy")] == [("/elsewhere/1.nii.gz", None)]


def test_ids_are_text(tmp_path: Path) -> None:
    write(tmp_path, "image,case_id,volume", "1.nii,007,01", "2.nii,NA,1e3")
    assert [(item["case"], item["volume"]) for item in cases(tmp_path, "t")] == [("t/007", "01"), ("t/NA", "1e3")]


def test_blanks_around_names_and_cells_are_not_part_of_them(tmp_path: Path) -> None:
    """A patient written in two ways would be in two folds."""
    write(tmp_path, "image, case_id ,mask", "a.png,p1, ", "b.png,p1 ,bm.png ")
    found = cases(tmp_path, "t")
    assert [(item["case"], item["label"]) for item in found] == [("t/p1", None), ("t/p1", f"{tmp_path}/bm.png")]


def test_slices_of_a_volume_are_stacked_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    rows = [f"s{n}.png,m{n}.png,p1,es,{n}" for n in (10, 9, -1, 2, 100)] + ["x.png,,p1,ed,5", "y.png,,p0,es,1"]
    write(tmp_path, "image,mask,case_id,volume,slice", *rows)
    found = cases(tmp_path, "toy")
    assert [(item["case"], item["volume"]) for item in found] == [("toy/p0", "es"), ("toy/p1", "ed"), ("toy/p1", "es")]
    assert found[2]["image"] == [f"{tmp_path}/s{n}.png" for n in (-1, 2, 9, 10, 100)]
    assert found[2]["label"] == [f"{tmp_path}/m{n}.png" for n in (-1, 2, 9, 10, 100)]
    assert found[1]["label"] is None


def test_without_volumes_slices_are_a_set_of_images_in_order(tmp_path: Path) -> None:
    write(tmp_path, "image,case_id,slice", "a.png,p1,10", "b.png,p1,9")
    assert [item["image"] for item in cases(tmp_path, "toy")] == [f"{tmp_path}/b.png", f"{tmp_path}/a.png"]


def test_spacing_is_numbers_or_nothing(tmp_path: Path) -> None:
    write(tmp_path, "image,case_id,spacing", "a.png,p1,0.5 0.75", 'b.nii,p2,"1,1,2.5"', "c.png,p3,")
    found = cases(tmp_path, "toy")
    assert [item.get("spacing") for item in found] == [[0.5, 0.75], [1.0, 1.0, 2.5], None]
    assert "spacing" not in found[2]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["image,patient", "a.png,1"], r"lacks the column\(s\) case_id; it has image, patient"),
        (["image,case_id"], "has no rows"),
        ([""], "is not a CSV table"),
        (["image,case_id", 'a.png,"p1'], "is not a CSV table"),
        (["image,case_id", "a.png,p1,"], "has rows of more fields than its header names"),
        (["image,case_id", "a.png,p1,x", "b.png,p2,y"], "has rows of more fields than its header names"),
        (["image,case_id", "a.png,p1", "b.png,p2,y"], "is not a CSV table"),
        (["image,case_id", "a.png,p1", "a.png ,p1"], r"a\.png is listed twice"),
        (["image,case_id", "a.png,p1", "b.png,"], "row 3: case_id is empty"),
        (["image,case_id", ",p1"], "row 2: image is empty"),
        (["image,case_id", "a.png,p1", "b.png,p2", "a.png,p3"], r"a\.png is listed twice"),
        (["image,case_id,slice", "a.png,p1,1", "b.png,p1,1.5"], "row 3: slice '1.5' is not a whole number"),
        (["image,case_id", "a.png,p1", "./a.png,p2"], r"\./a\.png is listed twice"),
        (
            ["image,case_id,volume,slice,spacing", "a,p1,v,1,1 1 8", "b,p1,v,2,2 2 8"],
            r"volume 'v' of case toy/p1 has the spacings \[1.0, 1.0, 8.0\] and \[2.0, 2.0, 8.0\]",
        ),
        (["image,case_id,slice", "a.png,p1,--1"], "row 2: slice '--1' is not a whole number"),
        (["image,case_id,spacing", "a.png,p1,1 0"], "row 2: spacing '1 0'"),
        (["image,case_id,spacing", "a.png,p1,1 x"], "row 2: spacing '1 x'"),
        (["image,case_id,spacing", "a.png,p1,1"], "row 2: spacing '1'"),
        (["image,case_id,spacing", "a.png,p1,nan 1"], "row 2: spacing 'nan 1'"),
        (
            ["image,mask,case_id,volume,slice", "a,am,p1,v,1", "b,,p1,v,2"],
            "volume 'v' of case toy/p1 has masks on some",
        ),
        (["image,case_id,volume,slice", "a,p1,v,1", "b,p1,v,1"], "volume 'v' of case toy/p1 has slice 1 twice"),
    ],
)
def test_says_what_is_wrong_with_which_row(tmp_path: Path, lines: list[str], message: str) -> None:
    write(tmp_path, *lines)
    with pytest.raises(ValueError, match=rf"index\.csv.*{message}"):
        cases(tmp_path, "toy")


def test_a_label_is_text_that_says_where_it_stands(tmp_path: Path) -> None:
    write(tmp_path, "image,label,case_id,mask,age", "2.jpg,0.5,p2,m.png,70", "1.jpg,,p1,,NA")
    found = cases(tmp_path, "toy", task="classification")
    assert [(item["image"], item["label"], item["origin"]) for item in found] == [
        (f"{tmp_path}/1.jpg", None, f"{tmp_path}/index.csv, row 3"),
        (f"{tmp_path}/2.jpg", "0.5", f"{tmp_path}/index.csv, row 2"),
    ]
    assert [item["label"] for item in cases(tmp_path, "toy")] == [None, f"{tmp_path}/m.png"]
    write(tmp_path, "image,mask,case_id", "1.jpg,m.png,p1")
    with pytest.raises(ValueError, match=r"index\.csv lacks the column\(s\) label; it has image, mask, case_id"):
        cases(tmp_path, "toy", task="classification")


def test_a_volume_of_slices_has_one_label(tmp_path: Path) -> None:
    write(tmp_path, "image,label,case_id,volume,slice", "b,ad,p1,v,2", "a,ad,p1,v,1", "c,,p1,w,1")
    first, second = cases(tmp_path, "toy", task="classification")
    assert (first["image"], first["label"]) == ([f"{tmp_path}/a", f"{tmp_path}/b"], "ad") and second["label"] is None
    for other, both in (("cn", "ad, cn"), ("", "None, ad")):
        write(tmp_path, "image,label,case_id,volume,slice", "b,ad,p1,v,2", f"a,{other},p1,v,1")
        with pytest.raises(ValueError, match=f"volume 'v' of case toy/p1 has the labels {both}; a volume has one class"):
            cases(tmp_path, "toy", task="classification")


def test_says_that_there_is_no_table_or_that_it_is_no_text(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"index\.csv does not exist"):
        cases(tmp_path, "toy")
    (tmp_path / "index.csv").write_bytes(b"\xff\xfe\x00image")
    with pytest.raises(ValueError, match="is not a CSV table"):
        read_table(tmp_path / "index.csv")
