# SPDX-License-Identifier: Apache-2.0
"""Writes a group's bundles: each configuration is a head of facts and a recipe that all its siblings share."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from .bundle_card import LOGGING, metadata, readme
from .bundle_tasks import Classification, Segmentation, deployed
from .data.facts import Facts, load_facts, load_group
from .handlers import save_atomic
from .presets import PRESETS
from .runs import ROOT

__all__ = ["RECIPES", "check_owner", "from_root", "join_recipe", "split_recipe", "write_group"]

RECIPES = Path(__file__).with_name("recipes")
PACKAGES = ("pytorch-ignite", "nibabel", "itk", "tensorboard")
MARK = "# ---- recipe: common/recipes/{}.yaml, the same in all siblings; change it there, then run `make sync`\n"
INPUTS = {2: "$@dataset_dir + '/*.[jp]*g'", 3: "$@dataset_dir + '/*.nii.gz'"}
VERBS = {
    "segmentation": "volumes in (NIfTI, or folders of a DICOM series), label volumes in the same geometry out.",
    "classification": "images or volumes in, a table of class probabilities out.",
}


def join_recipe(head: str, recipe: str) -> str:
    """A bundle's configuration: `head`, then the recipe's text behind a line that names it."""
    return head + MARK.format(recipe) + (RECIPES / f"{recipe}.yaml").read_text()


def split_recipe(text: str) -> tuple[str, str, str]:
    """(head, recipe's name, recipe's text) of a bundle's configuration.

    Raises:
        ValueError: the line that names the recipe is missing.
    """
    start, end = (part for part in MARK.split("{}", 1))
    head, found, rest = text.partition(start)
    name, closed, tail = rest.partition(end)
    if not found or not closed:
        raise ValueError(f"the line '{start.strip()} ...' that separates facts and recipe is missing.")
    return head, name, tail


def _dump(value: Mapping[str, Any]) -> str:
    """YAML with one top-level key a line, and what is inside it in flow style."""
    lines = []
    for key, item in value.items():
        flow = None if isinstance(item, (dict, list)) else False
        lines.append(yaml.safe_dump({key: item}, sort_keys=False, default_flow_style=flow, width=120))
    return "".join(lines)


def _by_target(facts: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The facts of a bundle of several targets, given those of each: what differs is looked up in a table `by_target`."""
    table: dict[str, dict[str, Any]] = {target: {} for target in facts}

    def merged(key: str, values: Sequence[Any]) -> Any:
        if all(value == values[0] for value in values):
            return values[0]
        if isinstance(values[0], dict):
            return {inner: merged(inner, [value[inner] for value in values]) for inner in values[0]}
        for row, value in zip(table.values(), values, strict=True):
            row[key] = value
        return f'$@by_target[@target]["{key}"]'

    shared = merged("", list(facts.values()))
    return ({"by_target": table} if any(table.values()) else {}) | shared


