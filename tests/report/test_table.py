# SPDX-License-Identifier: Apache-2.0
import json
import statistics

import pytest

from common.report.results import find_results
from common.report.table import printed, table_rows


def row_of(rows, target, arm, cases="all"):
    (row,) = [row for row in rows if (row["target"], row["arm"], row["cases"]) == (target, arm, cases)]
    return row


def test_known_numbers(study, runs):
    rows = table_rows(find_results(runs, "cardiac", None))
    alone = row_of(rows, "acdc", "alone")
    # seed 0: (0.6 + 0.7) / 2, seed 1: (0.7 + 0.8) / 2; the empty truth is out
    assert alone["dice_mean"] == pytest.approx(0.70)
    assert alone["dice_sd"] == pytest.approx(statistics.stdev([0.65, 0.75]))
    assert alone["hd95_mean"] == pytest.approx(30.0)
    assert (alone["units"], alone["empty_truth"], alone["empty_prediction"], alone["seeds"]) == (4, 2, 0, 2)
    assert (alone["training_seconds"], alone["parameters"], alone["labelled_patients"]) == (60, 1000, 40)
    source = row_of(rows, "acdc", "source_only (sun)")
    assert source["dice_mean"] == pytest.approx(0.05)
    assert source["empty_prediction"] == 2
    assert row_of(rows, "acdc", "distill")["parameters"] == 1234


def test_the_total_counts_every_run_that_taught_once(add_run, runs):
    """joint learned from the target's and two sources' teachers; distill from joint; a teacher is not counted twice."""
    for seed, more in (("0", 0), ("1", 100)):
        elsewhere = "/moved/runs/"  # teachers are found beside the run, wherever the runs lie now
        add_run(f"teacher_a/alone/{seed}", "a", [0.5], seconds=10 + more)
        add_run(f"teacher_b/for_a/{seed}", "a", [0.5], seconds=200)
        own = [f"{elsewhere}teacher_a/alone/{seed}", f"runs/teacher_b/for_a/{seed}", f"runs/teacher_a/alone/{seed}"]
        add_run(f"joint_teacher_g/for_a/{seed}", "a", [0.5], seconds=3000, teachers=own)
        add_run(f"student_a/distill/{seed}", "a", [0.5], seconds=40000, teacher=f"$'runs/joint_teacher_g/for_a/' + '{seed}'")
    rows = table_rows(find_results(runs, "g", ["a"]))
    assert {row["arm"]: row["total_seconds"] for row in rows} == {
        "teacher": 60, "source_teacher (b)": 200, "joint": 3260, "distill": 43260,
    }  # fmt: skip
    assert row_of(rows, "a", "distill")["training_seconds"] == 40000
    header, lines = printed(rows)["a"]
    cell = dict(zip(header, next(line for line in lines if line[0] == "distill"), strict=True))
    assert (cell["training s"], cell["total s"]) == ("40,000", "43,260")


@pytest.mark.parametrize("lost", ["history.json", "config.json"])
def test_the_total_of_an_arm_is_empty_if_a_teacher_tells_no_time(add_run, runs, lost):
    for seed in "01":
        add_run(f"student_a/alone/{seed}", "a", [0.5], seconds=7)
        add_run(f"teacher_a/alone/{seed}", "a", [0.5])
        add_run(f"student_a/distill/{seed}", "a", [0.5], teacher=f"runs/teacher_a/alone/{seed}")
    (runs / "teacher_a/alone/1" / lost).unlink()
    rows = table_rows(find_results(runs, "g", ["a"]))
    assert (row_of(rows, "a", "alone")["total_seconds"], row_of(rows, "a", "distill")["total_seconds"]) == (7, None)
    header, lines = printed(rows)["a"]
    assert [line[header.index("total s")] for line in lines] == ["7", "", ""]


def test_group_mean_is_the_mean_over_targets_of_arms_that_all_have(study, runs):
    study("student_acdc/pooled/0", "acdc", [0.5])
    rows = table_rows(find_results(runs, "cardiac", None))
    group = [row for row in rows if row["target"] == "group mean"]
    assert [row["arm"] for row in group] == ["source_only", "alone", "joint", "distill"]
    alone = row_of(rows, "group mean", "alone")
    assert alone["dice_mean"] == pytest.approx((0.70 + 0.50) / 2)
    assert alone["dice_sd"] == pytest.approx(statistics.stdev([0.55, 0.65]))
    assert alone["units"] == 8
    assert row_of(rows, "group mean", "source_only")["empty_prediction"] == 4


def test_group_mean_counts_the_seeds_that_it_averages(add_run, runs):
    for seed in "012":
        add_run(f"student_a/alone/{seed}", "a", [0.5, "missed"] if seed != "0" else [0.7, 0.7], seconds=10.0 + 100 * int(seed))
    add_run("student_b/alone/0", "b", [0.5, 0.5], seconds=10.0)
    group = table_rows(find_results(runs, "g", ["a", "b"]))[-1]
    assert (group["seeds"], group["units"], group["empty_prediction"], group["training_seconds"]) == (1, 4, 0, 10)
    assert group["dice_mean"] == pytest.approx(0.6)


