# SPDX-License-Identifier: Apache-2.0
"""Panels of predictions, and t-SNE of bottleneck pixels, of a baseline and a student."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

import matplotlib
import numpy as np
import torch
from matplotlib.colors import BoundaryNorm, ListedColormap
from matplotlib.figure import Figure
from sklearn.manifold import TSNE
from threadpoolctl import threadpool_limits

from ..networks.feature_net import FeatureNet
from ..runs import from_run, test_slices
from .curves import grid
from .results import ALL, STUDENT, Result, baseline_for, label
from .table import seed_means

SLICES = 24  # test slices read a target; panels show the worst, the median and the best of them
PIXELS = 300  # bottleneck pixels a class in t-SNE: its cost grows quickly
Slice = tuple[torch.Tensor, torch.Tensor, str]


@dataclass(frozen=True)
class Pair:
    """Two trained networks of one target and seed, and test slices of that seed's fold."""

    target: str
    names: tuple[str, str]
    networks: tuple[FeatureNet, FeatureNet]
    slices: Sequence[Slice]


def choose_pair(results: Sequence[Result], target: str, *, baseline: str = "alone") -> tuple[Result, Result] | None:
    """(baseline, student) of one seed: the best student (mean Dice) that has a baseline of the same label budget.

    Looks at the largest budget first, at the lowest seed that both have, and only at runs that still have a model.pt.
    """
    part = [r for r in results if r.target == target and (r.path / "model.pt").exists()]
    for budget in dict.fromkeys(r.budget for r in part):  # results are sorted: all labels first
        arms = {key: list(found) for key, found in groupby((r for r in part if r.budget == budget), key=lambda r: r.key)}
        students = [key for key in arms if key[0].startswith(STUDENT) and key[0] != "distill_target_only"]
        for student in sorted(students, key=lambda key: -_mean_dice(arms[key])):
            base = baseline_for(student, arms, baseline)
            theirs = {} if base is None else {r.seed: r for r in arms[base]}
            for mine in arms[student]:
                if mine.seed in theirs:
                    return theirs[mine.seed], mine
    return None


def _mean_dice(arm: Sequence[Result]) -> float:
    means = [mean["dice"] for mean in seed_means(arm).values()]
    return float(np.mean(means)) if means else -1.0


def load_pairs(results: Sequence[Result]) -> list[Pair]:
    """The networks and slices of every target that has a trained baseline and student."""
    pairs = []
    for target in sorted({r.target for r in results}):
        if chosen := choose_pair(results, target):
            names = tuple(label(r.key) + ("" if r.budget == ALL else f", {r.budget} labelled") for r in chosen)
            networks = tuple(from_run(str(r.path)).eval() for r in chosen)
            slices = test_slices(str(chosen[1].path), target, SLICES)
            pairs.append(Pair(target, names, networks, slices))  # type: ignore[arg-type]  # both are pairs by construction
    return pairs


@torch.inference_mode()
def predict(network: FeatureNet, slices: Sequence[Slice]) -> list[np.ndarray]:
    """Class indices (H, W) a slice, one at a time: stored slices may differ in size."""
    return [network(image[None])[0].argmax(0).numpy() for image, _, _ in slices]


def slice_dice(pred: np.ndarray, truth: np.ndarray) -> float:
    """Mean Dice over the classes in the truth, which must have one."""
    classes = [k for k in np.unique(truth) if k]
    pairs = [(pred == k, truth == k) for k in classes]
    return float(np.mean([2 * (p & t).sum() / (p.sum() + t.sum()) for p, t in pairs]))


