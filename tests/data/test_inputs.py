# SPDX-License-Identifier: Apache-2.0
from contextlib import nullcontext
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import SaveImage

from common.data.inputs import inputs, root_of


def touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        if name.endswith((".nii", ".nii.gz")):
            nibabel.Nifti1Image(np.zeros((2, 2, 2), np.float32), np.eye(4)).to_filename(root / name)
        else:
            (root / name).touch()


def test_files_and_folders_are_listed_in_order(tmp_path: Path) -> None:
    touch(tmp_path, "b.nii.gz", "a.nii.gz", "series/1.dcm")
    assert inputs(f"{tmp_path}/*.nii.gz", 3) == [{"image": str(tmp_path / "a.nii.gz")}, {"image": str(tmp_path / "b.nii.gz")}]
    assert inputs(f"{tmp_path}/*/", 3) == [{"image": str(tmp_path / "series")}]


def test_pictures_are_no_volumes(tmp_path: Path) -> None:
    touch(tmp_path, "a.PNG")
    assert inputs(f"{tmp_path}/*", 2) == [{"image": str(tmp_path / "a.PNG")}]
    with pytest.raises(ValueError, match=r"a.PNG is a picture; volumes are read here: NIfTI, or the folder of a DICOM series"):
        inputs(f"{tmp_path}/*", 3)


def test_no_match_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"--input .*\*\.nii\.gz matches no file"):
        inputs(f"{tmp_path}/*.nii.gz", 3)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((4, 5), r"a.nii.gz has the shape \(4, 5\); 3 dimensions and one channel are expected"),
        ((4, 5, 6, 2), r"a.nii.gz has the shape \(4, 5, 6, 2\); 3 dimensions"),
        ((4, 5, 0), r"a.nii.gz is empty \(shape \(4, 5, 0\)\)"),
        (None, r"a.nii.gz cannot be read .*Copy it again"),
        ((4, 5, 6, 1), None),
    ],
)
def test_a_volume_that_cannot_be_segmented_is_refused_by_name(
    tmp_path: Path, shape: tuple[int, ...] | None, message: str | None
) -> None:
    if shape is None:
        (tmp_path / "a.nii.gz").touch()
    else:
        nibabel.Nifti1Image(np.zeros(shape, np.float32), np.eye(4)).to_filename(tmp_path / "a.nii.gz")
    with pytest.raises(ValueError, match=message) if message else nullcontext():
        assert len(inputs(f"{tmp_path}/*", 3)) == 1


@pytest.mark.parametrize(
    ("names", "saved"),
    [
        (["x.nii.gz", "y.nii"], ["x_pred.nii.gz", "y_pred.nii.gz"]),
        (["c1/imaging.nii.gz", "c2/imaging.nii.gz"], ["c1/imaging_pred.nii.gz", "c2/imaging_pred.nii.gz"]),
        (["c1/imaging.nii.gz"], ["imaging_pred.nii.gz"]),
    ],
)
def test_each_input_is_saved_under_a_name_of_its_own(tmp_path: Path, names: list[str], saved: list[str]) -> None:
    items = [{"image": str(tmp_path / name)} for name in names]
    save = SaveImage(tmp_path / "out", "pred", separate_folder=False, data_root_dir=root_of(items), print_log=False)
    for item in items:
        save(MetaTensor(torch.zeros(1, 2, 2, 2), affine=np.eye(4), meta={"filename_or_obj": item["image"]}))
    assert sorted(str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*.nii.gz")) == saved


def test_relative_inputs_have_a_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path, "a.nii.gz", "c/b.nii.gz")
    monkeypatch.chdir(tmp_path)
    assert root_of(inputs("*.nii.gz", 3)) == ""
    assert root_of(inputs("c/*.nii.gz", 3)) == "c"


@pytest.mark.parametrize("names", [("s/1.2.840.1", "s/1.2.840.2"), ("a.nii.gz", "a.nii")])
def test_inputs_that_would_share_a_name_are_refused(names: tuple[str, str]) -> None:
    with pytest.raises(ValueError, match=f"{names[0]} and {names[1]} would be saved under one name"):
        root_of([{"image": name} for name in names])
