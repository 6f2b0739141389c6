# SPDX-License-Identifier: Apache-2.0
"""What every official layout has in common: it lists the phantoms, and names what is wrong."""

from __future__ import annotations

import importlib
from pathlib import Path

import nibabel
import numpy as np
import pytest

from common.data.layout import pair
from common.phantoms.layouts import write_dataset

DATASETS = ("brainmetshare", "isles22", "brats20", "msd_lung", "lits", "kits", "acdc")
CASES = 6


@pytest.fixture(scope="module", params=DATASETS)
def phantom(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory):
    """(the dataset's module, the folder of its phantoms)"""
    writer = "acdc_official" if request.param == "acdc" else request.param
    root = write_dataset(writer, tmp_path_factory.mktemp("phantoms"), cases=CASES, size=24, slices=6, seed=3)
    return importlib.import_module(f"common.data.{request.param}"), root


def test_lists_every_case_in_order_with_existing_files(phantom) -> None:
    module, root = phantom
    items = module.FACTS.reader(root)
    assert len({item["case"] for item in items}) == CASES
    assert len(items) == CASES * (2 if module.FACTS.name == "acdc" else 1)
    assert items == sorted(items, key=lambda item: (item["case"], item["volume"]))
    assert len({(item["case"], item["volume"]) for item in items}) == len(items)
    for item in items:
        assert item["case"].startswith(module.FACTS.name + "/")
        assert item["volume"]
        assert Path(item["image"]).is_file() and Path(item["label"]).is_file()


def test_labels_are_known_hold_the_lesion_on_some_slices_only_and_share_the_geometry(phantom) -> None:
    module, root = phantom
    seen: set[int] = set()
    for item in module.cases(root):
        image, label = nibabel.load(item["image"]), nibabel.load(item["label"])
        assert image.shape == label.shape
        np.testing.assert_array_equal(image.affine, label.affine)
        values = np.asarray(nibabel.as_closest_canonical(label).dataobj)
        seen |= set(np.unique(values).tolist())
        (lesion,) = module.FACTS.classes.values()
        slices = np.isin(values, lesion).any(axis=(0, 1))
        assert slices.any() and not slices.all()
    assert seen == set(module.FACTS.label_values)


def test_names_a_root_that_is_missing_empty_or_a_file(phantom, tmp_path: Path) -> None:
    module, _ = phantom
    with pytest.raises(FileNotFoundError, match=rf"{module.FACTS.name}: .*gone does not exist"):
        module.cases(tmp_path / "gone")
    with pytest.raises(FileNotFoundError, match=rf"{module.FACTS.name}: .*{tmp_path.name}"):
        module.cases(tmp_path)
    (tmp_path / "data.zip").touch()
    with pytest.raises(NotADirectoryError, match=r"data\.zip is a file"):
        module.cases(tmp_path / "data.zip")


@pytest.mark.parametrize("removed", ["image", "label"])
def test_names_an_image_without_mask_and_a_mask_without_image(phantom, removed: str) -> None:
    module, root = phantom
    first = module.cases(root)[0]
    gone, left = Path(first[removed]), Path(first["label" if removed == "image" else "image"])
    hidden = gone.with_name("." + gone.name)
    gone.rename(hidden)
    try:
        with pytest.raises(FileNotFoundError) as error:
            module.cases(root)
    finally:
        hidden.rename(gone)
    # a dataset.json names the missing file, a pairing by name the file that is left alone
    assert str(gone if module.FACTS.name == "msd_lung" else left) in str(error.value)


def test_names_a_file_that_fits_no_name(phantom) -> None:
    module, root = phantom
    stray = Path(module.cases(root)[0]["image"]).with_name("final_v2.nii.gz")
    stray.touch()
    try:
        with pytest.raises(ValueError, match=r"final_v2\.nii\.gz"):
            module.cases(root)
    finally:
        stray.unlink()


def test_finds_cases_from_a_folder_above_through_links_and_past_hidden_files(phantom, tmp_path: Path) -> None:
    module, root = phantom
    if module.FACTS.name != "msd_lung":
        (tmp_path / "linked").symlink_to(root, target_is_directory=True)
        assert len(module.cases(tmp_path)) == len(module.cases(root))
    image = Path(module.cases(root)[0]["image"])
    dotted = image.with_name("._" + image.name)  # what macOS leaves in archives
    dotted.touch()
    try:
        assert module.cases(root)
    finally:
        dotted.unlink()


def _pair(root: Path, **options: str) -> list:
    options = {"image": r"(?P<case>i\d)\.nii(?:\.gz)?", "label": r"(?P<case>i\d)_m\.nii(?:\.gz)?"} | options
    return pair(root, dataset="toy", layout="iN.nii and iN_m.nii", fix="Ask.", **options)


def test_refuses_two_files_of_one_scan(tmp_path: Path) -> None:
    for name in ("i1.nii", "i1.nii.gz", "i1_m.nii"):
        (tmp_path / name).touch()
    with pytest.raises(ValueError, match=r"i1\.nii and .*i1\.nii\.gz are the same scan"):
        _pair(tmp_path)


def test_leaves_out_test_images_and_refuses_a_folder_of_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "i9.nii").touch()
    with pytest.raises(FileNotFoundError, match="only test images"):
        _pair(tmp_path, unlabelled=r"i9\.nii")
    for name in ("i1.nii", "i1_m.nii"):
        (tmp_path / name).touch()
    assert [item["case"] for item in _pair(tmp_path, unlabelled=r"i9\.nii")] == ["toy/i1"]


def test_a_name_is_matched_whole(tmp_path: Path) -> None:
    for name in ("i1.nii", "i1_m.nii", "xi2.nii"):
        (tmp_path / name).touch()
    with pytest.raises(ValueError, match=r"xi2\.nii fits no name"):
        _pair(tmp_path)
