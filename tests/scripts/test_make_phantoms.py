# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from make_phantoms import make_phantoms

SCRIPT = Path(__file__).parents[2] / "scripts/make_phantoms.py"


def test_the_command_writes_a_group_shows_progress_and_refuses_to_overwrite(tmp_path: Path) -> None:
    command = [sys.executable, str(SCRIPT), "--out", str(tmp_path), "--group", "ct"]
    command += ["--cases", "1", "--size", "16", "--slices", "4"]
    first = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert first.returncode == 0, first.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["kits", "lits", "msd_lung"]
    assert "3/3" in first.stderr
    again = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert again.returncode != 0
    assert "msd_lung exists and is not empty" in again.stderr and "Traceback" not in again.stderr


def test_nothing_is_written_when_one_dataset_of_the_group_is_there(tmp_path: Path) -> None:
    (tmp_path / "kits").mkdir()
    (tmp_path / "kits" / "mine").touch()
    with pytest.raises(FileExistsError, match="kits exists"):
        make_phantoms(out=str(tmp_path), group="ct", cases=1, size=16, slices=4)
    assert [path.name for path in tmp_path.iterdir()] == ["kits"]


def test_an_unknown_group_is_named(tmp_path: Path) -> None:
    known = "mri, ct, cardiac, table, cxr, dementia, figshare, pneumonia or all"
    with pytest.raises(ValueError, match=f"unknown group 'pet'; choose one of {known}"):
        make_phantoms(out=str(tmp_path), group="pet")


def test_groups_for_classification_are_written(tmp_path: Path) -> None:
    for group in ("cxr", "dementia", "figshare", "pneumonia"):
        make_phantoms(out=str(tmp_path), group=group, cases=1, size=16, slices=4)
    written = "adni covid_collection covid_qu_ex covidx_cxr3 figshare kermany nih oasis"
    assert sorted(path.name for path in tmp_path.iterdir()) == written.split()
