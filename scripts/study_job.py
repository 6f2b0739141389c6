# SPDX-License-Identifier: Apache-2.0
"""Runs one job of a study; Snakemake calls it: `python scripts/study_job.py PLAN SLUG`.

It keeps the job's output in a log, says in `<runs>/.study/jobs/<slug>.json` how the job fares, lets no two processes
work on one job (a cluster job may outlive the study that sent it), and lets no training outlive Snakemake.
"""

from __future__ import annotations

import ctypes
import fcntl
import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import FrameType
from typing import Any, TextIO

GRACE = 10.0  # seconds between asking a command to end and killing it


def die_with_parent(signum: int = signal.SIGKILL) -> None:
    """For a child, before exec: have the kernel send it `signum` when its parent dies (Linux; elsewhere nothing)."""
    if sys.platform == "linux":
        pr_set_pdeathsig = 1
        ctypes.CDLL(None, use_errno=True).prctl(pr_set_pdeathsig, int(signum), 0, 0, 0)


def write_json(path: Path, value: Any) -> None:
    """Write atomically: a reader sees the old file or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{socket.gethostname()}.{os.getpid()}")
    temporary.write_text(json.dumps(value, indent=1))
    temporary.replace(path)


def run(plan_path: Path, slug: str) -> int:
    """Run the job `slug` of the plan; 0 if its outputs exist in the end."""
    plan = json.loads(plan_path.read_text())
    job = next(job for job in plan["pending"] if job["slug"] == slug)
    stopped: list[int] = []

    def stop(signum: int, frame: FrameType | None) -> None:
        stopped.append(signum)

    for signum in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signum, stop)
    parent = os.getppid()
    state = Path(plan["state"]) / "jobs"
    state.mkdir(parents=True, exist_ok=True)
    status = {
        "session": plan["session"],
        "settings": plan["settings"],
        "host": socket.gethostname(),
        "pid": os.getpid(),
    }
    status |= {"name": job["name"], "log": job["log"], "started": time.time()}
    with (state / f"{slug}.lock").open("w") as lock:
        while not _locked(lock.fileno()):
            if stopped or os.getppid() != parent:
                return 130
            time.sleep(0.5)
        if all(Path(output).exists() for output in job["outputs"]):  # another process has just done it
            write_json(state / f"{slug}.json", {**status, "state": "done", "finished": time.time()})
            return 0
        write_json(state / f"{slug}.json", {**status, "state": "running"})
        code = _command(job, plan, parent, stopped)
        outcome = "done" if not code else "stopped" if stopped else "failed"
        write_json(state / f"{slug}.json", {**status, "state": outcome, "code": code, "finished": time.time()})
    return 130 if code and stopped else code


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _command(job: dict[str, Any], plan: dict[str, Any], parent: int, stopped: list[int]) -> int:
    """Run the job's command at the repository's root with this Python first on the path; its output goes to the log."""
    log_path = Path(job["log"])
    log_path.parent.mkdir(parents=True, exist_ok=True)
    env = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONUNBUFFERED": "1",
    }
    with log_path.open("a") as log:
        log.write(f"\n$ {job['command']}\n")
        log.flush()
        try:
            child = _start(job["command"], plan["root"], env, log)
        except OSError as error:
            log.write(f"cannot start the command: {error}\n")
            return 127
        while child.poll() is None:
            if os.getppid() != parent:  # Snakemake was killed: nobody would take the result
                stopped.append(signal.SIGKILL)
            if stopped:
                _end(child)
            time.sleep(0.1)
        missing = [output for output in job["outputs"] if not Path(output).exists()]
        if missing and not child.returncode and not stopped:
            log.write(f"the command ended without an error, but did not write {', '.join(missing)}\n")
        if not missing and child.returncode:  # killed when all was written; Snakemake would delete the outputs of a failure
            log.write(f"the command ended with {child.returncode} after it had written everything\n")
    return (child.returncode or 1) if missing else 0


def _start(command: str, root: str, env: dict[str, str], log: TextIO) -> subprocess.Popen[bytes]:
    """Start it in a session of its own, so that its data-loading workers can be stopped with it."""
    return subprocess.Popen(
        shlex.split(command),
        cwd=root,
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        preexec_fn=die_with_parent,
    )


def _end(child: subprocess.Popen[bytes]) -> None:
    """Ask a command and all it started to end, then kill what is left."""
    for signum in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(child.pid, signum)
            child.wait(GRACE)
        except ProcessLookupError:
            return
        except subprocess.TimeoutExpired:
            continue


if __name__ == "__main__":
    sys.exit(run(Path(sys.argv[1]), sys.argv[2]))
