# SPDX-License-Identifier: Apache-2.0
from dataclasses import replace

import pytest

from common.report.curves import label_efficiency, learning_curves, mean_curve, scans_saved, style
from common.report.efficiency import saved_rows
from common.report.results import find_results


def test_mean_over_the_seeds_that_reached_an_epoch():
    long = {"epochs": [{"epoch": 0, "val": 0.2}, {"epoch": 1, "val": None}, {"epoch": 2, "val": 0.8}]}
    short = {"epochs": [{"epoch": 0, "val": 0.4}]}
    epochs, values = mean_curve([long, short])
    assert epochs == [0, 2]
    assert values == pytest.approx([0.3, 0.8])


def test_learning_curves_have_a_panel_a_target_and_budget(study, runs):
    figure = learning_curves(find_results(runs, "cardiac", None))
    titles = [axis.get_title() for axis in figure.axes]
    assert titles[:3] == ["acdc", "acdc, 10 labelled patients", "acdc, 5 labelled patients"]
    lines = {line.get_label(): line for line in figure.axes[0].lines}
    assert list(lines) == ["alone (n=2)", "joint (n=2)", "distill (n=2)"]
    assert lines["alone (n=2)"].get_ydata() == pytest.approx([0.3, 0.45])


def test_learning_curves_are_of_validation_on_the_target(study, runs):
    found = find_results(runs, "cardiac", None)
    alone = next(r for r in found if r.arm == "alone")
    adapted = replace(alone, arm="source_teacher", source="sun")
    unseen = replace(adapted, options=(("r", "0"),))  # validated on its source, as source_only is
    figure = learning_curves([alone, adapted, unseen, replace(alone, arm="source_only", source="sun")])
    labels = [line.get_label() for line in figure.axes[0].lines]
    assert labels == ["alone (n=1)", "source_teacher (sun) (n=1)"]


def test_label_efficiency_shows_mean_dice_at_each_budget(study, runs):
    figure = label_efficiency(find_results(runs, "cardiac", None))
    (axis,) = figure.axes  # sun has one budget only
    assert axis.get_title() == "acdc"
    line = axis.lines[0]
    assert line.get_xdata() == pytest.approx([5, 10, 40])
    assert line.get_ydata() == pytest.approx([0.3, 0.4, 0.7])
    assert [tick.get_text() for tick in axis.get_xticklabels()] == ["5", "10", "40"]


def test_label_efficiency_is_on_the_seeds_of_all_budgets(study, runs):
    study("student_acdc/alone/2", "acdc", [0.0, 0.0], train=["acdc/p0"])  # only at the full budget
    (axis,) = label_efficiency(find_results(runs, "cardiac", None)).axes
    assert axis.lines[0].get_ydata() == pytest.approx([0.3, 0.4, 0.7])


def test_scans_saved_bars(study, runs):
    figure = scans_saved(saved_rows(find_results(runs, "cardiac", None)))
    (axis,) = figure.axes
    assert [text.get_text() for text in axis.texts] == [">40", "7.1", "7.1"]
    assert [bar.get_height() for bar in axis.patches] == pytest.approx([40, 50**0.5, 50**0.5])


def test_no_data_no_figure(add_run, runs):
    (add_run("student_acdc/alone/0", "acdc", [0.5]) / "history.json").unlink()
    results = find_results(runs, "cardiac", ["acdc"])
    assert learning_curves(results) is None
    assert label_efficiency(results) is None
    assert scans_saved([]) is None


def test_an_arm_has_its_own_colour():
    keys = [("alone", "", ()), ("distill", "", ()), ("joint", "", ()), ("unknown", "", ())]
    assert len({style(key)["color"] for key in keys}) == 4
    assert style(("distill", "", (("r", "0"),)))["linestyle"] == "--"


def test_label_efficiency_of_a_classification_shows_balanced_accuracy(classified, runs):
    (axis,) = label_efficiency(find_results(runs, "pneumonia", None)).axes
    assert axis.get_ylabel() == "balanced accuracy"
    lines = {line.get_label(): line.get_ydata() for line in axis.lines}
    assert axis.lines[0].get_xdata() == pytest.approx([10, 40])
    assert [container.get_label() for container in axis.containers] == ["alone", "distill"], lines
    assert axis.containers[1].lines[0].get_ydata() == pytest.approx([0.5, 0.75])
