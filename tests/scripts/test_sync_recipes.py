# SPDX-License-Identifier: Apache-2.0
"""After an edit of a group file, the command that training names writes bundles that train again."""

import json
import shutil
import sys
from pathlib import Path

import pytest
import sync_recipes
import yaml

from common.bundle_files import write_group
from common.command_line import command
from common.errors import root_cause
from common.phantoms.layouts import write_dataset
from tests.trained_bundles import ROOT, execute, tiny

LITS = "lits: {module: common.data.lits"


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the bundles of ct, and its lits, which keeps the organ since they were written."""
    monkeypatch.chdir(tmp_path)
    Path("bundles").mkdir()
    group = Path(shutil.copy(ROOT / "bundles/ct.yaml", "bundles"))
    write_group("bundles/ct.yaml")
    assert LITS in group.read_text()
    group.write_text(group.read_text().replace(LITS, f"{LITS}, classes: {{liver: [1], lesion: [2]}}"))
    write_dataset("lits", tmp_path / "data", cases=8, size=32, slices=6, seed=1)
    return tmp_path


def sync(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    monkeypatch.setattr(sys, "argv", ["sync_recipes.py", *arguments])
    command(sync_recipes.sync)


def test_a_group_file_that_was_edited(place: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture) -> None:
    file = "bundles/student_lits/configs/train.yaml"
    with pytest.raises((SystemExit, Exception)) as error:
        execute("training", file, **tiny(file))
    told = str(root_cause(error.value)) + capfd.readouterr().err
    told_command = "scripts/sync_recipes.py --group bundles/ct.yaml"
    assert "the network has 2 outputs, but bundles/ct.yaml gives dataset lits 3 (liver, lesion, and the background)" in told
    assert f"`python {told_command}` writes its bundles anew" in told
    assert not list(Path("runs").rglob("network.json"))
    sync(monkeypatch, *told_command.split()[1:])
    assert f"group_file: {place}/bundles/ct.yaml" in Path(file).read_text()  # not from the repository's root
    execute("training", file, **tiny(file))
    assert json.loads(Path("runs/student_lits/alone/0/network.json").read_text())["out_channels"] == 3
    deployed = yaml.safe_load(Path("bundles/student_lits/configs/inference.yaml").read_text())
    assert deployed["network_def"]["out_channels"] == 3
    card = json.loads(Path("bundles/student_lits/configs/metadata.json").read_text())
    assert list(card["network_data_format"]["outputs"]["pred"]["channel_def"].values()) == ["background", "liver", "lesion"]


def test_a_group_file_that_is_wrong_is_named(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SystemExit, match=r"error: group file .*bundles/xt.yaml does not exist"):
        sync(monkeypatch, "--group", "bundles/xt.yaml")


def test_recipes_that_are_out_of_date(place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    config = place / "bundles/student_lits/configs/distill.yaml"
    written = config.read_text()
    config.write_text(written + "more: 1\n")
    with pytest.raises(SystemExit, match="1"):
        sync(monkeypatch, "--check")
    assert "bundles/student_lits/configs/distill.yaml\n1 configuration(s) out of date" in capsys.readouterr().out
    assert config.read_text() != written
    with pytest.raises(SystemExit, match="--check compares with the recipes; --group writes"):
        sync(monkeypatch, "--check", "--group", "bundles/ct.yaml")
    with pytest.raises(SystemExit, match="--bundles bundels holds no bundle"):
        sync(monkeypatch, "--check", "--bundles", "bundels")
    sync(monkeypatch)
    assert config.read_text() == written
    sync(monkeypatch, "--check")
