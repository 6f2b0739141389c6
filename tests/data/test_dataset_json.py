# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from common.data.dataset_json import cases, classes

MSD = {"modality": {"0": "CT"}, "labels": {"0": "background", "2": "tumour", "1": "organ"}}
V2 = {"channel_names": {"0": "CT"}, "labels": {"background": 0, "organ": 1}, "file_ending": ".nii.gz"}


def _folder(root: Path, content: dict[str, Any], *files: str) -> Path:
    for file in files:
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).touch()
    (root / "dataset.json").write_text(json.dumps(content))
    return root


def _listed(*names: str) -> dict[str, Any]:
    entries = [{"image": f"./imagesTr/{name}", "label": f"./labelsTr/{name}"} for name in names]
    return MSD | {"training": entries}


def _both(*names: str) -> list[str]:
    return [f"{folder}/{name}" for name in names for folder in ("imagesTr", "labelsTr")]


def test_reads_an_msd_list_in_order_of_cases(tmp_path: Path) -> None:
    root = _folder(tmp_path, _listed("b.nii.gz", "a.nii.gz"), *_both("a.nii.gz", "b.nii.gz"), "imagesTr/._a.nii.gz")
    assert cases(root, name="x") == [
        {
            "image": str(root / f"imagesTr/{case}.nii.gz"),
            "label": str(root / f"labelsTr/{case}.nii.gz"),
            "case": f"x/{case}",
            "volume": case,
        }
        for case in ("a", "b")
    ]


def test_reads_an_nnunet_folder_and_picks_the_channel(tmp_path: Path) -> None:
    content = V2 | {"channel_names": {"0": "T1", "1": "FLAIR"}}
    root = _folder(tmp_path, content, "imagesTr/a_0000.nii.gz", "imagesTr/a_0001.nii.gz", "labelsTr/a.nii.gz")
    (item,) = cases(root, name="x", channel=1)
    assert item["image"].endswith("a_0001.nii.gz") and item["case"] == "x/a"
    with pytest.raises(ValueError, match=r"2 channels .* say which: `channel: N`"):
        cases(root, name="x")
    with pytest.raises(ValueError, match="channel 2 is not among"):
        cases(root, name="x", channel=2)


def test_reads_an_nnunet_v1_folder_whose_list_lacks_the_channel_suffix(tmp_path: Path) -> None:
    root = _folder(tmp_path, _listed("a.nii.gz"), "imagesTr/a_0000.nii.gz", "labelsTr/a.nii.gz")
    (item,) = cases(root, name="x")
    assert item["image"].endswith("a_0000.nii.gz")


def test_png_cases_are_images_not_volumes(tmp_path: Path) -> None:
    root = _folder(tmp_path, V2 | {"file_ending": ".png"}, "imagesTr/a_0000.png", "labelsTr/a.png")
    (item,) = cases(root, name="x")
    assert item["volume"] == ""


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        (MSD["labels"], {"organ": (1,), "tumour": (2,)}),
        (V2["labels"], {"organ": (1,)}),
        ({"background": 0, "whole": [1, 2], "core": [2], "ignore": 3}, {"whole": (1, 2), "core": (2,)}),
    ],
)
def test_classes_come_in_order_of_their_values(tmp_path: Path, labels: dict, expected: dict) -> None:
    found = classes(_folder(tmp_path, V2 | {"labels": labels}), name="x")
    assert list(found.items()) == list(expected.items())


@pytest.mark.parametrize(
    ("content", "files", "message"),
    [
        (_listed("a.nii.gz"), ["labelsTr/a.nii.gz"], r"image .*imagesTr/a\.nii\.gz is missing"),
        (_listed("a.nii.gz"), ["imagesTr/a.nii.gz"], r"mask .*labelsTr/a\.nii\.gz is missing"),
        (_listed("a.nii.gz"), [*_both("a.nii.gz"), "imagesTr/b.nii.gz"], r"imagesTr/b\.nii\.gz has no mask"),
        (_listed("a.nii.gz"), [*_both("a.nii.gz"), "labelsTr/b.nii.gz"], r"labelsTr/b\.nii\.gz has no image"),
        (_listed("a.nii.gz", "a.nii.gz"), _both("a.nii.gz"), "twice"),
        (_listed("a.mha"), _both("a.mha"), r"a\.mha is not a NIfTI or PNG"),
        (_listed(), [], "lists no training case"),
        (MSD | {"training": ["a.nii.gz"]}, [], r"'training' needs \{image, label\} entries, not 'a\.nii\.gz'"),
        (_listed("a.nii.gz") | {"modality": {}}, ["labelsTr/a.nii.gz"], "is {}, which numbers no channel"),
        (V2, ["labelsTr/a.nii.gz"], r"image .*imagesTr/a_0000\.nii\.gz is missing"),
        (V2, ["imagesTr/a_0000.nii.gz"], r"imagesTr/a_0000\.nii\.gz has no mask"),
        (V2 | {"file_ending": ".mha"}, [], r"file_ending '\.mha'"),
        (V2 | {"labels": {"background": 0}}, [], "lists no training case"),
        ({"labels": {}}, [], "lacks the key 'channel_names' or 'modality'"),
        ([], [], "lacks the key 'labels'"),
        (
            V2 | {"labels": ["background", "organ"]},
            [],
            r"'labels' in .*dataset\.json is to be an object .* \['background'",
        ),
    ],
)
def test_one_error_names_what_is_wrong(tmp_path: Path, content: Any, files: list[str], message: str) -> None:
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        cases(_folder(tmp_path, content, *files), name="x")


def test_a_modality_that_is_a_text_is_one_channel(tmp_path: Path) -> None:
    (item,) = cases(_folder(tmp_path, _listed("a.nii.gz") | {"modality": "CT"}, *_both("a.nii.gz")), name="x")
    assert Path(item["image"]).name == "a.nii.gz"


def test_a_4d_file_of_several_channels_is_refused(tmp_path: Path) -> None:
    content = _listed("a.nii.gz") | {"modality": {"0": "T1", "1": "FLAIR"}}
    with pytest.raises(ValueError, match=r"holds its channels in one 4-D file; .*a_0000\.nii\.gz"):
        cases(_folder(tmp_path, content, *_both("a.nii.gz")), name="x", channel=0)


def test_no_json_broken_json_and_no_class(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"dataset\.json is missing"):
        cases(tmp_path, name="x")
    (tmp_path / "dataset.json").write_text('{"training": [')
    with pytest.raises(ValueError, match=r"dataset\.json is not valid JSON"):
        cases(tmp_path, name="x")
    with pytest.raises(ValueError, match="names no class"):
        classes(_folder(tmp_path, V2 | {"labels": {"background": 0}}), name="x")


@pytest.mark.parametrize("labels", [{"one": "organ"}, {"organ": [1, "x"]}, {"organ": None}])
def test_a_class_without_a_number_is_named(tmp_path: Path, labels: dict) -> None:
    with pytest.raises(ValueError, match=r"'labels' in .*dataset\.json: 'organ' is to have a whole number, or several, not "):
        classes(_folder(tmp_path, V2 | {"labels": labels}), name="x")
