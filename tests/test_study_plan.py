# SPDX-License-Identifier: Apache-2.0
"""The plan of a study: for each arm the runs it needs, their flags and their order, written out by hand here."""

import ast
import itertools
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.bundle import ConfigParser

from common.study import Job, plan
from common.study_checks import ARMS, NEED_SOURCES

CARDIAC = {"group": "cardiac", "datasets": ["acdc", "sunnybrook"]}
MRI = {"group": "mri", "datasets": ["brats", "isles", "mets"]}
COMMON = {"data_dir": "D", "runs_dir": "R", "seed": "0"}


def make(group=CARDIAC, *, arms, targets=("acdc",), seeds=(0,), **more):
    return plan(**group, targets=targets, seeds=seeds, arms=arms, data="D", runs="R", **more)


def trained(planned) -> dict[str, Job]:
    return {job.run_id: job for job in planned.jobs if job.kind == "train"}


def own_flags(job: Job) -> dict[str, str]:
    return {k: v for k, v in job.overrides.items() if k not in ("data_dir", "runs_dir", "seed", "variant")}


# arm -> its training runs for target acdc with the one source sunnybrook: run id -> (config, flags)
TEACHERS = {
    "teacher_acdc/alone/0": ("train", {}),
    "teacher_sunnybrook/for_acdc/0": ("adapt", {"target": "acdc"}),
}
JOINT_TEACHERS = '["R/teacher_acdc/alone/0", "R/teacher_sunnybrook/for_acdc/0"]'
JOINT = TEACHERS | {
    "joint_teacher_cardiac/for_acdc/0": ("train", {"target": "acdc", "teachers": JOINT_TEACHERS}),
}
WIDE = TEACHERS | {
    "joint_teacher_cardiac/wide_for_acdc/0": (
        "train",
        {"target": "acdc", "teachers": JOINT_TEACHERS, "wide": "True", "sources": '["sunnybrook"]'},
    ),
}
EQUAL = {
    "teacher_acdc/alone_equal_volume=2/0": ("train", {"equal_volume": "2"}),
    "teacher_sunnybrook/for_acdc_equal_volume=2/0": ("adapt", {"target": "acdc", "equal_volume": "2"}),
    "joint_teacher_cardiac/for_acdc_equal_volume=2/0": (
        "train",
        {
            "target": "acdc",
            "teachers": '["R/teacher_acdc/alone_equal_volume=2/0", "R/teacher_sunnybrook/for_acdc_equal_volume=2/0"]',
            "equal_volume": "2",
        },
    ),
}
EXPECTED = {
    "alone": {"student_acdc/alone/0": ("train", {})},
    "alone_double": {
        "student_acdc/alone_double/0": (
            "train",
            {
                "train::dataset::length": "$2 * @epoch_length * @batch_size",
                "train::dataloader::batch_size": "$2 * @batch_size",
            },
        )
    },
    "pooled": {"student_acdc/pooled/0": ("train", {"sources": '["sunnybrook"]'})},
    "multi_head": {"multi_head_cardiac/for_acdc/0": ("train", {"target": "acdc", "sources": '["sunnybrook"]'})},
    "source_only": {"student_sunnybrook/alone/0": ("train", {})},
    "teacher": {"teacher_acdc/alone/0": ("train", {})},
    "source_teacher": {"teacher_sunnybrook/for_acdc/0": ("adapt", {"target": "acdc"})},
    "joint": JOINT,
    "joint_wide": WIDE,
    "joint_target_only": {
        "teacher_acdc/alone/0": ("train", {}),
        "teacher_acdc/alone_init=1/0": ("train", {"init_seed": "101"}),
        "joint_teacher_cardiac/target_only_for_acdc/0": (
            "train",
            {"target": "acdc", "teachers": '["R/teacher_acdc/alone/0", "R/teacher_acdc/alone_init=1/0"]'},
        ),
    },
    "equal_volume": EQUAL,
    "distill": JOINT | {"student_acdc/distill/0": ("distill", {"teacher": "R/joint_teacher_cardiac/for_acdc/0"})},
    "distill_wide": WIDE
    | {
        "student_acdc/distill_wide/0": (
            "distill",
            {"teacher": "R/joint_teacher_cardiac/wide_for_acdc/0", "wide": "True", "sources": '["sunnybrook"]'},
        )
    },
    "distill_soft": WIDE
    | {
        "student_acdc/distill_soft/0": (
            "distill",
            {
                "teacher": "R/joint_teacher_cardiac/wide_for_acdc/0",
                "wide": "True",
                "sources": "[]",
                "gamma": "0",
                "delta": "0",
                "beta": "[0, 0]",
            },
        )
    },
    "distill_soft_target_only": {
        "teacher_acdc/alone/0": ("train", {}),
        "student_acdc/distill_soft_target_only/0": (
            "distill",
            {
                "teacher": "R/teacher_acdc/alone/0",
                "wide": "True",
                "sources": "[]",
                "gamma": "0",
                "delta": "0",
                "beta": "[0, 0]",
            },
        ),
    },
    "distill_target_only": {
        "teacher_acdc/alone/0": ("train", {}),
        "student_acdc/distill_target_only/0": ("distill", {"teacher": "R/teacher_acdc/alone/0"}),
    },
    "distill_equal_volume": EQUAL
    | {
        "student_acdc/distill_equal_volume=2/0": (
            "distill",
            {"teacher": "R/joint_teacher_cardiac/for_acdc_equal_volume=2/0", "equal_volume": "2"},
        )
    },
}


