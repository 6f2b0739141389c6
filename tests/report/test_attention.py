# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
import torch

from common.networks import EfficientNet
from common.report.attention import attention, grad_cam, probabilities
from common.report.pairs import Pair, load_pairs
from common.report.results import find_results


def slow_cam(network, image, label):
    """Selvaraju et al. 2017, eq. 1 and 2, by autograd alone."""
    with torch.enable_grad():
        *shallow, deepest = network.encode(image[None])
        deepest = deepest.detach().requires_grad_()
        score = network.decode([*shallow, deepest], image[None])[0, label]
        (gradient,) = torch.autograd.grad(score, deepest)
    alpha = gradient.mean((2, 3), keepdim=True)
    cam = torch.relu((alpha * deepest).sum(1, keepdim=True))
    cam = torch.nn.functional.interpolate(cam, size=image.shape[1:], mode="bilinear")[0, 0].detach().numpy()
    spread = cam.max() - cam.min()
    return (cam - cam.min()) / spread if spread else cam * 0


@pytest.mark.parametrize("frozen", [False, True])
def test_grad_cam_equals_its_formula(frozen):
    torch.manual_seed(0)
    network = EfficientNet(in_channels=1, out_channels=3).eval().requires_grad_(not frozen)
    with torch.inference_mode():
        image = torch.rand(1, 96, 96)
    for label in range(3):
        np.testing.assert_allclose(grad_cam(network, image, label), slow_cam(network, image.clone(), label), atol=1e-4)


def test_a_bottleneck_of_one_pixel_tells_no_place():
    torch.manual_seed(0)
    network = EfficientNet(in_channels=1, out_channels=3).eval()
    assert network.encode(torch.rand(1, 1, 32, 32))[-1].shape[2:] == (1, 1)
    for label in range(3):
        assert not grad_cam(network, torch.rand(1, 32, 32), label).any()


def test_worst_median_and_best_by_the_student(classified, runs, classifiers):
    (pair,) = load_pairs(find_results(runs, "pneumonia", None))
    figure = attention([pair])
    assert len(figure.axes) == 9
    shares = [probabilities(n, pair.slices)[range(8), [0, 1] * 4] for n in pair.networks]
    order = np.argsort(shares[1])
    titles = [axis.get_title() for axis in figure.axes]
    for row, (place, index) in enumerate([("worst", order[0]), ("median", order[4]), ("best", order[7])]):
        name = ("normal", "sick")[index % 2]
        wanted = [
            f"kermany/{index}, {name} ({place})",
            f"alone: p = {shares[0][index]:.3f}",
            f"distill: p = {shares[1][index]:.3f}",
        ]
        assert titles[3 * row : 3 * row + 3] == wanted
        assert [len(axis.images) for axis in figure.axes[3 * row : 3 * row + 3]] == [1, 2, 2]
        image = pair.slices[index][0][0]
        np.testing.assert_array_equal(figure.axes[3 * row].images[0].get_array(), image.numpy().T)


def test_nothing_to_show(study, runs, networks, classifiers):
    assert attention([]) is None
    masks = Pair("acdc", ("a", "b"), (None, None), networks)
    assert attention([masks]) is None
    empty = Pair("kermany", ("a", "b"), (None, None), [], ("normal", "sick"))
    assert attention([empty]) is None
