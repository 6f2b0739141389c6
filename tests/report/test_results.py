# SPDX-License-Identifier: Apache-2.0
import json

import pytest

from common.report.results import baseline_for, compares, find_results, label, name_arm, parse_variant


@pytest.mark.parametrize(
    ("variant", "base", "settings"),
    [
        ("alone", "alone", {}),
        ("distill_wide_cases=5", "distill_wide", {"cases": "5"}),
        ("for_acdc_r=0_cases=10", "for_acdc", {"r": "0", "cases": "10"}),
        ("distill_levels=conv_0+down_1_network=TransResUNet", "distill",
         {"levels": "conv_0+down_1", "network": "TransResUNet"}),
        ("for_brats20_equal_volume=3", "for_brats20", {"equal_volume": "3"}),
    ],
)  # fmt: skip
def test_variant_is_a_base_and_settings(variant, base, settings):
    assert parse_variant(variant) == (base, settings)


@pytest.mark.parametrize(
    ("bundle", "base", "arm"),
    [
        ("student_acdc", "alone", ("alone", "")),
        ("student_acdc", "distill_target_only", ("distill_target_only", "")),
        ("student_acdc", "distill_soft_target_only", ("distill_soft_target_only", "")),
        ("student_sun", "alone", ("source_only", "sun")),
        ("student_sun", "pooled", None),
        ("joint_teacher_cardiac", "for_acdc", ("joint", "")),
        ("joint_teacher_cardiac", "wide_for_acdc", ("joint_wide", "")),
        ("joint_teacher_cardiac", "target_only_for_acdc", ("joint_target_only", "")),
        ("joint_teacher_cardiac", "for_sun", None),
        ("joint_teacher_mri", "for_acdc", None),
        ("multi_head_cardiac", "alone", ("multi_head", "")),
        ("multi_head_cardiac", "for_acdc", ("multi_head", "")),
        ("multi_head_cardiac", "for_sun", None),
        ("teacher_acdc", "alone", ("teacher", "")),
        ("teacher_sun", "for_acdc", ("source_teacher", "sun")),
        ("teacher_sun", "alone", None),
        ("something", "alone", None),
    ],
)
def test_arm_of_a_run_tested_on_acdc(bundle, base, arm):
    assert name_arm(bundle, base, "acdc", "cardiac") == arm


def test_finds_every_arm_in_order(study, runs):
    found = find_results(runs, "cardiac", None)
    assert {r.target for r in found} == {"acdc", "sun"}
    arms = [(r.arm, r.budget, r.seed) for r in found if r.target == "acdc"]
    full = [(arm, "all", seed) for arm in ("source_only", "alone", "joint", "distill") for seed in "01"]
    assert arms == full + [(arm, cases, seed) for cases in ("10", "5") for arm in ("alone", "distill") for seed in "01"]
    assert [r.labelled() for r in found if r.target == "acdc" and r.arm == "alone"] == [40, 40, 10, 10, 5, 5]
    assert {r.labelled() for r in found if r.arm == "source_only"} == {0}


def test_equal_volume_is_an_arm(add_run, runs):
    add_run("joint_teacher_cardiac/for_acdc_equal_volume=2/0", "acdc", [0.5])
    add_run("student_acdc/distill_equal_volume=2_r=0/0", "acdc", [0.5])
    found = find_results(runs, "cardiac", None)
    assert [label(r.key) for r in found] == ["equal_volume", "distill_equal_volume, r=0"]


def test_labelled_patients_of_a_run_over_several_datasets(add_run, runs):
    path = add_run("multi_head_cardiac/alone/0", "sun", [0.5])
    acdc, sun = ({"train": [f"{name}/{i}" for i in range(n)], "val": [f"{name}/v"]} for name, n in (("acdc", 7), ("sun", 3)))
    (path / "folds.json").write_text(json.dumps(acdc | {"datasets": {"acdc": acdc, "sun": sun}}))
    (result,) = find_results(runs, "cardiac", None)
    assert result.labelled() == 4
    unread = {"acdc": acdc, "sun": sun | {"labelled": False}}  # r = 0: the target's images, without its labels
    (path / "folds.json").write_text(json.dumps(sun | {"datasets": unread}))
    (result,) = find_results(runs, "cardiac", None)
    assert result.labelled() == 0


