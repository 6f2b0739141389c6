# SPDX-License-Identifier: Apache-2.0
from common.report.pairs import choose_pair, load_pairs
from common.report.results import find_results


def test_best_student_of_the_largest_budget(study, runs):
    study("student_acdc/distill_wide/1", "acdc", [0.9, 0.9, None])
    study("student_acdc/distill_target_only/0", "acdc", [1.0, 1.0, None])  # a control is not the student
    baseline, student = choose_pair(find_results(runs, "cardiac", None), "acdc")
    assert (baseline.arm, baseline.budget, baseline.seed) == ("alone", "all", "1")
    assert (student.arm, student.seed) == ("distill_wide", "1")


def test_a_run_without_its_model_is_passed_over(study, runs):
    for seed in "01":
        (runs / f"student_acdc/distill/{seed}/model.pt").unlink()
    baseline, student = choose_pair(find_results(runs, "cardiac", None), "acdc")
    assert (student.budget, baseline.budget) == ("10", "10")


def test_no_student_no_pair(add_run, runs):
    add_run("student_acdc/alone/0", "acdc", [0.5])
    results = find_results(runs, "cardiac", ["acdc"])
    assert choose_pair(results, "acdc") is None
    assert load_pairs(results) == []


def test_results_without_models_do_for_what_needs_none(classified, runs):
    for path in runs.glob("student_kermany/*/*/model.pt"):
        path.unlink()
    results = find_results(runs, "pneumonia", None)
    assert choose_pair(results, "kermany") is None
    baseline, student = choose_pair(results, "kermany", trained=False)
    assert (baseline.arm, student.arm, student.budget) == ("alone", "distill", "all")


def test_classifiers_come_with_their_classes(classified, runs, classifiers):
    (pair,) = load_pairs(find_results(runs, "pneumonia", None))
    assert (pair.target, pair.names, pair.classes) == ("kermany", ("alone", "distill"), ("normal", "sick"))
    assert len(pair.slices) == 8
