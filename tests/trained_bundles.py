# SPDX-License-Identifier: Apache-2.0
"""Trains every bundle on phantoms, each once a session and with what it is taught by: one step of tiny networks."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path
from unittest import mock

import yaml
from monai.bundle import ConfigWorkflow

from common.data.facts import load_facts, load_group
from common.phantoms.layouts import write_dataset

ROOT = Path(__file__).parents[1]
GROUPS = sorted(path for path in (ROOT / "bundles").glob("*.yaml") if "datasets" in yaml.safe_load(path.read_text()))
DATASETS = {name: path for path in GROUPS for name in load_group(path)["datasets"]}
CONFIGS = sorted((ROOT / "bundles").glob("*/configs/*.yaml"))
BUNDLES = sorted({path.parents[1].name for path in CONFIGS})
STEPS = {"image_size": 32, "max_epochs": 1, "epoch_length": 1, "batch_size": 2, "seed": 0}
SMALL: dict[str, dict[str, object]] = {  # what makes a network small, a class
    "common.networks.UNet": {"features": [4, 4, 8, 8, 8, 4]},
    "common.networks.TransResUNet": {"width": 4},
    "common.networks.EfficientNet": {"variant": "test_efficientnet"},
    "common.networks.MedViT": {"variant": "tiny"},
    "common.networks.VGG19": {"variant": "vgg11", "mlp_ratio": 0.01},
    "common.networks.ViT": {"variant": "test_vit"},
}
CASES = {"segmentation": 8, "classification": 15}  # of each class five, so that every fold has it


def is_classification(group: Path) -> bool:
    return load_group(group)["task"] == "classification"


def write_phantoms(root: Path) -> Path:
    for dataset, group in DATASETS.items():
        cases = 20 if dataset == "oasis" else CASES[load_group(group)["task"]]
        write_dataset(dataset, root, cases=cases, size=32, slices=6, seed=1)
    return root


def tiny(file: str) -> dict[str, object]:
    """Overrides that make a training configuration small."""
    config = yaml.safe_load((ROOT / file).read_text())
    return STEPS | small(config) | ({"joint_ch": 16} if "joint_ch" in config else {})


def small(tree: object, place: str = "") -> dict[str, object]:
    """Overrides of the networks in a configuration, wherever they stand."""
    if not isinstance(tree, dict | list):
        return {}
    items = list(tree.items() if isinstance(tree, dict) else enumerate(tree))
    found = {f"{place}{key}": value for key, value in SMALL.get(dict(items).get("_target_"), {}).items()}
    for key, value in items:
        found |= small(value, f"{place}{key}::")
    return found


def arguments(run_id: str, config_file: str, **overrides: object) -> list[str]:
    """What follows `python -m monai.bundle`."""
    words = ["run", run_id, "--config_file", config_file]
    return words + [part for key, value in overrides.items() for part in (f"--{key}", str(value).replace(" ", ""))]


def execute(run_id: str, config_file: str, **overrides: object) -> None:
    """The command `python -m monai.bundle`, without the seconds in which a new process imports torch.

    Before the workflow runs it is asked whether it has the required properties.
    """
    stock = ConfigWorkflow.run

    def run(workflow: ConfigWorkflow) -> object:
        assert workflow.check_properties() == []
        return stock(workflow)

    kind = "train" if run_id == "training" else "infer"
    words = arguments(run_id, config_file, workflow_type=kind, logging_file=False, **overrides)
    with mock.patch.object(sys, "argv", ["monai.bundle", *words]), mock.patch.object(ConfigWorkflow, "run", run):
        runpy.run_module("monai.bundle", run_name="__main__")


class Trained:
    """Runs under `runs` of bundles trained on the phantoms under `data`; what is there is not trained again."""

    def __init__(self, data: Path, runs: Path) -> None:
        self.data, self.runs = data, runs

    def train(self, bundle: str, config: str, variant: str, **facts: object) -> Path:
        run_dir = self.runs / bundle / variant / "0"
        if not (run_dir / "model.pt").exists():
            places = {"data_dir": str(self.data), "runs_dir": str(self.runs), "variant": variant}
            file = f"bundles/{bundle}/configs/{config}.yaml"
            execute("training", file, **places, **tiny(file), **facts)
        assert (run_dir / "model.pt").exists()
        return run_dir

    def joint_facts(self, target: str, cases: int | None = None) -> dict[str, object]:
        """What a joint teacher for a target is told, with its teachers, all with `cases` labelled target patients, or all."""
        budget, suffix = ({}, "") if cases is None else ({"target_cases": cases}, f"_cases={cases}")
        sources = [name for name in load_group(DATASETS[target])["datasets"] if name != target]
        teachers = [self.train(f"teacher_{target}", "train", f"alone{suffix}", **budget)]
        teachers += [self.train(f"teacher_{s}", "adapt", f"for_{target}{suffix}", target=target, **budget) for s in sources]
        return {"target": target, "sources": sources, "teachers": [str(t) for t in teachers], "teacher_floor": 0} | budget

    def joint(self, target: str, *, cases: int | None = None, **facts: object) -> Path:
        """The joint teacher for a target, with its teachers."""
        variant = f"{'wide_' if facts.get('wide') else ''}for_{target}" + ("" if cases is None else f"_cases={cases}")
        bundle = f"joint_teacher_{DATASETS[target].stem}"
        return self.train(bundle, "train", variant, **self.joint_facts(target, cases) | facts)

    def teacher_of(self, dataset: str) -> Path:
        """What a student is taught by: a joint teacher with as many outputs, one a group where that is enough.

        In a group of one dataset it is the first of its teachers.
        """
        group = DATASETS[dataset]
        members = list(load_group(group)["datasets"])
        if len(members) == 1:
            return self.train(next(b for b in BUNDLES if b.startswith(f"teacher_{dataset}")), "train", "alone")
        outputs = {name: load_facts(group, name).out_channels for name in members}
        return self.joint(next(name for name in members if outputs[name] == outputs[dataset]))

    def last_stage(self, bundle: str) -> tuple[Path, str]:
        """A run of the bundle by its last stage, and the dataset it is tested on."""
        group = group_of(bundle)
        target, *sources = load_group(group)["datasets"]
        if bundle.startswith("joint_teacher_"):
            return self.joint(target), target
        if bundle.startswith("multi_head_"):
            return self.train(bundle, "train", f"for_{target}", target=target, sources=sources), target
        dataset = dataset_of(bundle)
        if bundle.startswith("teacher_"):
            if sources:  # a group of one dataset adapts none
                other = next(name for name in (target, *sources) if name != dataset)
                self.train(bundle, "adapt", f"for_{other}", target=other)
            return self.train(bundle, "train", "alone"), dataset
        self.train(bundle, "train", "alone")
        teacher = str(self.teacher_of(dataset))
        return self.train(bundle, "distill", "distill", teacher=teacher, teacher_floor=0), dataset


def dataset_of(bundle: str) -> str:
    """Of teacher_<dataset>, student_<dataset>, or teacher_<dataset>_<architecture> where a dataset has several."""
    name = bundle.split("_", 1)[1]
    return name if name in DATASETS else max((d for d in DATASETS if name.startswith(f"{d}_")), key=len)


def group_of(bundle: str) -> Path:
    if bundle.startswith(("joint_teacher_", "multi_head_")):
        return next(path for path in GROUPS if bundle.endswith(f"_{path.stem}"))
    return DATASETS[dataset_of(bundle)]