def test_other_groups_and_other_targets_are_left_out(add_run, runs):
    add_run("student_acdc/alone/0", "acdc", [0.5])
    add_run("student_lits/alone/0", "lits", [0.5])
    add_run("joint_teacher_cardiac/for_acdc/0", "acdc", [0.5])
    assert {r.target for r in find_results(runs, "cardiac", None)} == {"acdc"}
    assert {r.target for r in find_results(runs, "ct", ["lits"])} == {"lits"}


def test_baseline_shares_most_options():
    keys = [("alone", "", ()), ("alone", "", (("network", "UNet"),)), ("alone", "", (("network", "X"),))]
    assert baseline_for(("distill", "", (("network", "X"), ("r", "0"))), keys, "alone") == keys[2]
    assert baseline_for(("distill", "", (("r", "0"),)), keys, "alone") == keys[0]
    assert baseline_for(("distill", "", ()), keys, "pooled") is None


@pytest.mark.parametrize(
    ("arm", "network", "expected"),
    [
        *(("alone", "UNet", True), ("alone", "TransResUNet", False), ("alone", None, True)),
        *(("joint", "UNet", False), ("joint", "TransResUNet", True), ("teacher", "TransResUNet", True)),
        *(("distill", "UNet", True), ("distill", "TransResUNet", False), ("distill_wide", "TransResUNet-UNet", True)),
    ],
)
def test_a_baseline_of_a_pair_of_networks_has_its_part(arm, network, expected):
    student = ("distill", "", (("network", "TransResUNet-UNet"), ("r", "0")))
    assert compares(student, (arm, "", (("network", network),) if network else ())) is expected
    assert not compares(("distill", "", ()), (arm, "", (("network", network or "UNet"),))), "a student of no pair has no part"


def test_nothing_to_report_is_a_clear_error(add_run, runs):
    with pytest.raises(FileNotFoundError, match=r"--runs .*no such folder"):
        find_results(runs, "cardiac", None)
    add_run("student_acdc/alone/0", "acdc", [0.5])
    with pytest.raises(ValueError, match=r"no results of group cardiac.*--targets"):
        find_results(runs, "cardiac", None)
    with pytest.raises(ValueError, match=r"no results of group cardiac, datasets \['sun'\]"):
        find_results(runs, "cardiac", ["sun"])


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("test/acdc/metrics.json", '{"units": [', r"metrics\.json is not valid JSON"),
        ("test/acdc/metrics.json", "{}", r"metrics\.json lacks the keys \['units'"),
        ("history.json", "{}", r"history\.json lacks the keys \['epochs'"),
        ("folds.json", "", r"folds\.json is not valid JSON"),
    ],
)
def test_damaged_files_are_named(add_run, runs, name, text, message):
    path = add_run("student_acdc/alone/0", "acdc", [0.5])
    (path / name).write_text(text)
    with pytest.raises(ValueError, match=message):
        find_results(runs, "cardiac", ["acdc"])


def test_budget_that_is_no_number_is_named(add_run, runs):
    add_run("student_acdc/alone_cases=few/0", "acdc", [0.5])
    with pytest.raises(ValueError, match=r"cases=few .*neither a number"):
        find_results(runs, "cardiac", ["acdc"])


def test_two_tasks_in_one_report_are_refused(add_run, add_classified, runs):
    add_run("student_acdc/alone/0", "acdc", [0.5])
    add_classified("student_nih/alone/0", "nih", [(0, 0.1)])
    with pytest.raises(
        ValueError, match=r"student_acdc.*student_nih.* tasks segmentation and classification; a report is of one"
    ):
        find_results(runs, "g", ["acdc", "nih"])


def test_a_classification_without_its_matrix_is_named(add_classified, runs):
    path = add_classified("student_nih/alone/0", "nih", [(0, 0.1)]) / "test" / "nih" / "metrics.json"
    metrics = json.loads(path.read_text())
    del metrics["confusion"]
    path.write_text(json.dumps(metrics))
    with pytest.raises(ValueError, match=r"metrics\.json lacks the keys \['confusion'\]"):
        find_results(runs, "g", ["nih"])