def test_every_arm_is_expected_here():
    assert set(EXPECTED) == set(ARMS)


@pytest.mark.parametrize("arm", ARMS)
def test_arm_trains_exactly_its_runs(arm):
    runs = trained(make(arms=[arm]))
    assert {run_id: (job.config.split("/")[-1][:-5], own_flags(job)) for run_id, job in runs.items()} == EXPECTED[arm]
    for run_id, job in runs.items():
        bundle, variant, _ = run_id.split("/")
        assert (job.bundle, job.variant, job.seed) == (bundle, variant, 0)
        assert job.config.startswith(f"bundles/{bundle}/configs/")
        assert job.outputs == (f"R/{run_id}/model.pt",)
        assert {k: job.overrides[k] for k in COMMON} == COMMON
        assert job.overrides["variant"] == variant


@pytest.mark.parametrize("arm", ARMS)
def test_inputs_are_the_teachers_that_a_run_names(arm):
    for job in trained(make(MRI, arms=[arm], targets=["isles"])).values():
        named = json.loads(job.overrides.get("teachers", "[]"))
        named += [job.overrides["teacher"]] if "teacher" in job.overrides else []
        assert job.inputs == tuple(f"{path}/model.pt" for path in named)


@pytest.mark.parametrize("arm", ARMS)
def test_every_run_is_evaluated_on_the_target(arm):
    planned = make(MRI, arms=[arm], targets=["isles"])
    evaluations = {job.run_id: job for job in planned.jobs if job.kind == "evaluate"}
    assert set(evaluations) == set(trained(planned))
    for run_id, job in evaluations.items():
        assert job.outputs == (f"R/{run_id}/test/isles/metrics.json",)
        assert job.inputs == (f"R/{run_id}/model.pt",)
        assert job.overrides == {"data_dir": "D", "run_dir": f"R/{run_id}", "dataset": "isles"}
        assert job.config == f"bundles/{job.bundle}/configs/evaluate.yaml"


@pytest.mark.parametrize("arm", ARMS)
def test_endpoints_are_the_arms_own_runs(arm):
    rows = make(MRI, arms=[arm], targets=["isles"]).endpoints
    many = {
        "source_only": ["student_brats/alone/0", "student_mets/alone/0"],
        "source_teacher": ["teacher_brats/for_isles/0", "teacher_mets/for_isles/0"],
    }
    one = {
        "multi_head": "multi_head_mri/for_isles/0",
        "teacher": "teacher_isles/alone/0",
        "joint": "joint_teacher_mri/for_isles/0",
        "joint_wide": "joint_teacher_mri/wide_for_isles/0",
        "joint_target_only": "joint_teacher_mri/target_only_for_isles/0",
        "equal_volume": "joint_teacher_mri/for_isles_equal_volume=3/0",
        "distill_equal_volume": "student_isles/distill_equal_volume=3/0",
    }
    assert [row.run_id for row in rows] == many.get(arm, [one.get(arm, f"student_isles/{arm}/0")])
    for row in rows:
        assert (row.arm, row.target, row.seed, row.target_cases, row.vary) == (arm, "isles", 0, None, {})
        assert row.metrics == f"R/{row.run_id}/test/isles/metrics.json"


