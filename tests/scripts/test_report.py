# SPDX-License-Identifier: Apache-2.0
import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "report.py"


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
    """As a user types it, from any folder."""
    flags = ["--runs", "runs", "--group", "cardiac", "--out", "runs/report", "--targets", "acdc,sun"]
    command = [sys.executable, str(SCRIPT), *flags]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "report: runs/report/index.html\n"
    assert "0.7500" in (runs / "report" / "table.md").read_text()


def test_nothing_to_report_is_one_line_and_exit_code_1(tmp_path):
    spec = importlib.util.spec_from_file_location("report_script", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    with pytest.raises(SystemExit) as stopped:
        module.report(runs="nowhere", group="cardiac", out=str(tmp_path / "x"), targets="acdc")
    assert stopped.value.code == "report: --runs nowhere: no such folder; it is what study.py was given as --runs"
    assert not (tmp_path / "x").exists()
