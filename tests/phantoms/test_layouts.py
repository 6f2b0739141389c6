# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pytest
from monai.transforms import LoadImage, Orientation

from common.data.lits import cases as lits_cases
from common.phantoms.layouts import NAMES, write_dataset, write_dicom_series


def _arrays(folder: Path) -> dict[str, bytes]:
    """Every file's content; of gzip files the voxels, as their headers hold the time."""
    found = {}
    for path in sorted(p for p in folder.rglob("*") if p.is_file() and p.suffix != ".dcm"):
        image = nibabel.load(path) if path.name.endswith((".nii", ".nii.gz")) else None
        content = path.read_bytes() if image is None else image.affine.tobytes() + np.asarray(image.dataobj).tobytes()
        found[path.relative_to(folder).as_posix()] = content
    return found


@pytest.mark.parametrize("name", sorted(NAMES))
def test_a_seed_decides_and_a_case_does_not_depend_on_the_number_of_cases(name: str, tmp_path: Path) -> None:
    def write(out: str, cases: int, seed: int) -> dict[str, bytes]:
        return _arrays(write_dataset(name, tmp_path / out, cases=cases, size=16, slices=4, seed=seed))

    first = write("a", 1, 0)
    assert first == write("b", 1, 0)
    lists = {key for key in first if key.endswith((".json", ".csv", ".txt", "cvind.mat"))}
    more, other = write("c", 2, 0), write("d", 1, 1)
    assert all(more[key] == first[key] for key in first.keys() - lists)
    assert first != other


def test_on_case_is_called_after_each_case(tmp_path: Path) -> None:
    calls: list[int] = []
    write_dataset("lits", tmp_path, cases=3, size=16, slices=4, on_case=lambda: calls.append(1))
    assert len(calls) == 3


def test_bad_arguments_and_a_folder_in_use_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="unknown phantom dataset 'litz'; choose one of"):
        write_dataset("litz", tmp_path)
    with pytest.raises(ValueError, match="at least one case, not 0"):
        write_dataset("lits", tmp_path, cases=0)
    with pytest.raises(ValueError, match="size >= 16 and slices >= 4, not 8 and 2"):
        write_dataset("lits", tmp_path, size=8, slices=2)
    assert not any(tmp_path.iterdir())
    (tmp_path / "lits").mkdir()
    (tmp_path / "lits" / "mine.nii").touch()
    with pytest.raises(FileExistsError, match="lits exists and is not empty"):
        write_dataset("lits", tmp_path)
    assert [path.name for path in (tmp_path / "lits").iterdir()] == ["mine.nii"]


def test_ct_is_int16_hounsfield_units_with_spacings_that_differ(tmp_path: Path) -> None:
    images = [nibabel.load(item["image"]) for item in lits_cases(write_dataset("lits", tmp_path, cases=3))]
    assert {image.get_data_dtype() for image in images} == {np.dtype(np.int16)}
    assert all(-1024 <= np.asarray(image.dataobj).min() < -900 for image in images)
    assert len({tuple(sorted(image.header.get_zooms())) for image in images}) == 3
    assert all(image.shape == (48, 48, 12) for image in images)


def test_a_dicom_series_reads_back_where_the_nifti_of_the_same_scan_lies(tmp_path: Path) -> None:
    write_dataset("lits", tmp_path, cases=2, size=16, slices=5)
    write_dataset("lits_dicom", tmp_path, cases=2, size=16, slices=5)
    load, orient = LoadImage(image_only=True, ensure_channel_first=True), Orientation("RAS", labels=None)
    for number, item in enumerate(lits_cases(tmp_path / "lits"), start=1):
        series = orient(load(tmp_path / f"lits_dicom/series/case{number:03d}"))
        nifti = orient(load(item["image"]))
        np.testing.assert_array_equal(series.numpy(), nifti.numpy())
        np.testing.assert_allclose(series.affine, nifti.affine, atol=1e-3)


def test_a_dicom_series_needs_a_folder_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    with pytest.raises(FileExistsError, match="is not empty"):
        write_dicom_series(np.zeros((16, 16, 4)), (1.0, 1.0, 1.0), tmp_path)