def test_commands_are_the_stock_ones():
    jobs = {job.name: job.command for job in make(arms=["distill"]).jobs}
    assert jobs["train student_acdc/distill/0"] == (
        "python -m monai.bundle run training --config_file bundles/student_acdc/configs/distill.yaml --data_dir D"
        " --runs_dir R --seed 0 --variant distill --teacher R/joint_teacher_cardiac/for_acdc/0"
    )
    assert jobs["evaluate student_acdc/distill/0 on acdc"] == (
        "python -m monai.bundle run evaluating --config_file bundles/student_acdc/configs/evaluate.yaml --data_dir D"
        " --run_dir R/student_acdc/distill/0 --dataset acdc"
    )


def test_lists_are_literals_that_the_command_line_reads_as_lists():
    job = trained(make(MRI, arms=["pooled"], targets=["isles"]))["student_isles/pooled/0"]
    assert ast.literal_eval(job.argv[job.argv.index("--sources") + 1]) == ["brats", "mets"]


def test_arms_share_runs():
    arms = ["joint", "distill", "distill_target_only", "joint_target_only", "joint_wide", "distill_wide", "teacher"]
    planned = make(MRI, arms=arms, targets=["isles"])
    names = [job.name for job in planned.jobs]
    assert len(names) == len(set(names))
    assert sum(name == "train teacher_isles/alone/0" for name in names) == 1
    assert len(trained(planned)) == 1 + 2 + 2 + 3 + 3  # teacher, sources', other inits, joint ones, students


def test_multi_head_is_trained_for_each_target():
    both = make(arms=["multi_head"], targets=["acdc", "sunnybrook"], target_cases=["all", 5])
    assert {job.name for job in both.jobs} == {
        f"{verb} multi_head_cardiac/for_{target}{cases}/0{on}"
        for target in ("acdc", "sunnybrook")
        for cases in ("", "_cases=5")
        for verb, on in (("train", ""), ("evaluate", f" on {target}"))
    }
    few = trained(both)["multi_head_cardiac/for_acdc_cases=5/0"]
    assert own_flags(few) == {"target": "acdc", "sources": '["sunnybrook"]', "target_cases": "5"}


@pytest.mark.parametrize("arm", sorted(set(ARMS) - {"source_only"}))
def test_few_labels_reach_every_run_that_reads_them(arm):
    """No teacher sees more target labels than the student: all runs of the cell carry the same budget."""
    planned = make(MRI, arms=[arm], targets=["isles"], target_cases=[5])
    for job in trained(planned).values():
        assert job.overrides["target_cases"] == "5"
        assert job.variant.endswith("_cases=5")
        for teacher in json.loads(job.overrides.get("teachers", "[]")):
            assert "_cases=5/" in teacher
    assert all(row.target_cases == 5 for row in planned.endpoints)


def test_source_only_reads_no_target_label():
    planned = make(arms=["source_only"], target_cases=[5, "all"])
    assert list(trained(planned)) == ["student_sunnybrook/alone/0"]
    assert [row.target_cases for row in planned.endpoints] == [5, None]


# What a varied key touches for target isles: variants of the runs, and the runs whose command names the key.
def touched(key, value, arm):
    jobs = trained(make(MRI, arms=[arm], targets=["isles"], vary={key: [value]}))
    marked = {job.run_id for job in jobs.values() if f"_{key}={value}" in job.variant}
    told = {job.run_id for job in jobs.values() if key in job.overrides}
    return jobs, marked, told


