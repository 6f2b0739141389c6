# SPDX-License-Identifier: Apache-2.0
"""Runs the plan of a study on Snakemake: what is to do, one study a folder, progress, a clean stop, what failed."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from types import FrameType
from typing import Any

from study_job import die_with_parent, write_json

ROOT = Path(__file__).resolve().parents[1]
SNAKEFILE = Path(__file__).with_name("Snakefile")
HEARTBEAT = 60.0  # seconds between progress lines when nothing changes
GRACE = 30.0  # seconds that a stopped or killed study's processes get to end

Job = dict[str, Any]


def execute(plan: dict[str, Any], *, cores: int | None, profile: str | None, report: list[str] | None) -> int:
    """Run what is missing, then the report; the exit code."""
    state = Path(plan["state"])
    state.mkdir(parents=True, exist_ok=True)
    with _only_one(state) as lock, _stop_signals() as stops:
        session = f"{socket.gethostname()}-{os.getpid()}-{time.time():.0f}"
        plan = {**plan, "session": session, "pending": to_do(plan["jobs"])}
        write_json(state / "plan.json", plan)
        code = 0
        if plan["pending"]:
            _drop_stale(plan["pending"])
            log = state / "snakemake.log"
            progress = _Progress(plan)
            returned = _supervise(_command(plan, cores, profile), log, stops, progress.show, lock)
            code = _conclude(progress, returned, stops, log)
        elif not report or _reported(plan, report):
            print(f"nothing to do: all {len(plan['jobs'])} jobs are done")
        if report and not stops and not _reported(plan, report):
            code = max(code, _report(report, plan, stops))
        return 128 + stops[0] if stops else code


def preview(plan: dict[str, Any], *, cores: int | None, profile: str | None) -> int:
    """Print every job and its command, then have Snakemake check the plan (and the profile) without running it."""
    plan = {**plan, "session": "dry-run", "pending": to_do(plan["jobs"])}
    slugs = {job["slug"] for job in plan["pending"]}
    for job in plan["jobs"]:
        print(f"# {job['name']}{'' if job['slug'] in slugs else ' (done)'}\n{job['command']}")
    print(f"{len(slugs)} of {len(plan['jobs'])} jobs to do", flush=True)
    if not slugs:
        return 0
    write_json(Path(plan["state"]) / "plan.json", plan)
    command = [*_command(plan, cores, profile), "--dry-run", "--quiet", "all"]
    checked = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if checked.returncode:
        raise RuntimeError(f"Snakemake refuses the plan:\n{checked.stdout}{checked.stderr}")
    print(f"Snakemake accepts the plan{f' and the profile {profile}' if profile else ''}")
    return 0


def to_do(jobs: Sequence[Job]) -> list[Job]:
    """The jobs whose output is missing, and the evaluations of runs that are to be trained (again)."""
    pending: list[Job] = []
    retrained: set[str] = set()
    for job in jobs:
        stale = job["kind"] == "evaluate" and not retrained.isdisjoint(job["inputs"])
        if stale or not all(Path(output).exists() for output in job["outputs"]):
            pending.append(job)
            retrained.update(job["outputs"])
    return pending


def _drop_stale(pending: Sequence[Job]) -> None:
    """Drop metrics whose model is no longer there, lest a study stopped half-way takes them for the new model's."""
    for job in pending:
        if job["kind"] == "evaluate":
            Path(job["outputs"][0]).unlink(missing_ok=True)


def _command(plan: dict[str, Any], cores: int | None, profile: str | None) -> list[str]:
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(SNAKEFILE), "--directory", plan["state"]]
    command += ["--config", f"plan={Path(plan['state']) / 'plan.json'}", "--keep-going", "--rerun-incomplete"]
    # The lock of `_only_one` stands for Snakemake's, which a killed process leaves behind.
    command += ["--nolock", "--rerun-triggers", "mtime", "--scheduler", "greedy", "--nocolor"]
    if profile:
        command += ["--profile", str(Path(profile).resolve())]
    if cores or not profile:
        command += ["--cores", str(cores or os.cpu_count() or 1)]
    return command


@contextmanager
def _only_one(state: Path) -> Iterator[int]:
    """Hold the folder; the kernel frees the lock when both holders are dead: this process and Snakemake (inherited)."""
    with (state / "lock").open("a+") as lock:
        deadline = time.monotonic() + GRACE
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                lock.seek(0)
                host, _, pid = lock.read().partition(" ")
                if time.monotonic() > deadline or _alive(host, pid):
                    raise RuntimeError(
                        f"another study (process {pid or '?'} on {host or '?'}) is at work in {state.parent}: "
                        f"wait for it, or stop it with: kill -INT {pid or '?'}"
                    ) from None
                time.sleep(0.2)  # it was killed, and its Snakemake is about to end
        lock.truncate(0)
        lock.write(f"{socket.gethostname()} {os.getpid()}")
        lock.flush()
        yield lock.fileno()


def _alive(host: str, pid: str) -> bool:
    if host != socket.gethostname() or not pid.isdecimal():
        return bool(host)  # on another machine: cannot be asked
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


