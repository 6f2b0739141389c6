# SPDX-License-Identifier: Apache-2.0
import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def report(*flags, cwd):
    """As a user types it, from any folder."""
    command = [sys.executable, str(ROOT / "scripts" / "report.py"), *flags]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)


@pytest.fixture
def runs(tmp_path):
    row = {"case": "acdc/0", "volume": "", "class": "lv", "empty_truth": False, "empty_prediction": False}
    row |= {"dice": 0.75, "iou": 0.6, "recall": 0.8, "precision": 0.7, "hd95": 4.0}
    metrics = {"units": [row], "hd95_unit": "mm", "parameters": 7, "seconds_per_case": 0.1}
    path = tmp_path / "runs" / "student_acdc" / "alone" / "0" / "test" / "acdc" / "metrics.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(metrics))
    return tmp_path / "runs"


def test_command_line(runs, tmp_path):
    flags = ["--runs", "runs", "--group", "cardiac", "--out", "runs/report", "--targets", "acdc,sun"]
    done = report(*flags, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "report: runs/report/index.html\n"
    assert "0.7500" in (runs / "report" / "table.md").read_text()
    failed = report("--runs", "nowhere", "--group", "cardiac", "--out", "x", cwd=tmp_path)
    assert failed.returncode == 1
    assert failed.stderr.endswith("report: --runs nowhere: no such folder; it is what study.py was given as --runs\n")
    assert not (tmp_path / "x").exists()