def test_the_doubled_baseline_sees_twice_the_images_in_as_many_steps():
    """What its flags make of the bundle's own configuration."""
    (job,) = trained(make(arms=["alone_double"])).values()
    parser = ConfigParser()
    parser.read_config(job.config)
    before = [parser.get_parsed_content(key) for key in ("batch_size", "epoch_length")]
    parser.update({key: value for key, value in job.overrides.items() if "::" in key})
    loader = [parser.get_parsed_content(key) for key in ("train::dataloader::batch_size", "train::dataset::length")]
    assert loader == [2 * before[0], 2 * before[0] * before[1]]


def test_vary_r_touches_adapted_teachers_and_what_depends_on_them():
    jobs, marked, told = touched("r", "0", "distill")
    assert set(jobs) - marked == {"teacher_isles/alone/0"}
    assert told == {"teacher_brats/for_isles_r=0/0", "teacher_mets/for_isles_r=0/0"}
    assert jobs["teacher_mets/for_isles_r=0/0"].overrides["r"] == "0"
    assert jobs["student_isles/distill_r=0/0"].overrides["teacher"] == "R/joint_teacher_mri/for_isles_r=0/0"
    for arm in ("alone", "pooled", "multi_head", "source_only", "joint_target_only", "distill_target_only"):
        assert not touched("r", "0", arm)[1]


@pytest.mark.parametrize("arm", ["joint", "joint_wide", "source_teacher"])
def test_without_labels_a_teacher_of_other_classes_is_not_tested(arm):
    """isles and brats have one class alike, mets another; with r = 0 the teacher of mets has no head for isles."""
    classes = {"brats": ["lesion"], "isles": ["lesion"], "mets": ["metastasis"]}
    planned = make(MRI, arms=[arm], targets=["isles"], vary={"r": ["0", "1"]}, classes=classes)
    tested = {job.run_id for job in planned.jobs if job.kind == "evaluate"}
    assert set(trained(planned)) - tested == {"teacher_mets/for_isles_r=0/0"}
    if arm == "source_teacher":
        ids = [f"teacher_{source}/for_isles_r={r}/0" for r in (0, 1) for source in ("brats", "mets")]
        assert [row.run_id for row in planned.endpoints] == [run for run in ids if run != "teacher_mets/for_isles_r=0/0"]
    else:
        assert len(planned.endpoints) == 2


def test_vary_levels_touches_joint_teachers_and_their_students():
    value = "down_3+down_4"
    jobs, marked, told = touched("levels", value, "distill")
    assert marked == {f"joint_teacher_mri/for_isles_levels={value}/0", f"student_isles/distill_levels={value}/0"}
    assert told == {f"joint_teacher_mri/for_isles_levels={value}/0"}
    assert jobs[f"joint_teacher_mri/for_isles_levels={value}/0"].overrides["levels"] == '["down_3", "down_4"]'
    assert touched("levels", value, "joint_target_only")[2] == {f"joint_teacher_mri/target_only_for_isles_levels={value}/0"}


def test_vary_sources_chooses_the_teachers_and_the_pool():
    jobs, marked, _ = touched("sources", "mets", "distill")
    assert set(jobs) - marked == {"teacher_isles/alone/0", "teacher_mets/for_isles/0"}
    joint = jobs["joint_teacher_mri/for_isles_sources=mets/0"]
    assert json.loads(joint.overrides["teachers"]) == ["R/teacher_isles/alone/0", "R/teacher_mets/for_isles/0"]
    jobs, _, _ = touched("sources", "mets", "pooled")
    assert jobs["student_isles/pooled_sources=mets/0"].overrides["sources"] == '["mets"]'
    jobs, _, told = touched("sources", "mets", "distill_wide")
    assert told == {"joint_teacher_mri/wide_for_isles_sources=mets/0", "student_isles/distill_wide_sources=mets/0"}
    jobs, _, _ = touched("sources", "mets", "equal_volume")
    assert "joint_teacher_mri/for_isles_equal_volume=2_sources=mets/0" in jobs
    jobs, _, _ = touched("sources", "mets", "joint_target_only")
    assert len(json.loads(jobs["joint_teacher_mri/target_only_for_isles_sources=mets/0"].overrides["teachers"])) == 2


def test_order_within_sources_makes_no_difference():
    both = make(MRI, arms=["pooled"], targets=["isles"], vary={"sources": ["mets+brats", "brats+mets"]})
    assert list(trained(both)) == ["student_isles/pooled_sources=brats+mets/0"]


