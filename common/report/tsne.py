# SPDX-License-Identifier: Apache-2.0
"""t-SNE of what a baseline and a student see: bottleneck pixels of masks, pooled features of classified images."""

from collections.abc import Sequence

import numpy as np
import torch
from matplotlib.figure import Figure
from sklearn.manifold import TSNE
from threadpoolctl import threadpool_limits

from ..networks.feature_net import FeatureNet
from .curves import grid
from .pairs import Pair, Slice

PIXELS = 300  # bottleneck pixels a class in t-SNE: its cost grows quickly


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


@torch.inference_mode()
def pooled_features(network: FeatureNet, slices: Sequence[Slice]) -> tuple[np.ndarray, np.ndarray]:
    """The bottleneck averaged over each image (N, C), which the classifier sees, and the images' classes (N,)."""
    features = [network.encode(image[None])[-1].flatten(2).mean(2)[0] for image, _, _ in slices]
    return torch.stack(features).float().numpy(), np.array([int(label) for _, label, _ in slices])


def tsne(pairs: Sequence[Pair]) -> Figure | None:
    """t-SNE of bottleneck pixels, or of images where they are classified, baseline beside student, coloured by class."""
    pairs = [pair for pair in pairs if len(pair.slices) > 1 or not pair.classes]
    if not pairs:
        return None
    figure, axes = grid(len(pairs), 2, width=4.5, height=4)
    for line, pair in zip(axes, pairs, strict=True):
        for axis, network, name in zip(line, pair.networks, pair.names, strict=True):
            if pair.classes:
                names, (x, y) = list(pair.classes), pooled_features(network, pair.slices)
            else:
                highest = max(1, *(int(truth.max()) for _, truth, _ in pair.slices))
                names = ["background", *(f"class {k}" for k in range(1, highest + 1))]
                x, y = bottleneck_pixels(network, pair.slices, highest)
            perplexity = min(30.0, (len(x) - 1) / 3)
            with threadpool_limits(1):  # t-SNE's threads wait for each other at every step: far slower on busy cores
                place = TSNE(perplexity=perplexity, init="random", random_state=0).fit_transform(x)
            for k, of_class in enumerate(names):
                axis.scatter(*place[y == k].T, s=6, label=of_class)
            axis.set(title=f"{pair.target}: {name}", xticks=[], yticks=[])
            axis.legend(fontsize=7)
    return figure
