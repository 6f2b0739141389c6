# SPDX-License-Identifier: Apache-2.0
"""What new_group.py asks about files is in tests/scripts/test_new_group.py."""

from pathlib import Path

import pytest

from common.data import measure


def test_files_that_look_like_one_patients_are_told(capsys: pytest.CaptureFixture) -> None:
    measure._tell_patients(Path("acdc"), ["patient001_frame01", "patient001_frame12", "patient002_frame01"])
    assert "Are patient001_frame01 and patient001_frame12 of one?" in capsys.readouterr().out
    for plain in (["lung_001", "lung_002"], ["a", "b"], ["a_1", "b_1"]):
        measure._tell_patients(Path("x"), plain)
        assert capsys.readouterr().out == ""
