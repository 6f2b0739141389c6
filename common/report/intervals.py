# SPDX-License-Identifier: Apache-2.0
"""Student minus baseline with bootstrap intervals over patients, for every label budget."""

from collections.abc import Sequence
from itertools import groupby
from typing import Any

from .results import ALL, STUDENT, Result, compares, label, seed_order
from .tasks import HEADINGS, differences, number

Row = dict[str, Any]


def interval_rows(results: Sequence[Result], *, samples: int = 10000) -> list[Row]:
    """Each distilled student against each other arm of its target, on the seeds both have.

    Both have the same label budget (`source_only` reads no target label and stands beside every budget), and the
    baseline has no option that the student lacks (`compares`), so that `distill, r=0` is compared with `alone` and with
    `distill`.
    """
    rows = []
    for _, same_target in groupby(results, key=lambda r: r.target):
        arms = {key: list(found) for key, found in groupby(same_target, key=lambda r: (r.budget, r.key))}
        for (budget, student), mine in arms.items():
            if not student[0].startswith(STUDENT):
                continue
            for (other_budget, baseline), theirs in arms.items():
                same = other_budget == budget or (baseline[0] == "source_only" and other_budget == ALL)
                if same and baseline != student and compares(student, baseline):
                    rows += _compare(mine, theirs, samples)
    return rows


def _compare(student: Sequence[Result], baseline: Sequence[Result], samples: int) -> list[Row]:
    seeds = {result.seed for result in student} & {result.seed for result in baseline}
    if not seeds:
        return []
    mine, theirs = ([result for result in arm if result.seed in seeds] for arm in (student, baseline))
    try:
        found = differences(mine, theirs, samples=samples)
    except ValueError as error:
        raise ValueError(f"{student[0].path.parent} against {baseline[0].path.parent}: {error}") from error
    return [
        {"target": student[0].target, "cases": student[0].budget, "student": label(student[0].key)}
        | {"baseline": label(baseline[0].key), "metric": metric, "difference": difference.mean}
        | {"low": difference.low, "high": difference.high, "patients": difference.patients}
        | {"seeds": " ".join(sorted(seeds, key=seed_order))}
        for metric, difference in found.items()
    ]


def printed(rows: Sequence[Row]) -> dict[str, tuple[list[str], list[list[str]]]]:
    """target -> (header, rows of text); * marks an interval that excludes zero, but of ECE, see texts.py."""
    tables = {}
    pairs = ("cases", "student", "baseline")
    for target, of_target in groupby(rows, key=lambda row: row["target"]):
        found, lines = list(of_target), []
        shown = [metric for metric in HEADINGS if any(row["metric"] == metric for row in found)]
        for names, metrics in groupby(found, key=lambda row: tuple(row[name] for name in pairs)):
            by_metric = {row["metric"]: row for row in metrics}
            first = next(iter(by_metric.values()))
            cells = [_text(by_metric.get(metric)) for metric in shown]
            lines.append([*names, *cells, str(first["patients"]), str(len(first["seeds"].split()))])
        headings = [HEADINGS[metric] for metric in shown]
        tables[target] = (["labelled patients", "student", "minus", *headings, "patients", "seeds"], lines)
    return tables


def _text(row: Row | None) -> str:
    if row is None:
        return ""
    star = " *" if row["metric"] != "ece" and (row["low"] > 0 or row["high"] < 0) else ""
    mean, low, high = (number(row["metric"], row[key], sign="+") for key in ("difference", "low", "high"))
    return f"{mean} [{low}, {high}]{star}"