@contextmanager
def _stop_signals() -> Iterator[list[int]]:
    """Collect Ctrl-C and SIGTERM instead of being interrupted by them."""
    stops: list[int] = []

    def stop(signum: int, frame: FrameType | None) -> None:
        stops.append(signum)

    before = {signum: signal.signal(signum, stop) for signum in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stops
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)


def _supervise(command: list[str], log: Path, stops: list[int], tick: Callable[[], None], lock: int | None = None) -> int:
    """Run a command with its output in `log`; it ends when this process is killed, and with its jobs when stopped."""
    with log.open("w") as output:
        process = subprocess.Popen(
            command,
            cwd=ROOT,  # configurations name their group files from there
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C at the terminal reaches this process alone, which passes it on
            preexec_fn=die_with_parent,
            pass_fds=[] if lock is None else [lock],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))},
        )
        while process.poll() is None:
            if stops:
                _stop(process, stops)
                break
            tick()
            time.sleep(0.3)
    tick()
    return process.wait()


def _stop(process: subprocess.Popen[bytes], stops: list[int]) -> None:
    """Ask Snakemake and its jobs to end; kill what is left after a while, or at the second Ctrl-C."""
    print("stopping ...", flush=True)
    deadline = time.monotonic() + GRACE
    os.killpg(process.pid, signal.SIGINT)
    while process.poll() is None and time.monotonic() < deadline and len(stops) < 2:
        time.sleep(0.1)
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return


class _Progress:
    """Prints how many jobs are done, which run now and how long it has taken, when that changes."""

    def __init__(self, plan: dict[str, Any]) -> None:
        self.pending, self.session = plan["pending"], plan["session"]
        self.folder = Path(plan["state"]) / "jobs"
        self.total = len(plan["jobs"])
        self.started = self.printed = time.monotonic()
        self.last: tuple[int, int, tuple[str, ...]] | None = None

    def states(self) -> dict[str, list[Job]]:
        """The jobs of this session by state: running, done, failed, stopped; the others have not begun."""
        states: dict[str, list[Job]] = {"running": [], "done": [], "failed": [], "stopped": []}
        for job in self.pending:
            record = self.folder / f"{job['slug']}.json"
            status = json.loads(record.read_text()) if record.exists() else {}
            if status.get("session") == self.session:
                states[status["state"]].append(job)
        return states

    def elapsed(self) -> str:
        return str(timedelta(seconds=int(time.monotonic() - self.started)))

    def show(self) -> None:
        """Print a line if something changed, or now and then."""
        states = self.states()
        done = self.total - len(self.pending) + len(states["done"])
        now = (done, len(states["failed"]), tuple(job["name"] for job in states["running"]))
        if now != self.last or time.monotonic() - self.printed > HEARTBEAT:
            failed = f", {now[1]} failed" if now[1] else ""
            print(f"[{done}/{self.total} done{failed}, {self.elapsed()}] {'; '.join(now[2]) or '...'}", flush=True)
            self.last, self.printed = now, time.monotonic()


def _conclude(progress: _Progress, returned: int, stops: list[int], log: Path) -> int:
    """Say how it ended."""
    states = progress.states()
    left = len(progress.pending) - len(states["done"]) - len(states["failed"])
    if stops:
        done = progress.total - len(progress.pending) + len(states["done"])
        print(f"stopped with {done} of {progress.total} jobs done; the same command goes on from here", flush=True)
        return 0
    failed = [*states["failed"], *states["running"]]  # the latter were killed before they could say so
    left -= len(states["running"])
    for job in failed:
        print(f"FAILED: {job['name']}: {_last_line(Path(job['log']))}\n    see {job['log']}", file=sys.stderr)
    if failed:
        blocked = f"; {left} more wait for them" if left else ""
        print(
            f"{len(failed)} of {progress.total} jobs failed{blocked}; start again when it is mended",
            file=sys.stderr,
        )
        return 1
    if returned or left:
        print(f"Snakemake ended with code {returned}: {_last_line(log)}\n    see {log}", file=sys.stderr)
        return 1
    print(f"all {progress.total} jobs done, {len(progress.pending)} of them now, in {progress.elapsed()}", flush=True)
    return 0


def _last_line(path: Path) -> str:
    lines = [line for line in path.read_text(errors="replace").splitlines() if line.strip()] if path.exists() else []
    return lines[-1].strip() if lines else "no output"


def _figures(plan: dict[str, Any]) -> list[str]:
    paths = sorted({row["metrics"] for row in plan["endpoints"]})
    return [f"{path} {Path(path).stat().st_mtime_ns}" for path in paths if Path(path).exists()]


def _reported(plan: dict[str, Any], command: list[str]) -> bool:
    """Whether the report is there and was made from the very figures that there are."""
    stamp = Path(plan["state"]) / "reported.json"
    return stamp.exists() and Path(command[-1]).exists() and json.loads(stamp.read_text()) == _figures(plan)


def _report(command: list[str], plan: dict[str, Any], stops: list[int]) -> int:
    print("writing the report ...", flush=True)
    log = Path(plan["state"]) / "report.log"
    if _supervise(command, log, stops, lambda: None) == 0:
        write_json(Path(plan["state"]) / "reported.json", _figures(plan))
        print(f"report: {command[-1]}", flush=True)
        return 0
    if not stops:
        print(f"the report failed: {_last_line(log)}\n    see {log}", file=sys.stderr)
    return 1
