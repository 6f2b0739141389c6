# SPDX-License-Identifier: Apache-2.0
import pytest

from common.report.confusion import confusion, reliability
from common.report.results import find_results


def test_matrices_of_all_common_seeds(classified, runs):
    classified("student_kermany/alone/2", "kermany", [(0, 0.9)])  # the student has no seed 2
    figure = confusion(find_results(runs, "pneumonia", None))
    alone, distill = figure.axes
    assert [axis.get_title() for axis in figure.axes] == ["kermany: alone (n=2)", "kermany: distill (n=2)"]
    assert [t.get_text() for t in alone.texts] == ["2\n50.0 %"] * 4
    assert [t.get_text() for t in distill.texts] == ["4\n100.0 %", "0\n0.0 %", "2\n50.0 %", "2\n50.0 %"]
    assert [t.get_text() for t in alone.get_xticklabels()] == ["normal", "sick"]


def test_reliability_of_known_probabilities(classified, runs):
    (axis,) = reliability(find_results(runs, "pneumonia", None)).axes
    alone, distill = axis.lines[1:]
    assert alone.get_xdata() == pytest.approx([0.6, 0.9])
    assert alone.get_ydata() == pytest.approx([0, 1])
    assert distill.get_xdata() == pytest.approx([0.6, 0.7, 0.9])
    assert distill.get_ydata() == pytest.approx([0, 1, 1])
    assert alone.get_label() == f"alone, ECE {(2 * 0.6 + 2 * 0.1) / 4:.3f}"


def test_segmentations_and_lonely_arms_have_none(study, add_classified, runs, tmp_path):
    assert confusion(find_results(runs, "cardiac", None)) is None
    add_classified("student_nih/alone/0", "nih", [(0, 0.1), (1, 0.9)])
    alone = find_results(runs, "pneumonia", ["nih"])
    assert confusion(alone) is None and reliability(alone) is None
