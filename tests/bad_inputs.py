# SPDX-License-Identifier: Apache-2.0
"""What tests/test_bad_inputs.py does with its inputs: how files are damaged, and how a job is given and refused."""

from __future__ import annotations

import errno
import os
import runpy
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import monai.bundle
import nibabel
import numpy as np
import pytest
from PIL import Image

from common.errors import root_cause
from common.phantoms.layouts import write_dataset

ROOT = Path(__file__).resolve().parents[1]
STEPS = {"max_epochs": 1, "epoch_length": 2, "batch_size": 2, "select_from": 0, "quiet": True, "logging_file": False}
Damage = Callable[[Path], object]


class Lab:
    """Finished runs of stages 1 and 2 with a result, and what refuses a job beside them."""

    def __init__(self, tiny: Any, root: Path) -> None:
        self.tiny, self.runs = tiny, root / "runs"
        for stage in ("alone", "adapt", "joint"):
            self.run(self.job(stage))
        self.alone, self.adapt, self.joint = (tiny.run_dir(stage, self.runs) for stage in ("alone", "adapt", "joint"))
        self.run(self.evaluation())
        self.volumes = write_dataset("lits", root / "data", cases=5, size=32, slices=4).parent

    def job(self, stage: str, **changes: Any) -> dict[str, Any]:
        """Arguments of monai.bundle.run for two steps of a stage; `...` takes a key away."""
        job = self.tiny.job(stage, self.runs, teachers=self.runs, **STEPS) | changes
        return {key: value for key, value in job.items() if value is not ...}

    def evaluation(self, **changes: Any) -> dict[str, Any]:
        job = {"run_id": "evaluating", "config_file": "bundles/teacher_acdc/configs/evaluate.yaml"}
        job |= {"logging_file": False, "data_dir": str(self.tiny.data), "run_dir": str(self.alone)}
        return job | changes

    def run(self, job: dict[str, Any]) -> None:
        monai.bundle.run(**job)

    def refused(self, job: dict[str, Any], *parts: str) -> str:
        """The message of a job that must fail before it trains; it is one line and holds every part."""
        with pytest.raises(Exception) as caught:  # MONAI wraps what was raised
            self.run({"variant": "bad"} | job if job["run_id"] == "training" else job)
        cause = root_cause(caught.value)
        assert isinstance(cause, ValueError | OSError), repr(cause)
        message = str(cause)
        assert len(message.splitlines()) == 1
        for part in parts:
            assert part in message
        assert not [path for path in self.runs.glob("*/bad/*/*") if path.suffix == ".pt" or path.name == "checkpoints"]
        return message

    def results(self) -> dict[str, bytes]:
        """Every file of the finished runs."""
        runs = (self.alone, self.adapt, self.joint)
        return {str(path): path.read_bytes() for run in runs for path in sorted(run.rglob("*")) if path.is_file()}


def volume(name: str, change: Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]) -> Damage:
    def damage(data: Path) -> None:
        path = next(data.rglob(name))
        image = nibabel.load(path)
        array, affine = change(np.asarray(image.dataobj), image.affine.copy())
        path.unlink()
        nibabel.Nifti1Image(array, affine).to_filename(path)

    return damage


def bytes_of(name: str, change: Callable[[bytes], bytes]) -> Damage:
    def damage(data: Path) -> None:
        path = next(data.rglob(name))
        path.write_bytes(change(path.read_bytes()))

    return damage


def half(content: bytes) -> bytes:
    return content[: len(content) // 2]


def rows(change: Callable[[list[list[str]]], object], dataset: str = "acdc") -> Damage:
    """Change the cells of the table, header first."""

    def damage(data: Path) -> None:
        path = data / dataset / "index.csv"
        table = [line.split(",") for line in path.read_text().splitlines()]
        change(table)
        path.write_text("\n".join(",".join(row) for row in table) + "\n")

    return damage


def column(name: str, first: str, others: str) -> Damage:
    def change(table: list[list[str]]) -> None:
        for number, row in enumerate(table):
            row.append(name if number == 0 else first if number == 1 else others)

    return rows(change)


def rename(old: str, new: str) -> Damage:
    return rows(lambda table: table[0].__setitem__(table[0].index(old), new))


def picture(name: str, change: Callable[[np.ndarray], np.ndarray]) -> Damage:
    return lambda data: Image.fromarray(change(np.asarray(Image.open(data / name)))).save(data / name)


def full(*args: Any) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def command(job: dict[str, Any], **options: Any) -> tuple[int, str]:
    """The stock command of a job: its exit code and the last line it wrote to stderr."""
    flags = [part for key, value in job.items() if key != "run_id" for part in (f"--{key}", str(value))]
    line = [sys.executable, "-m", "monai.bundle", "run", job["run_id"], *flags]
    env = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(line, cwd=ROOT, env=env, capture_output=True, text=True, timeout=300, check=False, **options)
    return done.returncode, [text for text in done.stderr.splitlines() if text.strip()][-1]


def script(name: str, *flags: str) -> Any:
    """Run a script in this process as the command line does; what it exits with."""
    arguments, sys.argv = sys.argv, [name, *flags]
    try:
        with pytest.raises(SystemExit) as caught:
            runpy.run_path(str(ROOT / "scripts" / name), run_name="__main__")
    finally:
        sys.argv = arguments
    return caught.value.code
