# SPDX-License-Identifier: Apache-2.0
"""The main table: metrics and cost of every arm."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import Any

import numpy as np

from .results import Result, budget_order, label, order, seed_order
from .tasks import HEADINGS, NAMES, counts, hd95_units, number, seed_means

MEAN = "group mean"
Row = dict[str, Any]


def table_rows(results: Sequence[Result]) -> list[Row]:
    """One row a (target, budget, arm), then the group means of arms that every target has."""
    rows, cells = [], {}
    for (target, budget), same_budget in groupby(results, key=lambda r: (r.target, r.budget)):
        for key, found in groupby(same_budget, key=lambda r: r.key):
            arm = list(found)
            cells[target, budget, key] = arm
            rows.append(_arm_row(target, budget, label(key), arm))
    targets = sorted({result.target for result in results})
    return rows + _group_rows(cells, targets) if len(targets) > 1 else rows


def _arm_row(target: str, budget: str, name: str, arm: Sequence[Result]) -> Row:
    seconds = [result.history["seconds"] for result in arm if result.history is not None]
    totals = [total for result in arm if (total := result.total_seconds()) is not None]
    labelled = [count for result in arm if (count := result.labelled()) is not None]
    if len(hd_units := hd95_units(arm)) > 1:
        raise ValueError(f"HD95 of {name} on {target} is in {hd_units}; evaluate all its seeds again the same way")
    return (
        {"target": target, "arm": name, "cases": budget}
        | {"labelled_patients": float(np.mean(labelled)) if labelled else None, "seeds": len(arm)}
        | _spread(seed_means(arm), NAMES[arm[0].task])
        | ({"hd95_unit": hd_units[0]} if hd_units else {})
        | counts(arm)
        | {"training_seconds": float(np.mean(seconds)) if seconds else None}
        | {"total_seconds": float(np.mean(totals)) if len(totals) == len(arm) else None}
        | {"parameters": arm[0].metrics["parameters"]}
        | {"seconds_per_case": float(np.mean([result.metrics["seconds_per_case"] for result in arm]))}
    )


def _spread(means: dict[str, dict[str, float]], metrics: Iterable[str]) -> Row:
    """Mean and standard deviation (n - 1) of the per-seed values that are defined; one seed has no deviation."""
    row: Row = {}
    for metric in metrics:
        values = [mean[metric] for mean in means.values() if not np.isnan(mean[metric])]
        row[f"{metric}_mean"] = float(np.mean(values)) if values else None
        row[f"{metric}_sd"] = float(np.std(values, ddof=1)) if len(values) > 1 else None
    return row


def _group_rows(cells: dict[tuple[str, str, Any], list[Result]], targets: Sequence[str]) -> list[Row]:
    """Mean over targets, each seed that all have apart; arms with a source are first averaged over their sources."""
    arms: dict[tuple[str, Any], dict[str, list[list[Result]]]] = defaultdict(lambda: defaultdict(list))
    for (target, budget, (arm, _, options)), results in cells.items():
        arms[budget, (arm, "", options)][target].append(results)
    rows = []
    for budget, key in sorted(arms, key=lambda item: (budget_order(item[0]), order(item[1]))):
        by_target = arms[budget, key]
        if sorted(by_target) != list(targets):
            continue
        sources = [[seed_means(results) for results in by_target[target]] for target in targets]
        seeds = set.intersection(*[set(means) for target in sources for means in target])
        if not seeds:
            continue
        by_target = {
            target: [[result for result in results if result.seed in seeds] for results in found]
            for target, found in by_target.items()
        }
        flat = [result for target in targets for results in by_target[target] for result in results]
        metrics = NAMES[flat[0].task]
        means = {
            seed: {
                metric: float(np.mean([np.mean([means[seed][metric] for means in target]) for target in sources]))
                for metric in metrics
            }
            for seed in sorted(seeds, key=seed_order)
        }
        parts = [_arm_row(t, budget, label(key), r) for t in targets for r in by_target[t]]
        row = _summed(_spread(means, metrics), parts, counts(flat))
        if len(hd95_units(flat)) > 1:
            row |= {"hd95_mean": None, "hd95_sd": None, "hd95_unit": ""}  # mm and pixels have no common mean
        rows.append({"target": MEAN, "arm": label(key), "cases": budget, "seeds": len(seeds)} | row)
    return rows


def _summed(spread: Row, parts: Sequence[Row], tested: Row) -> Row:
    means: Row = {}
    for name in ("labelled_patients", "training_seconds", "total_seconds", "parameters", "seconds_per_case"):
        values = [part[name] for part in parts]
        means[name] = None if None in values else float(np.mean(values))
    return spread | tested | means | {key: parts[0][key] for key in ("hd95_unit",) if key in parts[0]}


def printed(rows: Sequence[Row]) -> dict[str, tuple[list[str], list[list[str]]]]:
    """target -> (header, rows of text) for Markdown and HTML."""
    tables = {}
    for target, found in groupby(rows, key=lambda row: row["target"]):
        part = list(found)
        unit = next((row["hd95_unit"] for row in part if row.get("hd95_unit")), "")
        metrics = [metric for metric in HEADINGS if f"{metric}_mean" in part[0]]
        names = [f"{HEADINGS[metric]} ({unit})" if metric == "hd95" and unit else HEADINGS[metric] for metric in metrics]
        alarms = any(row.get("empty_truth") for row in part)
        tested = ["empty predictions", *(["false alarms"] if alarms else [])] if "units" in part[0] else ["images"]
        cost = [*tested, "training s", "total s", "parameters", "s a case"]
        tables[target] = (["arm", "labelled patients", "seeds", *names, *cost], [_text(row, metrics, alarms) for row in part])
    return tables


def _text(row: Row, metrics: Sequence[str], alarms: bool) -> list[str]:
    def cost(name: str, form: str) -> str:
        return "" if row[name] is None else format(row[name], form)

    cells = []
    for metric in metrics:
        mean, sd = number(metric, row[f"{metric}_mean"]), number(metric, row[f"{metric}_sd"])
        cells.append(f"{mean} ± {sd}" if sd else mean)
    patients = cost("labelled_patients", ".6g")
    budget = row["cases"] if patients in ("", row["cases"]) else f"{row['cases']} ({patients})"
    if patients == "0":  # source_only reads no label of the target, whatever the budget
        budget = patients
    tested = [f"{row['empty_prediction']} of {row['units']}"] if "units" in row else [str(row["images"])]
    tested += [f"{row['false_alarms']} of {row['empty_truth']}"] if alarms else []
    return [
        *(row["arm"], budget, str(row["seeds"]), *cells, *tested),
        *(cost("training_seconds", ",.0f"), cost("total_seconds", ",.0f")),
        *(cost("parameters", ",.0f"), cost("seconds_per_case", ".3f")),
    ]
