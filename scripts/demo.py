# SPDX-License-Identifier: Apache-2.0
"""The whole method on phantoms, in minutes: `make demo`. Leaves everything in demo/; running it again resumes."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
from common.command_line import command  # noqa: E402


def run(*arguments: str) -> None:
    """One command of the repository, shown as it is typed."""
    print(f"\n$ python {' '.join(arguments)}", flush=True)
    done = subprocess.run([sys.executable, *arguments], cwd=ROOT, check=False)
    if done.returncode:
        raise SystemExit(done.returncode)


def demo(out: str = "demo", cases: int = 15, cores: int = 2) -> None:
    """Make CT phantoms of three datasets, train every stage and baseline for the target, print the table.

    Args:
        out: folder of data, bundles, runs and report.
        cases: volumes a dataset.
        cores: trainings side by side.
    """
    start, place = time.time(), ROOT / out
    if not (place / "data").exists():
        shutil.rmtree(part := place / "data.part", ignore_errors=True)  # of a demo that was stopped here
        run("scripts/make_phantoms.py", "--out", str(part), "--group", "ct", "--cases", str(cases), "--size", "48")
        part.rename(place / "data")
    modules = [f"--dataset={name}=common.data.{name}" for name in ("lits", "kits", "msd_lung")]
    group = [f"{out}/bundles", "--preset", "demo", "--force"]
    run("scripts/new_group.py", "ct", "--task", "segmentation", *modules, "--out", *group)
    study = ["--group", "ct", "--group-file", f"{out}/bundles/ct.yaml", "--data", f"{out}/data", "--runs", f"{out}/runs"]
    arms = ["--targets", "lits", "--seeds", "0", "--arms", "alone,multi_head,teacher,joint,distill", "--cores", str(cores)]
    run("scripts/study.py", *study, *arms)
    report = Path(out) / "runs" / "report"
    print(f"\n{(ROOT / report / 'table.md').read_text()}")
    print(f"pictures of predictions against truth: {report / 'panels.png'}; all on one page: {report / 'index.html'}")
    print(f"done in {(time.time() - start) / 60:.1f} minutes")


if __name__ == "__main__":
    command(demo)
