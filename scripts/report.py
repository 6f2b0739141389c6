# SPDX-License-Identifier: Apache-2.0
"""Write the report of a study: `python scripts/report.py --runs DIR --group cardiac --out DIR/report`."""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # `common` is used from the checkout
from common.command_line import command  # noqa: E402
from common.report import write_records, write_report  # noqa: E402


def report(
    *,
    runs: str,
    group: str,
    out: str,
    targets: str = "",
    records: str = "",
    data: str | None = None,
) -> None:
    """Tables, intervals, figures and index.html of the runs evaluated so far.

    Args:
        runs: the folder of runs, as given to study.py
        group: the group of datasets, e.g. cardiac
        out: the folder to write
        targets: datasets to report, separated by commas; by default those that the group's joint teachers and
            multi-head runs were evaluated on
        records: a .tar.xz to write, too, of what the report was made of, without weights; unpacked among other runs it is
            reported with them
        data: the folder of the datasets, if it is not where it was during training
    """
    names = [name.strip() for name in targets.split(",") if name.strip()]
    try:
        index = write_report(Path(runs), group, Path(out), targets=names, data_dir=data)
        if records:
            write_records(Path(runs), group, Path(records), targets=names)
    except (ValueError, OSError) as error:
        sys.exit(f"report: {error}")
    print(f"report: {index}")


if __name__ == "__main__":
    command(report)
