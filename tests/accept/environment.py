# SPDX-License-Identifier: Apache-2.0
"""Build the environment of `make accept` from its pins, or reuse it: python tests/accept/environment.py"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
PINS = HERE / "requirements.txt"
ACCEPT = Path(os.environ.get("ACCEPT") or HERE.parents[1] / ".accept").resolve()
VENV = ACCEPT / "venv"
WORK = ACCEPT / "work"


def accept_env(folder: Path = VENV) -> Path:
    """The Python of the pinned environment in `folder`; rebuilt when the pins or the interpreter changed, else reused.

    The hash of the pins is written last, so that an environment half built is built again.

    Raises:
        OSError: this is not Python 3.11, or a package cannot be installed; names it, and where pip's output is.
    """
    if sys.version_info[:2] != (3, 11):
        raise OSError(f"MONAI Label needs Python 3.11, this is {sys.version.split()[0]}; run make accept PYTHON=python3.11.")
    python = folder / "bin" / "python"
    stamp = folder / "pins.sha256"
    wanted = hashlib.sha256(PINS.read_bytes() + sys.version.encode()).hexdigest()
    if stamp.is_file() and stamp.read_text() == wanted and python.exists():
        print(f"accept: {folder} is up to date", flush=True)
        return python
    print(f"accept: building {folder} from {PINS.name}, several minutes", flush=True)
    start = time.monotonic()
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    log = folder.with_name(f"{folder.name}.log")
    with log.open("w") as stream:
        for command in (
            [sys.executable, "-m", "venv", str(folder)],
            [str(python), "-m", "pip", "install", "-r", str(PINS)],
            [str(python), "-m", "pip", "check"],
        ):
            if subprocess.run(command, stdout=stream, stderr=subprocess.STDOUT).returncode:
                raise OSError(_reason(command, log))
    stamp.write_text(wanted)
    print(f"accept: built in {time.monotonic() - start:.0f} s", flush=True)
    return python


def _reason(command: list[str], log: Path) -> str:
    lines = [line.strip() for line in log.read_text().splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("ERROR:")] or lines[-1:]
    what = " ".join(["python", *command[1:4]])
    return (
        f"`{what}` failed: {errors[0].removeprefix('ERROR: ') if errors else 'no output'}. Check the package registry and the"
        f" pins in {PINS}; all of pip's output is in {log}."
    )


if __name__ == "__main__":
    try:
        accept_env()
    except OSError as error:
        sys.exit(f"accept: {error}")
