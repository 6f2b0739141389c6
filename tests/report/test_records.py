# SPDX-License-Identifier: Apache-2.0
"""Records make the report that the runs make, and the tables of docs/results.md are of the records beside it."""

import re
import tarfile
from pathlib import Path

import pytest

from common.report import intervals, table, write_records
from common.report.results import Result, find_results

DOCS = Path(__file__).parents[2] / "docs"
RECORDS = sorted(DOCS.glob("records/*.tar.xz"))
KEPT = re.compile(r"[\w=+.-]+/[\w=+.-]+/\d+/(config\.json|history\.json|folds\.json|test/\w+/metrics\.json)")


def tables(results: list[Result]) -> list[tuple[list[str], list[list[str]]]]:
    rows, differences = table.table_rows(results), intervals.interval_rows(results)
    return [*table.printed(rows).values(), *intervals.printed(differences).values()]


def unpack(archive: Path, folder: Path) -> list[str]:
    with tarfile.open(archive) as tar:
        names = tar.getnames()
        tar.extractall(folder, filter="data")
    return names


def test_records_make_the_report_that_the_runs_make(add_run, runs: Path, tmp_path: Path) -> None:
    add_run("student_a/alone/0", "a", [0.5, 0.6, None])
    add_run("teacher_a/alone/0", "a", [0.6, 0.6, None], seconds=5.0)
    add_run("student_a/distill/0", "a", [0.7, "missed", None], teacher=str(runs / "teacher_a/alone/0"), data_dir=str(tmp_path))
    add_run("student_b/alone/0", "b", [0.5])  # not of this report
    (runs / "student_a/distill/0/log.txt").write_text(str(tmp_path))
    write_records(runs, "g", tmp_path / "one.tar.xz", targets=["a"])
    write_records(runs, "g", tmp_path / "two.tar.xz", targets=["a"])
    assert (tmp_path / "one.tar.xz").read_bytes() == (tmp_path / "two.tar.xz").read_bytes()
    names = unpack(tmp_path / "one.tar.xz", tmp_path / "elsewhere" / "runs")
    assert len(names) == 3 * 4 and all(KEPT.fullmatch(name) and not name.startswith("student_b") for name in names)
    texts = [path.read_text() for path in (tmp_path / "elsewhere").rglob("*.json")]
    assert not any(str(tmp_path) in text for text in texts)
    made, again = (tables(find_results(r, "g", ["a"])) for r in (runs, tmp_path / "elsewhere" / "runs"))
    assert made == again
    total = made[0][0].index("total s")
    assert {row[0]: row[total] for row in made[0][1]} == {"alone": "60", "teacher": "5", "distill": "65"}


def distilled_arms(part: str) -> tuple[set[str], set[str]]:
    """The distilled arms of a target's first table, and the arms that its second one compares."""
    arms, compared = part.split("Student minus baseline")
    told = {row[0] for row in lines(arms) if row[0].startswith("distill") and row[1].startswith("all")}
    return told, {row[i] for row in lines(compared) if row[0] == "all" for i in (1, 2)}


def lines(section: str) -> list[tuple[str, ...]]:
    """The rows of the tables between `<!-- records: NAME -->` and `<!-- end -->`, without headings."""
    rows = [line for line in section.splitlines() if line.startswith("| ") and not line.startswith("| ---")]
    heads = {line for line, below in zip(section.splitlines(), section.splitlines()[1:], strict=False) if "| ---" in below}
    return [tuple(cell.strip() for cell in row.strip("|").split("|")) for row in rows if row not in heads]


@pytest.mark.parametrize("archive", RECORDS, ids=lambda path: path.name)
def test_results_are_those_of_the_records(archive: Path, tmp_path: Path) -> None:
    group = archive.name.removesuffix(".tar.xz")
    names = unpack(archive, tmp_path)
    assert [name for name in names if not KEPT.fullmatch(name)] == []  # no weights, no paths of a machine
    results = find_results(tmp_path, group, None)
    made = {tuple(row) for _, rows in tables(results) for row in rows}
    section = (DOCS / "results.md").read_text().split(f"<!-- records: {group} -->")[1].split("<!-- end -->")[0]
    told = lines(section)
    assert told
    assert [row for row in told if row not in made] == []
    for part in section.split("### ")[1:]:
        arms, compared = distilled_arms(part)
        assert len(arms) > 1 and arms <= compared, part[:20]


def test_every_group_with_results_has_records() -> None:
    told = re.findall(r"<!-- records: (\w+) -->", (DOCS / "results.md").read_text())
    assert sorted(told) == [path.name.removesuffix(".tar.xz") for path in RECORDS] != []
