# SPDX-License-Identifier: Apache-2.0
"""Panels of predicted masks, of a baseline and a student."""

from collections.abc import Sequence

import matplotlib
import numpy as np
import torch
from matplotlib.colors import BoundaryNorm, ListedColormap
from matplotlib.figure import Figure

from ..networks.feature_net import FeatureNet
from .curves import grid
from .pairs import Pair, Slice


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
    lines = [line for pair in pairs if not pair.classes for line in _panel_lines(pair)]
    if not lines:
        return None
    figure, axes = grid(len(lines), 4, width=2.6, height=2.7)
    for line, (image, truth, predictions, titles) in zip(axes, lines, strict=True):
        for axis, overlay, title in zip(line, (None, truth, *predictions), titles, strict=True):
            axis.imshow(image.T, cmap="gray")  # rows of arrays are x
            if overlay is not None:
                colours = ListedColormap(matplotlib.colormaps["tab10"].colors)  # type: ignore[attr-defined]
                norm = BoundaryNorm(np.arange(0.5, 11.5), 10)
                axis.imshow(np.ma.masked_equal(overlay.T, 0), cmap=colours, norm=norm, alpha=0.5, interpolation="nearest")
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
