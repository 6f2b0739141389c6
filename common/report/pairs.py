# SPDX-License-Identifier: Apache-2.0
"""The baseline and the student that pictures show side by side."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
import torch

from ..networks.feature_net import FeatureNet
from ..runs import from_run, test_slices
from .results import ALL, STUDENT, Result, baseline_for, label
from .tasks import MAIN, seed_means

SLICES = {"segmentation": 24, "classification": 300}  # test slices read a target; in classification each is one point of t-SNE
Slice = tuple[torch.Tensor, torch.Tensor, str]  # image (1, H, W), label (1, H, W) or class index, case


@dataclass(frozen=True)
class Pair:
    """Two trained networks of one target and seed, and test slices of that seed's fold."""

    target: str
    names: tuple[str, str]
    networks: tuple[FeatureNet, FeatureNet]
    slices: Sequence[Slice]
    classes: tuple[str, ...] = ()  # of a classification


def choose_pair(
    results: Sequence[Result], target: str, *, baseline: str = "alone", trained: bool = True
) -> tuple[Result, Result] | None:
    """(baseline, student) of one seed: the best student (main metric) that has a baseline of the same label budget.

    Looks at the largest budget first, at the lowest seed that both have, and, if `trained`, only at runs that still have a
    model.pt.
    """
    part = [r for r in results if r.target == target and (not trained or (r.path / "model.pt").exists())]
    for budget in dict.fromkeys(r.budget for r in part):  # results are sorted: all labels first
        arms = {key: list(found) for key, found in groupby((r for r in part if r.budget == budget), key=lambda r: r.key)}
        students = [key for key in arms if key[0].startswith(STUDENT)]
        # a student of the target teacher is a control, but the only student where there are no sources
        students = [key for key in students if not key[0].endswith("_target_only")] or students
        for student in sorted(students, key=lambda key: -_mean(arms[key])):
            base = baseline_for(student, arms, baseline)
            theirs = {} if base is None else {r.seed: r for r in arms[base]}
            for mine in arms[student]:
                if mine.seed in theirs:
                    return theirs[mine.seed], mine
    return None


def _mean(arm: Sequence[Result]) -> float:
    means = [mean[MAIN[arm[0].task]] for mean in seed_means(arm).values()]
    return float(np.mean(means)) if means else -1.0


def name_of(result: Result) -> str:
    return label(result.key) + ("" if result.budget == ALL else f", {result.budget} labelled")


def load_pairs(results: Sequence[Result], *, data_dir: str | None = None) -> list[Pair]:
    """The networks and slices of every target that has a trained baseline and student; `data_dir` as in `test_slices`."""
    pairs = []
    for target in sorted({r.target for r in results}):
        if chosen := choose_pair(results, target):
            names = tuple(name_of(r) for r in chosen)
            networks = tuple(from_run(str(r.path)).eval() for r in chosen)
            slices = test_slices(str(chosen[1].path), target, SLICES[chosen[1].task], data_dir=data_dir)
            classes = tuple(chosen[1].metrics.get("classes", ()))
            pairs.append(Pair(target, names, networks, slices, classes))  # type: ignore[arg-type]  # both are pairs
    return pairs