class _Writer:
    """Writes the bundles of one group; `facts` are its datasets', in the group file's order."""

    def __init__(self, group_file: Path, task: Segmentation | Classification, facts: Mapping[str, Facts]) -> None:
        self.group_file, self.task, self.facts = group_file, task, facts
        self.group = group_file.stem

    def head(self, what: str, bundle: str, config: str, run_id: str, facts: Mapping[str, Any]) -> str:
        place = f"{self.group_file.parent}/{bundle}"
        command = f"python -m monai.bundle run {run_id} --config_file {place}/configs/{config}.yaml"
        fixed = {"bundle": bundle, "bundle_root": place, "group_file": str(self.group_file)}
        return f"# {what}\n# {command}\n" + _dump(fixed | dict(facts))

    def config(self, bundle: str, name: str, recipe: str, what: str, run_id: str, facts: Mapping[str, Any]) -> None:
        task = next(iter(self.facts.values())).task
        text = join_recipe(self.head(what, bundle, name, run_id, facts), f"{recipe}_{task}")
        save_atomic(text, self.group_file.parent / bundle / "configs" / f"{name}.yaml")

    def train(self, bundle: str, name: str, recipe: str, what: str, facts: Mapping[str, Any]) -> None:
        self.config(bundle, name, recipe, f"{bundle}: {what}", "training", facts)

    def shared(self, bundle: str, dataset: str, run: str, network: Mapping[str, Any] | None, summary: str) -> None:
        """What every bundle has beside its training: evaluate, inference, metadata, logging, README."""
        facts = self.facts[dataset]
        evaluate = {"dataset": dataset, "run_dir": run}
        kind = "evaluation" if facts.classification else "whole-volume evaluation"
        what = f"{kind} of a run on the test patients of its fold."
        self.config(bundle, "evaluate", "evaluate", f"{bundle}: {what}", "evaluating", evaluate)
        source = INPUTS[facts.dims if facts.classification else 3]
        places: dict[str, Any] = {"head": dataset, "run_dir": run, "input": source}
        places |= {"network_def": network or "$from_run(@run_dir, head=@head)"}
        what = f"{bundle}: {VERBS[facts.task]}"
        self.config(bundle, "inference", "inference", what, "inferring", places | deployed(facts, "@image_size"))
        root = self.group_file.parent / bundle
        card = metadata(bundle, summary, facts, packages=PACKAGES)
        save_atomic(json.dumps(card, indent=4) + "\n", root / "configs" / "metadata.json")
        save_atomic(LOGGING, root / "configs" / "logging.conf")
        save_atomic(readme(bundle, summary, root), root / "docs" / "README.md")

    def others(self, dataset: str) -> list[str]:
        return [name for name in self.facts if name != dataset]

    def weights(self, dataset: str) -> dict[str, Any]:
        """Whether a baseline's loss weights the classes: as the distilled student's does."""
        terms = self.task.distillation(dataset)
        return {"class_weights": terms["class_weights"]} if self.facts[dataset].classification else {}

    def summary(self, role: str, dataset: str) -> str:
        return f"{role} for {dataset} (group {self.group}): {', '.join(self.facts[dataset].classes)}."

    def teacher_bundle(self, teacher: str, dataset: str, networks: Mapping[str, Any]) -> None:
        """teacher_<dataset>; one of a group of one dataset has no target to adapt to."""
        training = self.task.training("teacher", dataset)
        weights = {"class_weights": False} if self.facts[dataset].classification else {}
        what = f"the target teacher, trained on {dataset} alone."
        self.train(teacher, "train", "train", what, {"dataset": dataset, **training, **weights, **networks})
        if others := self.others(dataset):
            what = f"a source teacher, trained on {dataset} and a target with an adversarial domain discriminator."
            ends = {"dataset": dataset, "target": others[0]}
            self.train(teacher, "adapt", "adapt", what, {**ends, **training, **networks})
        self.shared(teacher, dataset, f"runs/{teacher}/alone/0", None, self.summary("Teacher", dataset))

    def student_bundle(self, dataset: str, teacher: str, kind: str) -> None:
        """student_<dataset>; `teacher` is the run of a `kind` teacher that it is distilled from unless told otherwise."""
        student, facts = f"student_{dataset}", self.facts[dataset]
        networks, training = self.task.networks("student", facts), self.task.training("student", dataset)
        terms = self.task.distillation(dataset)
        baseline = self.task.training("baseline", dataset) | self.weights(dataset)
        what = f"the student's network trained on {dataset} alone, the baseline."
        self.train(student, "train", "train", what, {"dataset": dataset} | baseline | networks)
        ends = {"dataset": dataset, "sources": self.others(dataset), "teacher": teacher}
        what = f"the student distilled from a {kind} teacher."
        self.train(student, "distill", "distill", what, ends | training | terms | networks)
        stock = self.task.stock(facts)
        self.shared(student, dataset, f"runs/{student}/distill/0", stock, self.summary("Student", dataset))

    def dataset_bundles(self, dataset: str) -> None:
        """teacher_<dataset> and student_<dataset> of a dataset among others."""
        self.teacher_bundle(f"teacher_{dataset}", dataset, self.task.networks("teacher", self.facts[dataset]))
        self.student_bundle(dataset, f"runs/joint_teacher_{self.group}/for_{dataset}/0", "joint")

    def lone_bundles(self, dataset: str, teachers: Mapping[str, Sequence[str]]) -> None:
        """teacher_<dataset>_<name> for every named teacher, and student_<dataset>, of the group's only dataset."""
        assert isinstance(self.task, Classification)
        for name, branches in teachers.items():
            network = self.task.hybrid(name, branches, self.facts[dataset])
            self.teacher_bundle(f"teacher_{dataset}_{name}", dataset, network)
        self.student_bundle(dataset, f"runs/teacher_{dataset}_{next(iter(teachers))}/alone/0", "target")

    def group_bundles(self) -> None:
        """joint_teacher_<group> and multi_head_<group>."""
        target, *sources = self.facts
        joint, multi = f"joint_teacher_{self.group}", f"multi_head_{self.group}"
        teachers = [f"runs/teacher_{target}/alone/0", *(f"runs/teacher_{s}/for_{target}/0" for s in sources)]
        members = {"target": target, "sources": sources}
        what = "frozen teachers fused, a new head for the target."
        if not self.facts[target].classification:
            what = "frozen teachers fused level by level, a new head for the target."
        own = {d: self.task.training("joint", d) | self.task.joint(d) for d in self.facts}
        self.train(joint, "train", "joint", what, members | {"teachers": teachers} | _by_target(own))
        what = "one encoder, a head a dataset, trained on all in every step."
        own = {d: self.task.training("baseline", d) | self.weights(d) for d in self.facts}
        own = {d: settings | self.task.networks("student", self.facts[d]) for d, settings in own.items()}
        self.train(multi, "train", "multi_head", what, members | _by_target(own))
        names = ", ".join(self.facts)
        for bundle, title in ((joint, "Joint teacher"), (multi, "Multi-head baseline")):
            summary = f"{title} of {names} (group {self.group})."
            self.shared(bundle, target, f"runs/{bundle}/for_{target}/0", None, summary)