def test_group_mean_has_no_hd_where_units_differ(add_run, runs):
    add_run("student_a/alone/0", "a", [0.5], unit="mm")
    add_run("student_b/alone/0", "b", [0.7], unit="px")
    group = table_rows(find_results(runs, "g", ["a", "b"]))[-1]
    assert group["dice_mean"] == pytest.approx(0.6)
    assert group["hd95_mean"] is None


def test_sources_are_averaged_before_targets(add_run, runs):
    for owner, target, dice in (("b", "a", 0.2), ("c", "a", 0.4), ("a", "b", 0.9)):
        add_run(f"teacher_{owner}/for_{target}/0", target, [dice])
    group = table_rows(find_results(runs, "g", ["a", "b"]))[-1]
    assert group["arm"] == "source_teacher"
    assert group["dice_mean"] == pytest.approx((0.3 + 0.9) / 2)


def test_one_seed_has_no_deviation_and_only_empty_truths_no_mean(add_run, runs):
    add_run("student_a/alone/0", "a", [0.5])
    add_run("student_a/pooled/0", "a", [None])
    results = find_results(runs, "g", ["a"])
    alone, pooled = table_rows(results)
    assert (alone["dice_mean"], alone["dice_sd"]) == (0.5, None)
    assert (pooled["dice_mean"], pooled["units"], pooled["empty_truth"]) == (None, 0, 1)
    header, lines = printed([alone, pooled])["a"]
    assert header[3:8] == ["IoU", "DSC", "recall", "precision", "HD95 (px)"]
    assert lines[0][3] == "0.5000"
    assert lines[1][3] == ""


def test_printed_cells(study, runs):
    header, lines = printed(table_rows(find_results(runs, "cardiac", None)))["acdc"]
    alone = dict(zip(header, next(line for line in lines if line[0] == "alone"), strict=True))
    assert alone["labelled patients"] == "all (40)"
    assert alone["DSC"] == "0.7000 ± 0.0707"
    assert alone["HD95 (px)"] == "30.00 ± 7.07"
    assert alone["empty predictions"] == "0 of 4"
    assert alone["false alarms"] == "0 of 2"
    source = dict(zip(header, lines[0], strict=True))
    assert (source["arm"], source["labelled patients"]) == ("source_only (sun)", "0")
    few = [line[1] for line in lines if line[0] == "distill"]
    assert few == ["all (40)", "10", "5"]


def test_what_is_found_where_nothing_is_is_counted(add_run, runs):
    path = add_run("student_a/alone/0", "a", [0.5, None, None]) / "test" / "a" / "metrics.json"
    metrics = json.loads(path.read_text())
    metrics["units"][2]["empty_prediction"] = False
    path.write_text(json.dumps(metrics))
    (row,) = table_rows(find_results(runs, "g", ["a"]))
    assert (row["units"], row["empty_truth"], row["false_alarms"], row["empty_prediction"]) == (1, 2, 1, 0)
    header, (line,) = printed([row])["a"]
    assert dict(zip(header, line, strict=True))["false alarms"] == "1 of 2"


def test_seeds_in_different_units_are_refused(add_run, runs):
    add_run("student_a/alone/0", "a", [0.5], unit="mm")
    add_run("student_a/alone/1", "a", [0.5], unit="px")
    with pytest.raises(ValueError, match=r"HD95 of alone on a is in \['mm', 'px'\]"):
        table_rows(find_results(runs, "g", ["a"]))


def test_classification_shows_its_metrics(classified, runs):
    rows = table_rows(find_results(runs, "pneumonia", None))
    alone = row_of(rows, "kermany", "alone")
    assert (alone["accuracy_mean"], alone["accuracy_sd"], alone["balanced_accuracy_mean"]) == (0.5, 0.0, 0.5)
    assert (alone["auroc_mean"], alone["images"], alone["seeds"]) == (0.75, 8, 2)
    assert not any("dice" in key or "hd95" in key for key in alone)
    header, lines = printed(rows)["kermany"]
    assert header[3:9] == ["accuracy", "balanced accuracy", "macro F1", "AUROC", "ECE", "images"]
    distill = dict(zip(header, next(line for line in lines if line[0] == "distill"), strict=True))
    assert (distill["accuracy"], distill["images"], distill["labelled patients"]) == ("0.7500 ± 0.0000", "8", "all (40)")


def test_an_undefined_auroc_is_left_out_of_the_mean(add_classified, runs):
    for seed, images in (("0", [(0, 0.1), (1, 0.9)]), ("1", [(0, 0.1), (0, 0.2)])):
        add_classified(f"student_nih/alone/{seed}", "nih", images)
        add_classified(f"student_nih/pooled/{seed}", "nih", images[1:])
        add_classified(f"student_kermany/alone/{seed}", "kermany", images)
    rows = table_rows(find_results(runs, "pneumonia", ["nih", "kermany"]))
    alone = row_of(rows, "nih", "alone")
    assert (alone["auroc_mean"], alone["auroc_sd"], alone["accuracy_mean"]) == (1.0, None, 1.0)
    assert row_of(rows, "nih", "pooled")["auroc_mean"] is None
    group = row_of(rows, "group mean", "alone")
    assert (group["auroc_mean"], group["images"], group["accuracy_sd"]) == (1.0, 8, 0.0)
    assert printed(rows)["nih"][1][1][6] == ""
