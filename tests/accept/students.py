# SPDX-License-Identifier: Apache-2.0
"""Train, evaluate and export two small students on phantoms, by the commands a user types: python tests/accept/students.py"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time

from environment import HERE, WORK

ROOT = HERE.parents[1]
DATA, RUNS, EXPORTED = WORK / "data", WORK / "runs", WORK / "exported"
SIZE = 48
# by the name of the exported bundle; the second carries its network's code
STUDENTS = {
    "student_unet": ["--variant", "unet", "--unet::features", "[8, 8, 16, 16, 32, 8]"],
    "student_transresunet": ["--variant", "transresunet", "--architecture", "TransResUNet", "--transresunet::width", "8"],
}
CONFIGS = "bundles/student_lits/configs"
TRAINING = {"image_size": SIZE, "epoch_length": 25, "max_epochs": 4, "select_from": 1, "learning_rate": 0.002, "quiet": True}


def students() -> None:
    """Write WORK/data, WORK/runs and WORK/exported anew; ends the program with the failing command's output."""
    shutil.rmtree(WORK, ignore_errors=True)
    WORK.mkdir(parents=True)
    call("phantoms", "scripts/make_phantoms.py", "--out", str(DATA), "--group", "ct", "--size", str(SIZE))
    bundle = ["-m", "monai.bundle", "run"]
    for name, network in STUDENTS.items():
        run = RUNS / "student_lits" / network[1] / "0"
        common = ["--data_dir", str(DATA)]
        keys = [word for key, value in TRAINING.items() for word in (f"--{key}", str(value))]
        config = ["--config_file", f"{CONFIGS}/train.yaml", "--runs_dir", str(RUNS)]
        call(f"{name}: train", *bundle, "training", *config, *common, *keys, *network)
        config = ["--config_file", f"{CONFIGS}/evaluate.yaml", "--run_dir", str(run)]
        call(f"{name}: evaluate", *bundle, "evaluating", *config, *common)
        call(f"{name}: export", "scripts/export_bundle.py", str(run), "--out", str(EXPORTED / name))


def call(what: str, *arguments: str) -> None:
    """Run this Python in the repository's root; the output is shown if it fails."""
    start = time.monotonic()
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    if done.returncode:
        sys.exit(f"{done.stdout[-4000:]}\naccept: {what} failed ({' '.join(arguments)})")
    print(f"accept: {what}, {time.monotonic() - start:.0f} s", flush=True)


if __name__ == "__main__":
    students()
