# SPDX-License-Identifier: Apache-2.0
"""Where a baseline and a student look: Grad-CAM of test images."""

from collections.abc import Sequence

import numpy as np
import torch
from matplotlib.figure import Figure
from monai.transforms import ScaleIntensity
from monai.visualize import GradCAM
from torch import Tensor, nn

from ..networks.feature_net import FeatureNet
from .curves import grid
from .pairs import Pair, Slice


class _Tapped(nn.Module):
    """A network whose bottleneck passes through a child of that name, where GradCAM can hook it."""

    def __init__(self, network: FeatureNet) -> None:
        super().__init__()
        self.network, self.bottleneck = network, nn.Identity()
        self.train(network.training)  # GradCAM leaves the network in the mode of this module

    def forward(self, image: Tensor) -> Tensor:
        *shallow, deepest = self.network.encode(image)
        # a copy: layers that work in place must not change what was hooked
        return self.network.decode([*shallow, self.bottleneck(deepest).clone()], image)


def grad_cam(network: FeatureNet, image: Tensor, label: int) -> np.ndarray:
    """Grad-CAM (Selvaraju et al. 2017) of class `label` at the bottleneck: (H, W) in [0, 1] for an image (1, H, W).

    MONAI's, but scaled so that 1 is the most attended place (its own scaling is turned round); all 0 where nothing speaks
    for the class, or no place more than another (a bottleneck of one pixel).
    """
    # of the image, so that the hooks fire for frozen encoders too; cloned, as slices may come from inference mode
    given = image[None].clone().requires_grad_()
    cam = GradCAM(_Tapped(network), target_layers="bottleneck", postprocessing=_scaled)
    with torch.enable_grad():
        return torch.as_tensor(cam(given, class_idx=label)).detach()[0, 0].numpy()


def _scaled(cam: Tensor) -> Tensor:
    """To [0, 1]; what differs by the rounding of its interpolation alone becomes 0."""
    flat = cam.max() - cam.min() <= 1e-5 * cam.abs().max()
    return torch.zeros_like(cam) if flat else torch.as_tensor(ScaleIntensity(minv=0.0, maxv=1.0)(cam))


@torch.inference_mode()
def probabilities(network: FeatureNet, slices: Sequence[Slice]) -> np.ndarray:
    """Class probabilities (N, K), one slice at a time."""
    return np.stack([network(image[None])[0].softmax(0).numpy() for image, _, _ in slices])


def attention(pairs: Sequence[Pair]) -> Figure | None:
    """Image and both Grad-CAMs of its class, for the worst, the median and the best by the student's probability of it."""
    lines = [(pair, index, place) for pair in pairs if pair.classes for index, place in _places(pair)]
    if not lines:
        return None
    figure, axes = grid(len(lines), 3, width=2.8, height=3)
    for line, (pair, index, place) in zip(axes, lines, strict=True):
        image, label, case = pair.slices[index]
        picture, true = image[0].numpy().T, int(label)  # rows of arrays are x
        line[0].set_title(f"{case}, {pair.classes[true]} ({place})", fontsize=7)
        for axis, network, name in zip(line[1:], pair.networks, pair.names, strict=True):
            share = probabilities(network, [pair.slices[index]])[0, true]
            axis.set_title(f"{name}: p = {share:.3f}", fontsize=7)
        for axis in line:
            axis.imshow(picture, cmap="gray")
            axis.axis("off")
        for axis, network in zip(line[1:], pair.networks, strict=True):
            axis.imshow(grad_cam(network, image, true).T, cmap="jet", alpha=0.4, vmin=0, vmax=1)
    return figure


def _places(pair: Pair) -> list[tuple[int, str]]:
    if not pair.slices:
        return []
    labels = [int(label) for _, label, _ in pair.slices]
    shares = probabilities(pair.networks[1], pair.slices)[range(len(labels)), labels]
    ranked = np.argsort(shares, kind="stable")
    places = {0: "worst", len(ranked) // 2: "median", len(ranked) - 1: "best"}  # fewer than three images: fewer places
    return [(int(ranked[place]), title) for place, title in places.items()]
