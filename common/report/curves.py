# SPDX-License-Identifier: Apache-2.0
"""Learning curves, label-efficiency curves and scans saved."""

from collections import defaultdict
from collections.abc import Sequence
from itertools import groupby, product
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .efficiency import Curve, Row, curves
from .results import ALL, ORDER, Key, Result, budget_order, label, order
from .tasks import HEADINGS, MAIN


def style(key: Key) -> dict[str, Any]:
    """The same colour for an arm in every figure; arms with options are dashed, with a source dotted."""
    index = ORDER.index(key[0]) if key[0] in ORDER else len(ORDER)
    return {"color": matplotlib.colormaps["tab20"](index), "linestyle": "--" if key[2] else ":" if key[1] else "-"}


def grid(rows: int, columns: int, *, width: float, height: float) -> tuple[Figure, np.ndarray]:
    """A figure without pyplot, whose global state would leak from one report to the next."""
    figure = Figure(figsize=(width * columns, height * rows), layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False)


def mean_curve(histories: Sequence[dict[str, Any]]) -> tuple[list[int], list[float]]:
    """(epochs, validation metric), the mean over the seeds that reached the epoch."""
    values = defaultdict(list)
    for history in histories:
        for epoch in history["epochs"]:
            if isinstance(epoch["val"], (int, float)):  # None where the epoch was not validated
                values[epoch["epoch"]].append(epoch["val"])
    epochs = sorted(values)
    return epochs, [float(np.mean(values[epoch])) for epoch in epochs]


def learning_curves(results: Sequence[Result]) -> Figure | None:
    """A panel a (target, budget), a line an arm; without those that were validated on their source.

    These are `source_only` and source teachers without target supervision (r = 0).
    """
    trained = [r for r in results if r.history is not None and not _validated_on_source(r)]
    if not trained:
        return None
    targets = sorted({r.target for r in trained})
    budgets = sorted({r.budget for r in trained}, key=budget_order)
    figure, axes = grid(len(targets), len(budgets), width=6, height=4)
    for (row, target), (column, budget) in product(enumerate(targets), enumerate(budgets)):
        axis = axes[row, column]
        part = [r for r in trained if (r.target, r.budget) == (target, budget)]
        for key, found in groupby(part, key=lambda r: r.key):
            arm = list(found)
            epochs, values = mean_curve([r.history for r in arm if r.history])
            axis.plot(epochs, values, label=f"{label(key)} (n={len(arm)})", **style(key))
        title = target if budget == ALL else f"{target}, {budget} labelled patients"
        axis.set(title=title, xlabel="epoch", ylabel="validation metric")
        if part:
            axis.legend(fontsize=7)
        else:
            axis.set_axis_off()
    return figure


def _validated_on_source(result: Result) -> bool:
    return result.arm == "source_only" or (result.arm.startswith("source_teacher") and ("r", "0") in result.options)


def label_efficiency(results: Sequence[Result]) -> Figure | None:
    """The main metric against labelled patients, mean and standard deviation over the seeds that all budgets of an arm have.

    None with one label budget.
    """
    found = {
        target: several
        for target, arms in sorted(curves(results).items())
        if (several := {key: budgets for key, budgets in arms.items() if len(budgets) > 1 and _common(budgets)})
    }
    if not found:
        return None
    figure, axes = grid(1, len(found), width=6, height=4.5)
    for axis, (target, arms) in zip(axes[0], found.items(), strict=True):
        for key in sorted(arms, key=order):
            seeds = _common(arms[key])
            points = [np.array([of_seed[seed] for seed in seeds]) for of_seed in arms[key].values()]
            points.sort(key=lambda p: p[:, 0].mean())
            x, y = np.array([p.mean(0) for p in points]).T
            spread = [p[:, 1].std(ddof=min(1, len(p) - 1)) for p in points]
            axis.errorbar(x, y, yerr=spread, label=label(key), marker="o", capsize=3, **style(key))
        _log_ticks(axis, sorted({round(float(x)) for line in axis.lines for x in line.get_xdata()}))
        axis.set(title=target, xlabel="labelled target patients", ylabel=HEADINGS[MAIN[results[0].task]])
        axis.legend(fontsize=7)
    return figure


def _common(curve: Curve) -> list[str]:
    return sorted(set.intersection(*[set(of_seed) for of_seed in curve.values()]))


def _log_ticks(axis: Axes, ticks: Sequence[int]) -> None:
    axis.set_xscale("log")
    axis.set_xticks(ticks, labels=[str(tick) for tick in ticks])
    axis.set_xticks([], minor=True)


def scans_saved(rows: Sequence[Row]) -> Figure | None:
    """Bars: labelled patients that the baseline needs for each student's main metric; open bars were not reached."""
    if not rows:
        return None
    targets = sorted({row["target"] for row in rows})
    figure, axes = grid(1, len(targets), width=6, height=4)
    for axis, target in zip(axes[0], targets, strict=True):
        part = [row for row in rows if row["target"] == target]
        for index, row in enumerate(part):
            exact = row["baseline_needs"][0] not in "<>"
            axis.bar(index, row["baseline_needs_value"], color="tab:blue" if exact else "none", edgecolor="tab:blue")
            axis.plot([index - 0.4, index + 0.4], [row["labelled_patients"]] * 2, color="tab:orange")
            axis.text(index, row["baseline_needs_value"], row["baseline_needs"], ha="center", va="bottom")
        names = [f"{row['student']}\n{row['labelled_patients']:.4g} labelled" for row in part]
        axis.set_xticks(range(len(part)), labels=names, rotation=30, ha="right", fontsize=7)
        axis.set(title=f"{target}: orange = what the student had", ylabel="labelled patients the baseline needs")
    return figure
