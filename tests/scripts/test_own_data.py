# SPDX-License-Identifier: Apache-2.0
"""From tables to a report by the real commands: new_group, study with stock `monai.bundle`, pictures of real weights."""

import csv
import os
import subprocess
import sys
from pathlib import Path

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
    steps = ["--set", "max_epochs=1,epoch_length=2,image_size=32,teacher_floor=0"]
    study = ["--group", "heart", *places, *arms, *steps, "--cores", "2"]
    assert "all 6 jobs done, 6 of them now" in call("study", *study)
    with (runs / "report/table.csv").open() as file:
        assert {row["arm"] for row in csv.DictReader(file)} == {"alone", "teacher", "distill_target_only"}
    for picture in ("panels.png", "learning_curves.png", "tsne.png"):
        assert (runs / "report" / picture).read_bytes().startswith(b"\x89PNG")
    page = (runs / "report/index.html").read_text()
    assert "distill_target_only" in page and page.count("data:image/png") >= 3
    assert "nothing to do: all 6 jobs are done" in call("study", *study)
