# SPDX-License-Identifier: Apache-2.0
"""What a report is made of, in one small archive: figures, curves and patients of every run, without weights or paths."""

import gzip
import io
import json
import tarfile
from pathlib import Path

from ..runs import teachers_of

KEPT = ("history.json", "folds.json", "test/*/metrics.json")


def write_records(runs: Path, out: Path) -> None:
    """Write the records of every evaluated run to `out` (.tar.gz): unpacked, they are a folder of runs to report.

    A study of many folds can so be spread over machines: unpack the records of other folds among the runs, and the report
    is of all. Equal runs give equal bytes. Of a run's configuration only its teachers are kept, as
    `<bundle>/<variant>/<seed>`; nothing names this machine.
    """
    found = {run.parents[2] for run in runs.glob("*/*/*/test/*/metrics.json")}
    out.parent.mkdir(parents=True, exist_ok=True)
    with out.open("wb") as file, gzip.GzipFile("", "wb", fileobj=file, mtime=0) as packed:
        with tarfile.open(fileobj=packed, mode="w") as tar:
            for run in sorted(found):
                for path in sorted(path for pattern in KEPT for path in run.glob(pattern)):
                    _add(tar, path.relative_to(runs), path.read_bytes())
                if (run / "config.json").exists():
                    teachers = teachers_of(json.loads((run / "config.json").read_text()))
                    told = {"teachers": ["/".join(Path(teacher).parts[-3:]) for teacher in teachers]}
                    _add(tar, (run / "config.json").relative_to(runs), json.dumps(told).encode())


def _add(tar: tarfile.TarFile, name: Path, content: bytes) -> None:
    member = tarfile.TarInfo(name.as_posix())
    member.size = len(content)
    tar.addfile(member, io.BytesIO(content))
