# SPDX-License-Identifier: Apache-2.0
"""From tables to a report by the real commands: new_group, study with stock `monai.bundle`, pictures of real weights."""

import csv
import os
import subprocess
import sys
from pathlib import Path

import pytest
import study as study_script

from common.phantoms.layouts import write_dataset

ROOT = Path(__file__).parents[2]


def call(script: str, *arguments: str) -> str:
    env = os.environ | {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, f"scripts/{script}.py", *arguments]
    result = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=600)
    assert result.returncode == 0, result.stdout[-2000:] + result.stderr[-2000:]
    return result.stdout


def test_own_tables_become_a_report_and_a_second_study_does_nothing(tmp_path: Path) -> None:
    data, bundles, runs = tmp_path / "data", tmp_path / "bundles", tmp_path / "runs"
    tables = [f"--dataset={name}={write_dataset(name, data, cases=6, size=32, slices=4)}" for name in ("acdc", "sunnybrook")]
    facts = ["--task", "segmentation", "--classes", "lv=acdc:3/sunnybrook:1", "--preset", "demo", "--out", str(bundles)]
    call("new_group", "heart", *tables, *facts)
    arms = ["--targets", "acdc", "--seeds", "0", "--arms", "alone,distill_target_only"]
    places = ["--group-file", f"{bundles}/heart.yaml", "--data", str(data), "--runs", str(runs)]
    steps = ["--set", "max_epochs=1,epoch_length=2,image_size=32,teacher_floor=0,unet::features=[4,4,8,8,8,4]"]
    study = ["--group", "heart", *places, *arms, *steps, "--cores", "2"]
    assert "all 6 jobs done, 6 of them now" in call("study", *study)
    with (runs / "report/table.csv").open() as file:
        assert {row["arm"] for row in csv.DictReader(file)} == {"alone", "teacher", "distill_target_only"}
    for picture in ("panels.png", "learning_curves.png", "tsne.png"):
        assert (runs / "report" / picture).read_bytes().startswith(b"\x89PNG")
    page = (runs / "report/index.html").read_text()
    assert "distill_target_only" in page and page.count("data:image/png") >= 3
    assert "nothing to do: all 6 jobs are done" in call("study", *study)

    def goes_on() -> int:
        """One seed more, as far as the plan; what is there is compared with it."""
        asked = {"group": "heart", "targets": "acdc", "arms": "alone,distill_target_only", "seeds": "0,1", "dry_run": True}
        asked |= {"data": data, "runs": runs, "group_file": bundles / "heart.yaml", "set": steps[1]}
        return study_script.study(**asked)

    assert goes_on() == 0
    changes = [
        (
            bundles / "heart.yaml",
            "percentiles: [1.0, 99.0]",
            "percentiles: [2.0, 98.0]",
            "alone/0 was trained with percentiles",
        ),
        (
            bundles / "teacher_acdc/configs/train.yaml",
            "batch_size: ",
            "batch_size: 1",
            "teacher_acdc/alone/0 .* another batch_size",
        ),
        (runs / "student_acdc/distill_target_only/0/config.json", "acdc/alone/0", "acdc/alone/1", "another teacher "),
        (data / "acdc/index.csv", None, None, "alone/0 was trained when dataset acdc had other patients: its fold 0"),
    ]
    for file, old, new, message in changes:
        text = file.read_text()
        if old is None:  # a patient leaves
            patient = text.splitlines()[1].split(",")[2]
            file.write_text("".join(row for row in text.splitlines(keepends=True) if patient not in row))
        else:
            file.write_text(text.replace(old, new))
        assert file.read_text() != text
        with pytest.raises(ValueError, match=message):
            goes_on()
        file.write_text(text)
    assert goes_on() == 0
