# SPDX-License-Identifier: Apache-2.0
"""The training recipes of a task differ in what their stages differ in, and in nothing else."""

from pathlib import Path
from typing import Any

import yaml

RECIPES = Path(__file__).parents[2] / "common" / "recipes"
STAGES = ("train", "adapt", "joint", "distill", "multi_head")
# what a stage is: its data, modules, loss, and where it begins to count
OWN = {"imports", "variant", "dataset_dir", "data", "select_from", "network_def", "module", "module_def", "loss"}
OWN_TRAINER = {"loss_function", "prepare_batch"}


def load(stage: str) -> dict[str, Any]:
    return yaml.safe_load((RECIPES / f"{stage}_segmentation.yaml").read_text())


def flat(tree: Any, place: str = "") -> dict[str, Any]:
    """Leaves by their path; lists count as leaves."""
    if not isinstance(tree, dict):
        return {place: tree}
    return {k: v for key, value in tree.items() for k, v in flat(value, f"{place}{key}::").items()}


def test_what_stages_share_is_equal() -> None:
    recipes = {stage: load(stage) for stage in STAGES}
    reference = recipes["train"]
    for stage, recipe in recipes.items():
        for key in set(reference) & set(recipe) - OWN - {"train", "validate"}:
            assert recipe[key] == reference[key], (stage, key)
        ours, theirs = recipe["train"]["trainer"], reference["train"]["trainer"]
        for key in set(ours) | set(theirs) - OWN_TRAINER:
            if key not in OWN_TRAINER:
                assert ours.get(key) == theirs.get(key), (stage, key)
        for part in ("sampler", "dataloader", "inferer"):
            assert recipe["train"][part] == reference["train"][part], (stage, part)


def test_every_stage_has_the_handlers_of_the_baseline_in_their_order() -> None:
    names = [handler["_target_"] for handler in load("train")["train"]["handlers"]]
    for stage in STAGES:
        own = load(stage)["train"]["handlers"]
        assert [h["_target_"] for h in own if h["_target_"] in names] == names, stage
        for handler in own:
            for other in load("train")["train"]["handlers"]:
                if handler["_target_"] == other["_target_"]:
                    assert handler == other, (stage, handler["_target_"])


def test_validation_differs_in_the_dataset_it_reads_only() -> None:
    reference = flat(load("train")["validate"])
    for stage in STAGES:
        found = flat(load(stage)["validate"])
        assert set(found) == set(reference), stage
        for key in set(reference) - {"dataset::entry::", "key_metric::val_dice::classes::"}:
            assert found[key] == reference[key], (stage, key)
