# SPDX-License-Identifier: Apache-2.0
import pytest

from common.report.intervals import interval_rows, printed
from common.report.results import find_results


def rows_of(runs, **wanted):
    found = interval_rows(find_results(runs, "cardiac", ["acdc", "sun"]), samples=500)
    return [row for row in found if all(row[key] == value for key, value in wanted.items())]


def test_student_against_every_arm_of_the_same_budget(study, runs):
    pairs = [(r["cases"], r["student"], r["baseline"]) for r in rows_of(runs, target="acdc", metric="dice")]
    assert pairs == [
        ("all", "distill", "source_only (sun)"),
        ("all", "distill", "alone"),
        ("all", "distill", "joint"),
        ("10", "distill", "source_only (sun)"),
        ("10", "distill", "alone"),
        ("5", "distill", "source_only (sun)"),
        ("5", "distill", "alone"),
    ]


def test_known_difference(study, runs):
    (row,) = rows_of(runs, target="acdc", metric="dice", cases="all", baseline="alone")
    assert (row["difference"], row["low"], row["high"]) == pytest.approx((0.05, 0.05, 0.05))
    assert (row["patients"], row["seeds"]) == (2, "0 1")
    (worse,) = rows_of(runs, target="acdc", metric="dice", cases="10", baseline="alone")
    assert worse["difference"] == pytest.approx(-0.05)
    table = printed(rows_of(runs, target="acdc", cases="all", baseline="alone"))
    header, lines = table["acdc"]
    assert lines[0][:3] == ["all", "distill", "alone"]
    assert lines[0][header.index("DSC")] == "+0.0500 [+0.0500, +0.0500] *"
    assert lines[0][header.index("HD95")] == "-5.00 [-5.00, -5.00] *"
    assert lines[0][-2:] == ["2", "2"]


def test_only_common_seeds_are_compared(add_run, runs):
    for seed in "012":
        add_run(f"student_acdc/alone/{seed}", "acdc", [0.5, 0.5])
    add_run("student_acdc/distill/1", "acdc", [0.6, 0.6])
    add_run("student_acdc/distill_wide/7", "acdc", [0.6, 0.6])  # no seed in common with any other
    rows = rows_of(runs, metric="dice")
    assert [(r["student"], r["baseline"], r["seeds"]) for r in rows] == [("distill", "alone", "1")]


def test_options_of_the_baseline_are_a_part_of_the_students(add_run, runs):
    for variant in ("alone", "alone_network=X", "distill", "distill_r=0"):
        add_run(f"student_acdc/{variant}/0", "acdc", [0.5, 0.5])
    pairs = {(r["student"], r["baseline"]) for r in rows_of(runs, metric="dice")}
    assert pairs == {("distill", "alone"), ("distill, r=0", "alone"), ("distill, r=0", "distill")}


def test_units_in_pixels_and_mm_give_no_hd(add_run, runs):
    add_run("student_acdc/alone/0", "acdc", [0.5], unit="mm")
    add_run("student_acdc/distill/0", "acdc", [0.5], unit="px")
    assert {row["metric"] for row in rows_of(runs)} == {"dice", "iou", "recall", "precision"}


def test_other_test_cases_are_refused_with_both_runs(add_run, runs):
    add_run("student_acdc/alone/0", "acdc", [0.5])
    add_run("student_acdc/distill/0", "acdc", [0.5, 0.5])
    with pytest.raises(ValueError, match=r"student_acdc/distill against .*student_acdc/alone: 1 rows have no partner"):
        rows_of(runs)


def test_only_empty_truths_give_no_row(add_run, runs):
    add_run("student_acdc/alone/0", "acdc", [None])
    add_run("student_acdc/distill/0", "acdc", [None])
    assert rows_of(runs) == []


def test_classification_compares_its_own_metrics(classified, runs):
    found = interval_rows(find_results(runs, "pneumonia", None), samples=300)
    by_metric = {row["metric"]: row for row in found if (row["baseline"], row["cases"]) == ("alone", "all")}
    assert list(by_metric) == ["accuracy", "balanced_accuracy", "macro_f1", "auroc", "ece"]
    assert (by_metric["accuracy"]["difference"], by_metric["auroc"]["difference"]) == (0.25, 0.25)
    assert by_metric["accuracy"]["low"] <= 0.25 <= by_metric["accuracy"]["high"]
    assert {(row["patients"], row["seeds"]) for row in found} == {(4, "0 1")}
    header, lines = printed(found)["kermany"]
    assert header == ["labelled patients", "student", "minus", "accuracy", "balanced accuracy", "macro F1", "AUROC", "ECE",
                      "patients", "seeds"]  # fmt: skip
    joint = next(line for line in lines if line[2] == "joint")
    assert joint[3] == "+0.0000 [+0.0000, +0.0000]"


def test_other_images_are_refused_with_both_runs(add_classified, runs):
    add_classified("student_nih/alone/0", "nih", [(0, 0.1)])
    add_classified("student_nih/distill/0", "nih", [(1, 0.1)])
    with pytest.raises(ValueError, match=r"student_nih/distill against .*student_nih/alone: .*is of class 1 for the student"):
        interval_rows(find_results(runs, "pneumonia", ["nih"]), samples=10)
