# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
import torch

from common.report.pairs import load_pairs
from common.report.results import find_results
from common.report.tsne import bottleneck_pixels, pooled_features, tsne


def test_bottleneck_pixels_take_any_foreground(study, runs, networks):
    network = load_pairs(find_results(runs, "cardiac", None))[0].networks[0]
    image, label = torch.rand(1, 8, 8), torch.zeros(1, 8, 8)
    label[0, 0, 0] = 2  # one pixel of its cell
    label[0, 4:, 4:] = 1
    label[0, 4, 4] = 2
    features, classes = bottleneck_pixels(network, [(image, label, "a/0")], 2)
    assert sorted(classes.tolist()) == [0, 0, 1, 2]
    expected = torch.nn.functional.avg_pool2d(image, 4)[0]
    assert features[classes == 2][0, 0] == pytest.approx(expected[0, 0].item())
    assert features[classes == 1][0, 0] == pytest.approx(expected[1, 1].item())


def test_tsne_is_deterministic_and_coloured_by_class(study, runs, networks):
    pair = load_pairs(find_results(runs, "cardiac", None))[0]
    first, second = tsne([pair]), tsne([pair])
    assert [axis.get_title() for axis in first.axes] == ["acdc: alone", "acdc: distill"]
    for a, b in zip(first.axes, second.axes, strict=True):
        assert [c.get_label() for c in a.collections] == ["background", "class 1"]
        for x, y in zip(a.collections, b.collections, strict=True):
            np.testing.assert_array_equal(x.get_offsets(), y.get_offsets())


def test_no_pair_no_figure():
    assert tsne([]) is None


def test_images_are_points_of_their_class(classified, runs, classifiers):
    (pair,) = load_pairs(find_results(runs, "pneumonia", None))
    x, y = pooled_features(pair.networks[1], pair.slices)
    assert y.tolist() == [0, 1] * 4
    assert x[:, 0] == pytest.approx([float(image.mean()) for image, _, _ in classifiers])
    figure = tsne([pair])
    assert [axis.get_title() for axis in figure.axes] == ["kermany: alone", "kermany: distill"]
    for axis in figure.axes:
        assert [(c.get_label(), len(c.get_offsets())) for c in axis.collections] == [("normal", 4), ("sick", 4)]
