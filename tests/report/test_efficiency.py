# SPDX-License-Identifier: Apache-2.0
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.report.efficiency import patients_needed, printed, saved_rows
from common.report.results import find_results


def test_log_linear_between_points():
    needed, text = patients_needed([(5, 0.3), (10, 0.4), (40, 0.7)], 0.55)
    assert needed == pytest.approx(math.sqrt(10 * 40))  # half of the Dice, half of the logarithm
    assert text == "20.0"


@given(st.floats(0.301, 0.699))
def test_curve_at_the_answer_is_the_wanted_dice(wanted):
    a, b = (0.7 - 0.3) / math.log(40 / 5), 0.3 - (0.7 - 0.3) / math.log(40 / 5) * math.log(5)
    needed, _ = patients_needed([(5, 0.3), (40, 0.7)], wanted)
    assert a * math.log(needed) + b == pytest.approx(wanted)


@pytest.mark.parametrize(
    ("curve", "wanted", "answer"),
    [
        ([(40, 0.7), (5, 0.3)], 0.8, (40, ">40")),
        ([(40, 0.7), (5, 0.3)], 0.2, (5, "<=5")),
        ([(40, 0.7), (5, 0.3)], 0.3, (5, "5")),
        ([(40, 0.7), (5, 0.3)], 0.7, (40, "40.0")),
        ([(5, 0.3), (10, 0.6), (40, 0.5)], 0.6, (10, "10.0")),  # the first time, on a curve that falls again
    ],
)
def test_outside_and_at_the_points(curve, wanted, answer):
    assert patients_needed(curve, wanted) == (pytest.approx(answer[0]), answer[1])


def test_scans_saved_of_the_study(study, runs):
    rows = saved_rows(find_results(runs, "cardiac", None))
    assert [(r["target"], r["student"], r["cases"]) for r in rows] == [("acdc", "distill", c) for c in ("all", "10", "5")]
    full, ten, five = rows
    # the baseline: 0.3 at 5 patients, 0.4 at 10, 0.7 at 40
    assert (full["baseline_needs"], full["scans_saved"]) == (">40", ">0.0")
    assert five["baseline_needs_value"] == pytest.approx(math.sqrt(5 * 10))
    assert (five["baseline_needs"], five["scans_saved"], five["seeds"]) == ("7.1", "2.1", 2)
    assert ten["scans_saved"] == "-2.9"  # here the student is worse than the baseline
    assert printed(rows)[1][2] == ["acdc", "distill", "5", "0.3500", "7.1", "2.1", "2"]


def test_only_seeds_that_every_point_has(study, runs):
    study("student_acdc/alone/2", "acdc", [0.0, 0.0], train=["acdc/p0"] * 40)  # only at the full budget
    rows = saved_rows(find_results(runs, "cardiac", None))
    assert {row["seeds"] for row in rows} == {2}
    assert rows[2]["baseline_needs"] == "7.1"


def test_one_budget_is_no_curve(add_run, runs):
    add_run("student_acdc/alone/0", "acdc", [0.5], train=["acdc/p0"])
    add_run("student_acdc/distill/0", "acdc", [0.5], train=["acdc/p0"])
    assert saved_rows(find_results(runs, "cardiac", ["acdc"])) == []


def test_classification_counts_in_balanced_accuracy(classified, runs):
    rows = saved_rows(find_results(runs, "pneumonia", None))
    assert [(row["cases"], row["metric"], row["value"]) for row in rows] == [
        ("all", "balanced accuracy", 0.75),
        ("10", "balanced accuracy", 0.5),
    ]
    assert (rows[0]["baseline_needs"], rows[1]["baseline_needs"]) == (">40", "10")
    assert printed(rows)[0][3] == "balanced accuracy"
