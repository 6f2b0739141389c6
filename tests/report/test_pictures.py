# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
import torch

from common.report import pairs, pictures
from common.report.results import find_results


def test_no_pair_no_panels():
    assert pictures.panels([]) is None


def test_slice_dice_is_the_mean_over_the_classes_present():
    truth = np.array([[1, 1, 2, 0]])
    pred = np.array([[1, 0, 2, 3]])
    assert pictures.slice_dice(pred, truth) == pytest.approx((2 / 3 + 1) / 2)


def test_panels_show_worst_median_and_best(study, runs, networks):
    (pair, _) = pairs.load_pairs(find_results(runs, "cardiac", None))
    assert (pair.target, pair.names) == ("acdc", ("alone", "distill"))
    figure = pictures.panels([pair])
    assert len(figure.axes) == 12
    titles = [axis.get_title() for axis in figure.axes]
    scores = []
    for image, truth, _ in networks:
        p, t = image[0].numpy() > 0.5, truth[0].numpy() > 0
        scores.append(2 * (p & t).sum() / (p.sum() + t.sum()))
    order = np.argsort(scores)
    for row, (name, index) in enumerate([("worst", order[0]), ("median", order[3]), ("best", order[5])]):
        assert titles[4 * row] == f"acdc/{index} ({name})"
        assert titles[4 * row + 3] == f"distill: {scores[index]:.3f}"
        shown = figure.axes[4 * row].images[0].get_array()
        np.testing.assert_array_equal(shown, networks[index][0][0].numpy().T)  # upright: x goes to the right
        np.testing.assert_array_equal(figure.axes[4 * row + 1].images[1].get_array().mask, networks[index][1][0].numpy().T == 0)


@pytest.mark.parametrize("number", [1, 2])
def test_panels_of_few_slices_and_none_with_foreground(study, runs, networks, number):
    pair = pairs.load_pairs(find_results(runs, "cardiac", None))[0]
    few = pairs.Pair(pair.target, pair.names, pair.networks, networks[:number])
    assert len(pictures.panels([few]).axes) == 4 * number
    empty = [(image, torch.zeros_like(label), case) for image, label, case in networks]
    assert pictures.panels([pairs.Pair(pair.target, pair.names, pair.networks, empty)]) is None
