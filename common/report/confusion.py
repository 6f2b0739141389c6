# SPDX-License-Identifier: Apache-2.0
"""What a baseline and a student confuse, and whether their probabilities are true."""

from collections.abc import Iterator, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..metrics.classification import calibration
from .curves import grid, style
from .pairs import choose_pair, name_of
from .results import Result
from .tasks import seed_means

Arm = list[Result]


def _arms(results: Sequence[Result]) -> Iterator[tuple[str, tuple[Arm, Arm]]]:
    """target -> all results of the baseline and of the best student, on the seeds that both have."""
    for target in sorted({r.target for r in results if r.task == "classification"}):
        if chosen := choose_pair(results, target, trained=False):
            both = [[r for r in results if (r.target, r.budget, r.key) == (target, c.budget, c.key)] for c in chosen]
            seeds = set.intersection(*({r.seed for r in arm} for arm in both))
            baseline, student = ([r for r in arm if r.seed in seeds] for arm in both)
            yield target, (baseline, student)


def confusion(results: Sequence[Result]) -> Figure | None:
    """Confusion matrices summed over the seeds, baseline beside student; colours are shares of a true class."""
    found = list(_arms(results))
    if not found:
        return None
    figure, axes = grid(len(found), 2, width=4.5, height=4)
    for line, (target, arms) in zip(axes, found, strict=True):
        for axis, arm in zip(line, arms, strict=True):
            _draw_matrix(axis, np.sum([r.metrics["confusion"] for r in arm], axis=0), arm[0].metrics["classes"])
            axis.set_title(f"{target}: {name_of(arm[0])} (n={len(arm)})", fontsize=9)
    return figure


def _draw_matrix(axis: Axes, matrix: np.ndarray, classes: Sequence[str]) -> None:
    share = matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
    axis.imshow(share, cmap="Blues", vmin=0, vmax=1)
    for (i, j), count in np.ndenumerate(matrix):
        text = f"{count}\n{100 * share[i, j]:.1f} %"
        axis.text(j, i, text, ha="center", va="center", fontsize=8, color="white" if share[i, j] > 0.5 else "black")
    axis.set_xticks(range(len(classes)), labels=classes, rotation=30, ha="right")
    axis.set_yticks(range(len(classes)), labels=classes)
    axis.set(xlabel="predicted", ylabel="true")


def reliability(results: Sequence[Result]) -> Figure | None:
    """Share of right predictions against their mean probability, a panel a target, all seeds' images together."""
    found = list(_arms(results))
    if not found:
        return None
    figure, axes = grid(1, len(found), width=4.5, height=4.5)
    for axis, (target, arms) in zip(axes[0], found, strict=True):
        axis.plot([0, 1], [0, 1], color="grey", linewidth=1)
        for arm in arms:
            rows = [row for r in arm for row in r.metrics["units"]]
            labels, shares = (np.array([row[key] for row in rows]) for key in ("label", "probabilities"))
            bins = calibration(labels, shares)
            seen = bins.images > 0
            error = np.mean([mean["ece"] for mean in seed_means(arm).values()])
            name = f"{name_of(arm[0])}, ECE {error:.3f}"
            x, y = bins.confidence[seen] / bins.images[seen], bins.right[seen] / bins.images[seen]
            axis.plot(x, y, marker="o", label=name, **style(arm[0].key))
        axis.set(title=target, xlabel="probability of the predicted class", ylabel="share that is right")
        axis.set(xlim=(1 / len(arms[0][0].metrics["classes"]) - 0.02, 1.02), ylim=(-0.02, 1.02))
        axis.legend(fontsize=7)
    return figure
