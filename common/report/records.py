# SPDX-License-Identifier: Apache-2.0
"""What a report is made of, in one small archive: figures, curves and patients of every run, without weights or paths."""

import io
import json
import lzma
import tarfile
from collections.abc import Sequence
from pathlib import Path

from ..runs import run_name, teachers_of
from .results import find_results

KEPT = ("history.json", "folds.json", "test/*/metrics.json")


def write_records(runs: Path, group: str, out: Path, *, targets: Sequence[str] | None = None) -> None:
    """Write the records of the runs that `write_report` reports to `out` (.tar.xz): unpacked, they are runs to report.

    A study of many folds can so be spread over machines and days: unpack the records of other folds among the runs, and
    the report is of all. Equal runs give equal bytes. Of a run's configuration only its teachers are kept, as
    `<bundle>/<variant>/<seed>`; nothing names this machine.
    """
    found = {result.path for result in find_results(runs, group, targets)}
    out.parent.mkdir(parents=True, exist_ok=True)
    # Not gzip: every run repeats the names of its fold's patients, further apart than gzip remembers.
    with lzma.open(out, "wb") as packed, tarfile.open(fileobj=packed, mode="w") as tar:
        for run in sorted(found):
            for path in sorted(path for pattern in KEPT for path in run.glob(pattern)):
                _add(tar, path.relative_to(runs), path.read_bytes())
            config = run / "config.json"
            if config.exists():
                teachers = teachers_of(json.loads(config.read_text()))
                told = {"teachers": [run_name(teacher) for teacher in teachers]}
                _add(tar, config.relative_to(runs), json.dumps(told).encode())


def _add(tar: tarfile.TarFile, name: Path, content: bytes) -> None:
    member = tarfile.TarInfo(name.as_posix())
    member.size = len(content)
    tar.addfile(member, io.BytesIO(content))
