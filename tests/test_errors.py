# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from common.errors import brief, root_cause

ROOT = Path(__file__).resolve().parents[1]


def python(*args: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    return subprocess.run([sys.executable, *args], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=180)


def wrapped(error: Exception) -> RuntimeError:
    """As MONAI wraps what an expression in an expression raises."""
    try:
        try:
            raise error
        except Exception as inner:
            raise RuntimeError("Failed to evaluate ConfigExpression") from inner
    except RuntimeError as middle:
        try:
            raise RuntimeError("Failed to instantiate ConfigComponent") from middle
        except RuntimeError as outer:
            return outer


def test_the_cause_is_below_monais_wrappers() -> None:
    cause = ValueError("the cause")
    assert root_cause(wrapped(cause)) is cause
    assert root_cause(cause) is cause
    assert root_cause(wrapped(RuntimeError("of torch"))).args == ("of torch",)


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (ValueError("One.\n  Two  words. Three."), "ValueError: One"),
        (KeyError("a"), "KeyError: 'a'"),
        (EOFError(), "EOFError"),
        (ValueError("x" * 999), "ValueError: " + "x" * 200),
    ],
)
def test_brief_is_one_line(error: Exception, text: str) -> None:
    assert brief(wrapped(error)) == text


SCRIPT = """
from common.errors import plain_errors
plain_errors()
plain_errors()
try:
    {raised}
except Exception as error:
    raise RuntimeError("Failed to evaluate ConfigExpression") from error
"""


@pytest.mark.parametrize(
    ("raised", "line"),
    [
        ("raise ValueError('table.csv, row 3:\\n  case_id is empty')", "error: table.csv, row 3: case_id is empty"),
        ("open('gone.txt')", "error: [Errno 2] No such file or directory: 'gone.txt'"),
        ("{}['key']", "error: KeyError: 'key'"),
    ],
)
def test_the_last_line_of_stderr_is_the_cause(raised: str, line: str) -> None:
    done = python("-c", SCRIPT.format(raised=raised))
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == line
    assert done.stderr.count("error: ") == 1 and "Traceback" in done.stderr


def test_a_failed_stock_command_ends_with_the_cause(tmp_path: Path) -> None:
    config = "bundles/student_acdc/configs/train.yaml"
    flags = ("--data_dir", str(tmp_path / "gone"), "--runs_dir", str(tmp_path))
    done = python("-m", "monai.bundle", "run", "training", "--config_file", config, *flags)
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert last.startswith(f"error: dataset folder {tmp_path}/gone/acdc does not exist;"), done.stderr[-2000:]
