# SPDX-License-Identifier: Apache-2.0
"""The tables of docs/results.md are what the report makes of the records beside it."""

import re
import tarfile
from pathlib import Path

import pytest

from common.report import intervals, table
from common.report.results import find_results

DOCS = Path(__file__).parents[2] / "docs"
RECORDS = sorted(DOCS.glob("records/*.tar.gz"))
KEPT = re.compile(r"[\w=+.-]+/[\w=+.-]+/\d+/(history\.json|folds\.json|test/\w+/metrics\.json)")


def lines(section: str) -> list[tuple[str, ...]]:
    """The rows of the tables between `<!-- records: NAME -->` and `<!-- end -->`, without headings."""
    rows = [line for line in section.splitlines() if line.startswith("| ") and not line.startswith("| ---")]
    heads = {line for line, below in zip(section.splitlines(), section.splitlines()[1:], strict=False) if "| ---" in below}
    return [tuple(cell.strip() for cell in row.strip("|").split("|")) for row in rows if row not in heads]


@pytest.mark.parametrize("archive", RECORDS, ids=lambda path: path.name)
def test_results_are_those_of_the_records(archive: Path, tmp_path: Path) -> None:
    group = archive.name.removesuffix(".tar.gz")
    with tarfile.open(archive) as tar:
        names = [member.name.removeprefix("./") for member in tar.getmembers() if member.isfile()]
        tar.extractall(tmp_path, filter="data")
    assert [name for name in names if not KEPT.fullmatch(name)] == []  # no weights, no paths of a machine
    results = find_results(tmp_path, group, None)
    printed = {**table.printed(table.table_rows(results)), **intervals.printed(intervals.interval_rows(results))}
    tables = [*table.printed(table.table_rows(results)).values(), *intervals.printed(intervals.interval_rows(results)).values()]
    made = {tuple(row) for _, rows in tables for row in rows}
    section = (DOCS / "results.md").read_text().split(f"<!-- records: {group} -->")[1].split("<!-- end -->")[0]
    told = lines(section)
    assert told and printed
    assert [row for row in told if row not in made] == []


def test_every_group_with_results_has_records() -> None:
    told = re.findall(r"<!-- records: (\w+) -->", (DOCS / "results.md").read_text())
    assert sorted(told) == [path.name.removesuffix(".tar.gz") for path in RECORDS] != []