@pytest.mark.parametrize("arm", ARMS)
def test_vary_network_touches_every_run(arm):
    jobs, marked, _ = touched("network", "TransResUNet", arm)
    told = {job.run_id for job in jobs.values() if job.overrides.get("architecture") == "TransResUNet"}
    assert marked == set(jobs)
    assert told == {run for run in jobs if not run.startswith("joint_teacher")}  # which is what its teachers are


def test_teachers_and_student_may_differ_in_architecture():
    jobs, _, _ = touched("network", "TransResUNet-UNet", "distill")
    assert {run: job.overrides.get("architecture") for run, job in jobs.items()} == {
        "teacher_isles/alone_network=TransResUNet/0": "TransResUNet",
        "teacher_brats/for_isles_network=TransResUNet/0": "TransResUNet",
        "teacher_mets/for_isles_network=TransResUNet/0": "TransResUNet",
        "joint_teacher_mri/for_isles_network=TransResUNet/0": None,
        "student_isles/distill_network=TransResUNet-UNet/0": "UNet",
    }


@pytest.mark.parametrize("arm", ARMS)
def test_a_pair_of_networks_trains_only_its_student(arm):
    """All else is the teachers' network's or the student's own, and trained for that."""

    def runs(*networks: str) -> set[str]:
        return set(trained(make(MRI, arms=[arm], targets=["isles"], vary={"network": networks})))

    more = runs("UNet", "TransResUNet", "TransResUNet-UNet") - runs("UNet", "TransResUNet")
    distilled = {f"student_isles/{arm}_network=TransResUNet-UNet/0", f"student_isles/{arm}=3_network=TransResUNet-UNet/0"}
    assert (len(more) == 1 and more < distilled) if arm.startswith("distill") else not more
    planned = make(MRI, arms=[arm], targets=["isles"], vary={"network": ["TransResUNet-UNet"]})
    assert all(row.vary == {"network": "TransResUNet-UNet"} for row in planned.endpoints)


def test_varied_keys_combine_in_one_order():
    vary = {"network": ["UNet"], "r": ["0", "1"]}
    planned = make(arms=["distill"], vary=vary, target_cases=[5])
    ids = [row.run_id for row in planned.endpoints]
    assert ids == [f"student_acdc/distill_r={r}_network=UNet_cases=5/0" for r in (0, 1)]
    assert planned.endpoints[0].vary == {"r": "0", "network": "UNet"}
    assert "teacher_acdc/alone_network=UNet_cases=5/0" in trained(planned)


def test_settings_reach_trainings_only_and_not_the_variant():
    planned = make(arms=["distill"], settings={"max_epochs": "3", "train::trainer::amp": "True"})
    for job in planned.jobs:
        assert ("max_epochs" in job.overrides) == (job.kind == "train")
    student = trained(planned)["student_acdc/distill/0"]
    assert student.command.endswith("--max_epochs 3 --train::trainer::amp True")


def test_settings_do_not_change_what_makes_an_arm():
    planned = make(arms=["distill", "distill_soft", "alone_double"], settings={"gamma": "0.7", "batch_size": "2"})
    runs = trained(planned)
    assert runs["student_acdc/distill/0"].overrides["gamma"] == "0.7"
    assert runs["student_acdc/distill_soft/0"].overrides["gamma"] == "0"


