# SPDX-License-Identifier: Apache-2.0
"""Label efficiency: how many labelled patients the baseline needs to reach the student."""

from collections import defaultdict
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from .results import STUDENT, Key, Result, baseline_for, label
from .tasks import HEADINGS, MAIN, seed_means

Row = dict[str, Any]
Point = tuple[float, float]  # labelled patients, main metric
Curve = dict[str, dict[str, Point]]  # budget -> seed -> point


def patients_needed(curve: Sequence[Point], wanted: float) -> tuple[float, str]:
    """Labelled patients at which the curve of (patients, metric) first reaches `wanted`, and how to print it.

    The metric is linear in the logarithm of the number of patients between two measured points. Where the curve never reaches
    it, the answer is its last point, printed ">N"; where its first point already does, that point, printed "<=N".
    """
    points = sorted(curve)
    if points[0][1] >= wanted:
        return points[0][0], f"{'' if points[0][1] == wanted else '<='}{points[0][0]:.4g}"
    for (n0, d0), (n1, d1) in pairwise(points):
        if d1 >= wanted:  # d0 < wanted, or the search had ended before
            needed = float(np.exp(np.interp(wanted, [d0, d1], np.log([n0, n1]))))
            return needed, f"{needed:.1f}"
    return points[-1][0], f">{points[-1][0]:.4g}"


def curves(results: Sequence[Result]) -> dict[str, dict[Key, Curve]]:
    """target -> arm -> its curve, of arms that read labels of the target, where their number is known."""
    found: dict[str, dict[Key, Curve]] = defaultdict(lambda: defaultdict(lambda: defaultdict(dict)))
    for result in results:
        means, labelled = seed_means([result]), result.labelled()
        if means and labelled and not result.source:
            found[result.target][result.key][result.budget][result.seed] = (labelled, means[result.seed][MAIN[result.task]])
    return found


def saved_rows(results: Sequence[Result], *, baseline: str = "alone") -> list[Row]:
    """For each student and budget: the labelled patients the baseline needs for the student's main metric, on the seeds
    that the student and every budget of the baseline have; none where the baseline has one budget only."""
    rows = []
    metric = HEADINGS[MAIN[results[0].task]]
    for target, arms in sorted(curves(results).items()):
        for key, budgets in arms.items():
            base = baseline_for(key, arms, baseline)
            if not key[0].startswith(STUDENT) or base is None or len(arms[base]) < 2:
                continue
            for budget, points in budgets.items():
                if seeds := set(points).intersection(*arms[base].values()):
                    row = {"target": target, "student": label(key), "cases": budget, "metric": metric}
                    rows.append(row | _saved(points, arms[base], seeds))
    return rows


def _saved(points: dict[str, Point], base: Curve, seeds: set[str]) -> Row:
    def mean(curve: dict[str, Point]) -> Point:
        patients, value = np.mean([curve[seed] for seed in sorted(seeds)], axis=0)
        return float(patients), float(value)

    labelled, value = mean(points)
    needed, text = patients_needed([mean(seeds_of) for seeds_of in base.values()], value)
    saved = needed - labelled
    return {
        "labelled_patients": labelled,
        "value": value,
        "baseline_needs": text,
        "scans_saved": f"{text[0]}{saved:.1f}" if text[0] == ">" else f"{'<=' if text[0] == '<' else ''}{saved:.1f}",
        "baseline_needs_value": needed,
        "seeds": len(seeds),
    }


def printed(rows: Sequence[Row]) -> tuple[list[str], list[list[str]]]:
    header = ["target", "student", "labelled patients", rows[0]["metric"], "the baseline needs", "scans saved", "seeds"]
    return header, [
        [row["target"], row["student"], f"{row['labelled_patients']:.6g}", f"{row['value']:.4f}", row["baseline_needs"],
         row["scans_saved"], str(row["seeds"])]
        for row in rows
    ]  # fmt: skip