def check_owner(group_file: str | Path, datasets: Iterable[str]) -> None:
    """Refuse datasets whose bundles beside `group_file` are another group's: a bundle is named after its dataset alone.

    Raises:
        ValueError: there is such a bundle; names it and its group file.
    """
    path = Path(group_file)
    for dataset, role in itertools.product(datasets, ("teacher", "student")):
        for config in sorted(path.parent.glob(f"{role}_{dataset}/configs/*.yaml")):
            owner = Path(yaml.safe_load(config.read_text())["group_file"])
            if owner.name != path.name:
                raise ValueError(
                    f"dataset {dataset}: {config.parents[1]} is a bundle of {owner}, which {path} would overwrite; give the"
                    f" dataset another name, such as {path.stem}_{dataset}."
                )


def from_root(group_file: str | Path) -> Path:
    """A group file's name as its bundles carry it: relative to `ROOT` where it lies there, or else absolute."""
    path = Path(group_file).resolve()
    return path.relative_to(ROOT) if path.is_relative_to(ROOT) else path


def write_group(group_file: str | Path) -> list[Path]:
    """Write every bundle of a group beside its group file; returns the bundles' folders.

    Reads the group file's keys `task`, `datasets`, `preset` (a name of `PRESETS`) and, for classification, `settings`. A
    classification group of one dataset names `teachers`, each the networks that it puts side by side:
    `{hybrid: [VGG19, ViT]}`.

    Raises:
        ValueError: fewer than two datasets and no teachers, an unknown preset or setting, see `check_owner`.
    """
    path = Path(group_file)
    group = load_group(path)
    check_owner(path, group["datasets"])
    teachers = group.get("teachers") or {}
    if teachers and (len(group["datasets"]) > 1 or group["task"] != "classification"):
        raise ValueError(f"{path}: `teachers` are for a classification group of one dataset; leave them out.")
    if len(group["datasets"]) < 2 and not teachers:
        raise ValueError(f"{path}: a group needs a target and at least one source; it has {', '.join(group['datasets'])}.")
    if group.get("preset") not in PRESETS:
        raise ValueError(f"{path}: preset {group.get('preset')!r} is unknown; choose {' or '.join(PRESETS)}.")
    preset = PRESETS[group["preset"]][group["task"]]
    segmentation = group["task"] == "segmentation"
    task = Segmentation(preset) if segmentation else Classification(preset, group.get("settings") or {})
    writer = _Writer(path, task, {name: load_facts(path, name) for name in group["datasets"]})
    if teachers:
        dataset = next(iter(writer.facts))
        writer.lone_bundles(dataset, teachers)
        return [path.parent / n for n in [*(f"teacher_{dataset}_{name}" for name in teachers), f"student_{dataset}"]]
    for dataset in writer.facts:
        writer.dataset_bundles(dataset)
    writer.group_bundles()
    names = [f"{role}_{dataset}" for dataset in writer.facts for role in ("teacher", "student")]
    return [path.parent / n for n in [*names, f"joint_teacher_{path.stem}", f"multi_head_{path.stem}"]]