@given(
    arms=st.lists(st.sampled_from(sorted(ARMS)), min_size=1, max_size=6),
    targets=st.lists(st.sampled_from(["brats", "isles", "mets"]), min_size=1, max_size=3),
    seeds=st.lists(st.integers(0, 4), min_size=1, max_size=3),
    cases=st.lists(st.sampled_from([5, 10, "all"]), min_size=1, max_size=3),
    vary=st.fixed_dictionaries({}, optional={"r": st.just(["0", "1"]), "levels": st.just(["down_4", "conv_0+down_1"])}),
)
@settings(max_examples=60, deadline=None)
def test_any_plan_is_ordered_unique_and_complete(arms, targets, seeds, cases, vary):
    planned = make(MRI, arms=arms, targets=targets, seeds=seeds, target_cases=cases, vary=vary)
    made: set[str] = set()
    for job in planned.jobs:
        assert made.issuperset(job.inputs), "a job comes before what it needs"
        assert made.isdisjoint(job.outputs), "two jobs write one file"
        made.update(job.outputs)
    assert made.issuperset(row.metrics for row in planned.endpoints)
    cells = len(set(targets)) * len(set(seeds)) * len(set(cases)) * (2 ** len(vary))
    rows = sum(2 if arm in ("source_only", "source_teacher") else 1 for arm in set(arms))
    assert len(planned.endpoints) == cells * rows
    assert planned == make(MRI, arms=arms, targets=targets, seeds=seeds, target_cases=cases, vary=vary)
    assert len({job.command for job in planned.jobs}) == len(planned.jobs)


def test_more_arms_only_add_jobs():
    less = make(arms=["alone", "joint"]).jobs
    more = make(arms=["alone", "joint", "distill", "pooled"]).jobs
    assert {job.command for job in less} < {job.command for job in more}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"arms": ["alone", "destill"]}, r"unknown arm 'destill'; choose from alone, alone_double, pooled, multi_head"),
        ({"arms": []}, "no arm given; choose from alone"),
        ({"targets": ["lits"]}, "unknown target 'lits'; choose from acdc, sunnybrook"),
        ({"targets": []}, "no target given"),
        ({"seeds": [-1]}, "bad seed -1; seeds are whole numbers from 0"),
        ({"seeds": ["x"]}, "bad seed 'x'"),
        ({"seeds": [True]}, "bad seed True"),
        ({"seeds": []}, "no seed given"),
        ({"target_cases": [1]}, "bad target_cases 1; write numbers from 2"),
        ({"target_cases": ["some"]}, "bad target_cases 'some'"),
        ({"target_cases": []}, "no target_cases given"),
        ({"vary": {"lr": ["1"]}}, "unknown key to vary 'lr'; choose from r, levels, sources, network"),
        ({"vary": {"r": ["2"]}}, "unknown value of r '2'; choose from 0, 1"),
        ({"vary": {"r": []}}, "vary r: give one or more different values, not none"),
        ({"vary": {"r": ["0", "0"]}}, "vary r: give one or more different values, not 0, 0"),
        ({"vary": {"network": ["VNet"]}}, "unknown value of network 'VNet'; choose from UNet, TransResUNet, TransResUNet-UNet"),
        ({"vary": {"levels": ["a,b"]}}, r"bad levels 'a,b'; join the names of the levels by \+"),
        ({"vary": {"sources": ["lits"]}}, "unknown source 'lits'; choose from acdc, sunnybrook"),
        ({"vary": {"sources": ["acdc"]}}, r"target 'acdc' equals a source \(vary sources=acdc\); .* sunnybrook"),
        ({"settings": {"seed": "1"}}, "--set must not set 'seed': the study sets it itself"),
        ({"settings": {"network": "UNet"}}, "--set must not set 'network': vary it instead"),
        ({"datasets": ["acdc"], "arms": ["joint"]}, "arm 'joint' needs a source, and 'cardiac' has one dataset"),
        (
            {"datasets": ["acdc"], "arms": ["multi_head"]},
            "'multi_head' needs a source.*choose from alone, alone_double, teacher",
        ),
    ],
)
def test_what_cannot_be_planned_is_named(change, message):
    asked = {**CARDIAC, "targets": ["acdc"], "seeds": [0], "arms": ["alone"], "data": "D", "runs": "R"}
    with pytest.raises(ValueError, match=message):
        plan(**{**asked, **change})


@pytest.mark.parametrize("arm", sorted(set(ARMS) - NEED_SOURCES))
def test_one_dataset_is_enough_for_arms_without_sources(arm):
    planned = plan(group="mine", datasets=["own"], targets=["own"], seeds=[0], arms=[arm], data="D", runs="R")
    assert planned.endpoints


CXR = {
    "group": "cxr",
    "datasets": ["covidx", "collection", "qu_ex"],
    "task": "classification",
    "classes": {"covidx": ("normal", "covid"), "collection": ("other", "covid"), "qu_ex": ("normal", "covid")},
}


