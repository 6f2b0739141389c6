# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
import torch

from common.report import pictures
from common.report.results import find_results


def test_best_student_of_the_largest_budget(study, runs):
    study("student_acdc/distill_wide/1", "acdc", [0.9, 0.9, None])
    study("student_acdc/distill_target_only/0", "acdc", [1.0, 1.0, None])  # a control is not the student
    baseline, student = pictures.choose_pair(find_results(runs, "cardiac", None), "acdc")
    assert (baseline.arm, baseline.budget, baseline.seed) == ("alone", "all", "1")
    assert (student.arm, student.seed) == ("distill_wide", "1")


def test_a_run_without_its_model_is_passed_over(study, runs):
    for seed in "01":
        (runs / f"student_acdc/distill/{seed}/model.pt").unlink()
    baseline, student = pictures.choose_pair(find_results(runs, "cardiac", None), "acdc")
    assert (student.budget, baseline.budget) == ("10", "10")


def test_no_student_no_pair(add_run, runs):
    add_run("student_acdc/alone/0", "acdc", [0.5])
    results = find_results(runs, "cardiac", ["acdc"])
    assert pictures.choose_pair(results, "acdc") is None
    assert pictures.load_pairs(results) == []
    assert pictures.panels([]) is None
    assert pictures.tsne([]) is None


def test_slice_dice_is_the_mean_over_the_classes_present():
    truth = np.array([[1, 1, 2, 0]])
    pred = np.array([[1, 0, 2, 3]])
    assert pictures.slice_dice(pred, truth) == pytest.approx((2 / 3 + 1) / 2)


def test_panels_show_worst_median_and_best(study, runs, networks):
    (pair, _) = pictures.load_pairs(find_results(runs, "cardiac", None))
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


@pytest.mark.parametrize("number", [1, 2])
def test_panels_of_few_slices_and_none_with_foreground(study, runs, networks, number):
    pair = pictures.load_pairs(find_results(runs, "cardiac", None))[0]
    few = pictures.Pair(pair.target, pair.names, pair.networks, networks[:number])
    assert len(pictures.panels([few]).axes) == 4 * number
    empty = [(image, torch.zeros_like(label), case) for image, label, case in networks]
    assert pictures.panels([pictures.Pair(pair.target, pair.names, pair.networks, empty)]) is None


def test_bottleneck_pixels_take_any_foreground(study, runs, networks):
    network = pictures.load_pairs(find_results(runs, "cardiac", None))[0].networks[0]
    image, label = torch.rand(1, 8, 8), torch.zeros(1, 8, 8)
    label[0, 0, 0] = 2  # one pixel of its cell
    label[0, 4:, 4:] = 1
    label[0, 4, 4] = 2
    features, classes = pictures.bottleneck_pixels(network, [(image, label, "a/0")], 2)
    assert sorted(classes.tolist()) == [0, 0, 1, 2]
    expected = torch.nn.functional.avg_pool2d(image, 4)[0]
    assert features[classes == 2][0, 0] == pytest.approx(expected[0, 0].item())
    assert features[classes == 1][0, 0] == pytest.approx(expected[1, 1].item())


def test_tsne_is_deterministic_and_coloured_by_class(study, runs, networks):
    pair = pictures.load_pairs(find_results(runs, "cardiac", None))[0]
    first, second = pictures.tsne([pair]), pictures.tsne([pair])
    assert [axis.get_title() for axis in first.axes] == ["acdc: alone", "acdc: distill"]
    for a, b in zip(first.axes, second.axes, strict=True):
        assert [c.get_label() for c in a.collections] == ["background", "class 1"]
        for x, y in zip(a.collections, b.collections, strict=True):
            np.testing.assert_array_equal(x.get_offsets(), y.get_offsets())