def panels(pairs: Sequence[Pair]) -> Figure | None:
    """Image, truth, baseline and student for the worst, the median and the best slice by the student's Dice."""
    lines = [line for pair in pairs for line in _panel_lines(pair)]
    if not lines:
        return None
    figure, axes = grid(len(lines), 4, width=2.6, height=2.7)
    for line, (image, truth, predictions, titles) in zip(axes, lines, strict=True):
        for axis, overlay, title in zip(line, (None, truth, *predictions), titles, strict=True):
            axis.imshow(image, cmap="gray")
            if overlay is not None:
                colours = ListedColormap(matplotlib.colormaps["tab10"].colors)  # type: ignore[attr-defined]
                norm = BoundaryNorm(np.arange(0.5, 11.5), 10)
                axis.imshow(np.ma.masked_equal(overlay, 0), cmap=colours, norm=norm, alpha=0.5, interpolation="nearest")
            axis.set_title(title, fontsize=7)
            axis.axis("off")
    return figure


def _panel_lines(pair: Pair) -> list[tuple[np.ndarray, np.ndarray, list[np.ndarray], list[str]]]:
    slices = [item for item in pair.slices if (item[1] > 0).any()]
    if not slices:
        return []
    truths = [truth[0].round().long().numpy() for _, truth, _ in slices]
    predictions = [predict(network, slices) for network in pair.networks]
    scores = [[slice_dice(p, t) for p, t in zip(of_one, truths, strict=True)] for of_one in predictions]
    ranked = np.argsort(scores[1], kind="stable")
    lines = []
    places = {0: "worst", len(ranked) // 2: "median", len(ranked) - 1: "best"}  # fewer than three slices: fewer places
    for place, title in places.items():
        index = ranked[place]
        image, _, case = slices[index]
        named = [f"{name}: {of_one[index]:.3f}" for name, of_one in zip(pair.names, scores, strict=True)]
        titles = [f"{case} ({title})", "truth", *named]
        lines.append((image[0].numpy(), truths[index], [p[index] for p in predictions], titles))
    return lines


@torch.inference_mode()
def bottleneck_pixels(network: FeatureNet, slices: Sequence[Slice], classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Features (N, C) of bottleneck pixels and their classes (N,), at most PIXELS a class.

    A bottleneck pixel has the foreground class that covers most of its cell, however little: with the commonest value,
    small lesions would leave no foreground at all.
    """
    features, names = [], []
    for image, truth, _ in slices:
        deepest = network.forward_features(image[None])[1][-1]
        one_hot = torch.nn.functional.one_hot(truth.round().long(), classes + 1).movedim(-1, 1)[:, 1:].float()
        share = torch.nn.functional.adaptive_avg_pool2d(one_hot, list(deepest.shape[2:]))  # type: ignore[arg-type]
        names.append(torch.where(share.sum(1) > 0, share.argmax(1) + 1, 0).flatten())
        features.append(deepest[0].flatten(1).T)
    x, y = torch.cat(features).float().numpy(), torch.cat(names).numpy()
    kept = [np.flatnonzero(y == k) for k in range(classes + 1)]
    rng = np.random.default_rng(0)
    index = np.concatenate([k if len(k) <= PIXELS else rng.choice(k, PIXELS, replace=False) for k in kept])
    return x[index], y[index]


def tsne(pairs: Sequence[Pair]) -> Figure | None:
    """t-SNE of bottleneck pixels, baseline beside student, coloured by class."""
    if not pairs:
        return None
    figure, axes = grid(len(pairs), 2, width=4.5, height=4)
    for line, pair in zip(axes, pairs, strict=True):
        classes = max(1, *(int(truth.max()) for _, truth, _ in pair.slices))
        for axis, network, name in zip(line, pair.networks, pair.names, strict=True):
            x, y = bottleneck_pixels(network, pair.slices, classes)
            perplexity = min(30.0, (len(x) - 1) / 3)
            with threadpool_limits(1):  # t-SNE's threads wait for each other at every step: far slower on busy cores
                spread = TSNE(perplexity=perplexity, init="random", random_state=0).fit_transform(x)
            for k in range(classes + 1):
                axis.scatter(*spread[y == k].T, s=6, label="background" if k == 0 else f"class {k}")
            axis.set(title=f"{pair.target}: {name}", xticks=[], yticks=[])
            axis.legend(fontsize=7)
    return figure