def test_source_only_leaves_out_sources_of_other_classes():
    planned = make(CXR, arms=["source_only", "alone", "multi_head", "joint_wide"], targets=["covidx"])
    assert [row.run_id for row in planned.endpoints if row.arm == "source_only"] == ["student_qu_ex/alone/0"]
    assert "student_collection/alone/0" not in trained(planned)
    wide = trained(planned)["joint_teacher_cxr/wide_for_covidx/0"]  # which leaves labels out itself, and fuses both teachers
    assert json.loads(wide.overrides["sources"]) == ["collection", "qu_ex"]


@pytest.mark.parametrize("arm", ["pooled", "source_only"])
def test_one_head_of_the_same_classes_is_planned_as_without_them(arm):
    kept = make(CXR, arms=[arm], targets=["covidx"], vary={"sources": ["qu_ex"]})
    free = {key: value for key, value in CXR.items() if key != "classes"}
    assert kept == make(free, arms=[arm], targets=["covidx"], vary={"sources": ["qu_ex"]})


@pytest.mark.parametrize(
    ("arm", "target", "parts"),
    [
        (
            "pooled",
            "covidx",
            ["'covidx' (normal, covid)", "collection (other, covid) differ in classes: give --vary sources=qu_ex, leave"],
        ),
        (
            "pooled",
            "collection",
            ["'collection' (other, covid)", "covidx (normal, covid), qu_ex (normal, covid) differ in classes: leave the arm"],
        ),
        (
            "source_only",
            "collection",
            ["'collection' (other, covid)", "covidx (normal, covid), qu_ex (normal, covid) differ in"],
        ),
    ],
)
def test_one_head_of_other_classes_is_refused(arm, target, parts):
    with pytest.raises(ValueError, match=f"arm '{arm}' has one head") as refused:
        make(CXR, arms=["alone", arm], targets=[target])
    assert all(part in str(refused.value) for part in parts)


def test_the_order_of_the_classes_counts():
    group = CARDIAC | {"classes": {"acdc": ["lv", "rv"], "sunnybrook": ["rv", "lv"]}}
    with pytest.raises(ValueError, match="arm 'pooled' has one head"):
        make(group, arms=["pooled"])


PNEUMONIA = {"group": "pneumonia", "datasets": ["kermany", "nih"], "task": "classification"}


def test_blocks_that_teach_are_varied_for_students_only():
    planned = make(PNEUMONIA, arms=["alone", "joint", "distill"], targets=("nih",), vary={"pairing": ["late"], "k": ["1", "3"]})
    runs = trained(planned)
    assert {run for run in runs if run.startswith("student_nih/")} == {
        "student_nih/alone/0",
        "student_nih/distill_pairing=late_k=1/0",
        "student_nih/distill_pairing=late_k=3/0",
    }
    assert sum(run.startswith("joint_teacher_pneumonia/") for run in runs) == 1
    flags = own_flags(runs["student_nih/distill_pairing=late_k=3/0"])
    assert flags["pairing"] == "late" and flags["k"] == "3"


def test_soft_output_needs_no_blocks_and_classification_has_no_contrastive_term():
    planned = make(PNEUMONIA, arms=["distill_soft"], targets=("nih",), vary={"pairing": ["late"], "k": ["1", "3"]})
    flags = own_flags(trained(planned)["student_nih/distill_soft/0"])
    assert flags.pop("teacher") == "R/joint_teacher_pneumonia/wide_for_nih/0"
    assert flags == {"wide": "True", "sources": "[]", "gamma": "0", "delta": "0"}


@pytest.mark.parametrize(
    ("group", "vary", "message"),
    [
        (CARDIAC, {"k": ["1"]}, "unknown key to vary 'k'; choose from r, levels, sources, network"),
        (PNEUMONIA, {"levels": ["head"]}, "unknown key to vary 'levels'; choose from r, sources, network, pairing, k"),
        (PNEUMONIA, {"k": ["4"]}, "unknown value of k '4'; choose from 1, 2, 3"),
        (PNEUMONIA, {"pairing": ["middle"]}, "unknown value of pairing 'middle'; choose from early, late"),
        (PNEUMONIA, {"network": ["UNet"]}, "unknown value of network 'UNet'; choose from EfficientNet, MedViT"),
    ],
)
def test_what_can_be_varied_depends_on_the_task(group, vary, message):
    with pytest.raises(ValueError, match=message):
        make(group, arms=["distill"], targets=group["datasets"][:1], vary=vary)


