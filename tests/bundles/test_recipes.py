# SPDX-License-Identifier: Apache-2.0
"""Recipes are copies held equal: those of a task differ in what stages differ in, those of both tasks in what tasks do."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from monai.bundle import ConfigParser

RECIPES = Path(__file__).parents[2] / "common" / "recipes"
STAGES = ("train", "adapt", "joint", "distill", "multi_head")
TASKS = ("segmentation", "classification")
# what a stage is: its data, modules, loss, and where it begins to count
OWN = {"imports", "variant", "dataset_dir", "data", "select_from", "network_def", "module", "module_def", "loss"}
OWN_TRAINER = {"loss_function", "prepare_batch"}
# Classification's task loss is weighted by class for students (eq. 14) and not for teachers (eq. 7): a stage's own.
OWN_OF = {"segmentation": OWN, "classification": OWN | {"task_loss"}}
METRICS = {"segmentation": "val_dice", "classification": "val_balanced_accuracy"}


def load(stage: str, task: str) -> dict[str, Any]:
    return yaml.safe_load((RECIPES / f"{stage}_{task}.yaml").read_text())


def flat(tree: Any, place: str = "") -> dict[str, Any]:
    """Leaves by their path; lists of mappings are taken apart by number, other lists count as leaves."""
    if isinstance(tree, list) and tree and isinstance(tree[0], dict):
        tree = {str(number): item for number, item in enumerate(tree)}
    if not isinstance(tree, dict):
        return {place: tree}
    return {k: v for key, value in tree.items() for k, v in flat(value, f"{place}{key}::").items()}


@pytest.mark.parametrize("task", TASKS)
def test_what_stages_share_is_equal(task: str) -> None:
    recipes = {stage: load(stage, task) for stage in STAGES}
    reference = recipes["train"]
    for stage, recipe in recipes.items():
        for key in set(reference) & set(recipe) - OWN_OF[task] - {"train", "validate"}:
            assert recipe[key] == reference[key], (stage, key)
        ours, theirs = recipe["train"]["trainer"], reference["train"]["trainer"]
        for key in (set(ours) | set(theirs)) - OWN_TRAINER:
            assert ours.get(key) == theirs.get(key), (stage, key)
        for part in ("sampler", "dataloader", "inferer"):
            assert recipe["train"][part] == reference["train"][part], (stage, part)


@pytest.mark.parametrize("task", TASKS)
def test_every_stage_has_the_handlers_of_the_baseline_in_their_order(task: str) -> None:
    baseline = load("train", task)["train"]["handlers"]
    names = [handler["_target_"] for handler in baseline]
    for stage in STAGES:
        own = load(stage, task)["train"]["handlers"]
        assert [handler for handler in own if handler["_target_"] in names] == baseline, stage


@pytest.mark.parametrize("task", TASKS)
def test_validation_differs_in_the_dataset_it_reads_only(task: str) -> None:
    reference = flat(load("train", task)["validate"])
    for stage in STAGES:
        found = flat(load(stage, task)["validate"])
        assert set(found) == set(reference), stage
        for key in set(reference) - {"dataset::entry::", f"key_metric::{METRICS[task]}::classes::"}:
            assert found[key] == reference[key], (stage, key)


# In every training recipe the tasks differ in the optimiser and the task loss of the papers, in how architectures are chosen,
# in foreground, which labels of images have none of, in augmentation and in the metric ...
TASK_KEYS = {
    "imports", "lambda_ce", "foreground_share", "architecture", "optimizer::_target_", "optimizer::weight_decay",
    "train::dataset::foreground_share", "train::dataset::augment",
}  # fmt: skip
NETWORK = "network_def"
# ... and in one stage, in what that stage is for the task: which networks fuse, and which levels and outputs are compared.
STAGE_KEYS = {
    "train": {NETWORK},
    "adapt": {"base_def"},
    "joint": {"levels", *(f"{NETWORK}::{k}" for k in ("_target_", "levels", "warm_start", "joint_ch", "fa_blocks"))}
    | {f"{NETWORK}::dropout", f"{NETWORK}::attention_dropout"},
    "distill": {NETWORK, "levels", "student_adapter", "pairing", "k", "ceiling", "beta", "gamma", "delta", "soft_output"}
    | {f"module_def::{key}" for key in ("levels", "student_adapter", "pairing", "k", "adapters", "teacher_output")}
    | {"loss::terms::contrastive::_target_", "loss::weights::contrastive"}
    # what cross-architecture distillation sets otherwise than multi-dataset distillation is a fact of the bundle
    | {"alpha", "warmup", "ramp", "loss::terms::soft_output::temperature"}
    | {"train::handlers::0::beta", "loss::terms::geometric::_target_", "loss::weights::geometric"},
    "multi_head": {f"{NETWORK}::network"},
}
FLOOR = "maps"  # of TeacherFloor: a teacher's output is one vector of logits, not a map


@pytest.mark.parametrize("stage", STAGES)
def test_the_tasks_differ_in_what_tasks_differ_in(stage: str) -> None:
    ours, theirs = (flat(load(stage, task)) for task in TASKS)
    differ = {key.removesuffix("::") for key in set(ours) | set(theirs) if ours.get(key) != theirs.get(key)}
    metric = {key for key in differ if key.startswith("validate::key_metric::")}
    loss = {key for key in differ if key.startswith("task_loss")}
    floor = {key for key in differ if key.startswith("train::handlers::") and key.endswith(f"::{FLOOR}")}
    assert metric and loss
    assert bool(floor) == (stage in ("joint", "distill"))
    assert differ - metric - loss - floor <= TASK_KEYS | STAGE_KEYS[stage]


@pytest.mark.parametrize(("beta", "last"), [([0.1, 0.5], 0.5), ([0.2, 0.9], 0.9), ([0, 0], 0)])
def test_the_key_beta_is_the_weight_of_the_contrastive_term(beta: list[float], last: float) -> None:
    """Of the recipe's own loss and curriculum, at the end of the ramp."""
    recipe = load("distill", "segmentation")
    assert recipe["beta"] == [0.1, 0.5]  # as printed
    curriculum = ConfigParser(recipe | {"beta": beta}).get_parsed_content("train::handlers::0")
    curriculum(SimpleNamespace(state=SimpleNamespace(epoch=16)))
    assert curriculum.loss.weights["contrastive"] == pytest.approx(last)


def test_the_imports_of_a_task_are_those_of_the_other_and_its_losses() -> None:
    for stage in STAGES:
        ours, theirs = (load(stage, task)["imports"] for task in TASKS)
        own = [line for line in theirs if "ClassWeighted" in line or "class_counts" in line]
        assert [line for line in theirs if line not in own] == ours, stage
        assert bool(own) == (stage in ("train", "distill", "multi_head")), stage