FIGSHARE = {
    "group": "figshare",
    "datasets": ["figshare"],
    "task": "classification",
    "teachers": {"hybrid": ["VGG19", "ViT"], "dual_vgg": ["VGG19", "VGG19"], "dual_vit": ["ViT", "ViT"]},
}


def test_named_teachers_and_their_students_are_one_study():
    """Table 1 of cross-architecture distillation: three teachers, their students, and those of the geometric term."""
    arms = ["alone", "teacher", "distill_target_only"]
    planned = make(FIGSHARE, arms=arms, targets=["figshare"], vary={"geometric": ["0", "1"]})
    students = {}
    for name, weights in {"hybrid": "01", "dual_vgg": "01", "dual_vit": "0"}.items():  # a ViT has no map to compare
        for weight in weights:
            run = f"student_figshare/distill_target_only_teacher={name}_geometric={weight}/0"
            students[run] = {"teacher": f"R/teacher_figshare_{name}/alone/0", "geometric": weight}
    teachers = {f"teacher_figshare_{name}/alone/0": {} for name in FIGSHARE["teachers"]}
    runs = trained(planned)
    assert {run: own_flags(job) for run, job in runs.items()} == students | teachers | {"student_figshare/alone/0": {}}
    assert runs["teacher_figshare_dual_vit/alone/0"].config == "bundles/teacher_figshare_dual_vit/configs/train.yaml"
    assert [row.run_id for row in planned.endpoints if row.arm == "distill_target_only"] == list(students)


def test_a_named_teacher_is_chosen_and_a_teacher_without_maps_has_no_geometric_term():
    planned = make(FIGSHARE, arms=["distill_target_only"], targets=["figshare"], vary={"teacher": ["dual_vit", "hybrid"]})
    assert [row.run_id for row in planned.endpoints] == [
        "student_figshare/distill_target_only_teacher=dual_vit_geometric=0/0",
        "student_figshare/distill_target_only_teacher=hybrid/0",  # the weight of its configuration
    ]


@pytest.mark.parametrize(
    ("group", "vary", "message"),
    [
        (FIGSHARE, {"teacher": ["triple"]}, "unknown teacher 'triple'; choose from hybrid, dual_vgg, dual_vit"),
        (FIGSHARE, {"geometric": ["on"]}, "bad geometric 'on'; give weights of the geometric term, such as 0,1"),
        (FIGSHARE, {"r": ["0"]}, "unknown key to vary 'r'; choose from teacher, geometric"),
        (PNEUMONIA, {"geometric": ["1"]}, "unknown key to vary 'geometric'; choose from r, sources, network, pairing, k"),
        (CARDIAC, {"teacher": ["hybrid"]}, "unknown key to vary 'teacher'; choose from r, levels, sources, network"),
    ],
)
def test_named_teachers_have_keys_of_their_own(group, vary, message):
    with pytest.raises(ValueError, match=message):
        make(group, arms=["distill_target_only"], targets=group["datasets"][:1], vary=vary)


def test_all_arms_all_seeds_is_the_expected_amount():
    """The whole study on cardiac, counted by hand: per target and seed 19 runs."""
    planned = make(arms=list(ARMS), targets=["acdc", "sunnybrook"], seeds=range(5))
    runs = trained(planned)
    kinds = itertools.groupby(sorted(run.split("/")[0].rsplit("_", 1)[0] for run in runs))
    assert {kind: len(list(group)) for kind, group in kinds} == {
        # alone, alone_double, pooled, distill, _wide, _soft, _soft_target_only, _target_only, _equal_volume
        "student": 5 * 2 * 9,
        "teacher": 5 * 2 * 5,  # alone, init 1, equal volume; as a source: adapted, adapted at equal volume
        "joint_teacher": 5 * 2 * 4,
        "multi_head": 5 * 2,
    }
