# SPDX-License-Identifier: Apache-2.0
"""Writes a group's bundles: each configuration is a head of facts and a recipe that all its siblings share."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import yaml

from .data.facts import Facts, load_facts, load_group
from .handlers import save_atomic
from .networks import UNet

__all__ = ["PRESETS", "deployed", "join_recipe", "metadata", "split_recipe", "write_group"]

RECIPES = Path(__file__).with_name("recipes")
PACKAGES = ("pytorch-ignite", "nibabel", "itk", "tensorboard")
MARK = "# ---- recipe: common/recipes/{}.yaml, the same in all siblings; change it there, then run `make sync`\n"

PAPER: dict[str, Any] = {
    "image_size": 256,
    "training": {"batch_size": 8, "epoch_length": 250, "max_epochs": 300, "learning_rate": 0.0001},
    "scheduler": {"_target_": "torch.optim.lr_scheduler.ReduceLROnPlateau", "optimizer": "@optimizer", "mode": "max"}
    | {"factor": 0.1, "patience": 5},
    "teacher": {"features": [64, 128, 256, 512, 1024, 64], "width": 64},
    "student": {"features": [32, 64, 128, 256, 512, 32], "width": 32},
}
SMALL: dict[str, Any] = {
    "image_size": 96,
    "training": {"batch_size": 8, "epoch_length": 75, "max_epochs": 20, "learning_rate": 0.001},
    "scheduler": {"_target_": "torch.optim.lr_scheduler.PolynomialLR", "optimizer": "@optimizer"}
    | {"total_iters": "@max_epochs", "power": 0.9},
    "teacher": {"features": [16, 32, 64, 128, 128, 16], "width": 16},
    "student": {"features": [8, 16, 32, 64, 64, 8], "width": 8},
}
DEMO: dict[str, Any] = {
    "image_size": 48,
    "training": {"batch_size": 8, "epoch_length": 30, "max_epochs": 20, "learning_rate": 0.002},
    "scheduler": SMALL["scheduler"],
    "teacher": {"features": [8, 16, 32, 64, 64, 8], "width": 8},
    "student": {"features": [8, 8, 16, 32, 32, 8], "width": 4},
}
PRESETS = {"paper": PAPER, "small": SMALL, "demo": DEMO}  # published sizes, for a GPU; two CPU cores in hours; in minutes


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


class _Writer:
    """Writes the bundles of one group; `facts` are its datasets', in the group file's order."""

    def __init__(self, group_file: Path, preset: Mapping[str, Any], facts: Mapping[str, Facts]) -> None:
        self.group_file, self.preset, self.facts = group_file, preset, facts
        self.group = group_file.stem

    def head(self, what: str, bundle: str, config: str, run_id: str, facts: Mapping[str, Any]) -> str:
        place = f"{self.group_file.parent}/{bundle}"
        command = f"python -m monai.bundle run {run_id} --config_file {place}/configs/{config}.yaml"
        fixed = {"bundle": bundle, "bundle_root": place, "group_file": str(self.group_file)}
        return f"# {what}\n# {command}\n" + _dump(fixed | dict(facts))

    def networks(self, role: str, dataset: str) -> dict[str, Any]:
        """Both architectures' facts; `architecture` chooses."""
        channels = {"out_channels": self.facts[dataset].out_channels}
        sizes = self.preset[role]
        return {
            "unet": {"_target_": "common.networks.UNet", **channels, "features": sizes["features"]},
            "transresunet": {"_target_": "common.networks.TransResUNet", **channels, "width": sizes["width"]},
        }

    def training(self) -> dict[str, Any]:
        return {"image_size": self.preset["image_size"], **self.preset["training"], "scheduler": self.preset["scheduler"]}

    def config(self, bundle: str, name: str, recipe: str, what: str, run_id: str, facts: Mapping[str, Any]) -> None:
        text = join_recipe(self.head(what, bundle, name, run_id, facts), f"{recipe}_segmentation")
        save_atomic(text, self.group_file.parent / bundle / "configs" / f"{name}.yaml")

    def shared(self, bundle: str, dataset: str, run: str, network: Mapping[str, Any] | str, summary: str) -> None:
        """What every bundle has beside its training: evaluate, inference, metadata, logging, README."""
        facts = self.facts[dataset]
        size = self.preset["image_size"]
        self.config(
            bundle,
            "evaluate",
            "evaluate",
            f"{bundle}: whole-volume evaluation of a run on the test patients of its fold.",
            "evaluating",
            {"dataset": dataset, "image_size": size, "run_dir": run},
        )
        self.config(
            bundle,
            "inference",
            "inference",
            f"{bundle}: volumes in (NIfTI, or folders of a DICOM series), label volumes in the same geometry out.",
            "inferring",
            {"head": dataset, "run_dir": run, "input": "input/*.nii.gz", "network_def": network} | deployed(facts, size),
        )
        root = self.group_file.parent / bundle
        save_atomic(json.dumps(metadata(bundle, summary, facts, packages=PACKAGES), indent=4) + "\n", root / "configs" / "metadata.json")
        save_atomic(LOGGING, root / "configs" / "logging.conf")
        save_atomic(_readme(bundle, summary, root), root / "docs" / "README.md")

    def dataset_bundles(self, dataset: str) -> None:
        """teacher_<dataset> and student_<dataset>."""
        others = [name for name in self.facts if name != dataset]
        teacher, student = f"teacher_{dataset}", f"student_{dataset}"
        own = {"dataset": dataset, **self.training()}
        self.config(
            teacher, "train", "train", f"{teacher}: the target teacher, trained on {dataset} alone.", "training",
            own | self.networks("teacher", dataset),
        )  # fmt: skip
        self.config(
            teacher, "adapt", "adapt",
            f"{teacher}: a source teacher, trained on {dataset} and a target with an adversarial domain discriminator.",
            "training",
            {"dataset": dataset, "target": others[0], **self.training()} | self.networks("teacher", dataset),
        )  # fmt: skip
        summary = f"Teacher for {dataset} (group {self.group}): {', '.join(self.facts[dataset].classes)}."
        run = f"runs/{teacher}/alone/0"
        self.shared(teacher, dataset, run, "$from_run(@run_dir, head=@head)", summary)
        self.config(
            student, "train", "train", f"{student}: the student's network trained on {dataset} alone, the baseline.",
            "training", own | self.networks("student", dataset),
        )  # fmt: skip
        joint = f"runs/joint_teacher_{self.group}/for_{dataset}/0"
        self.config(
            student, "distill", "distill", f"{student}: the student distilled from a joint teacher.", "training",
            {"dataset": dataset, "sources": others, "teacher": joint, **self.training()} | self.networks("student", dataset),
        )  # fmt: skip
        stock = UNet(out_channels=self.facts[dataset].out_channels, features=self.preset["student"]["features"]).stock
        assert stock is not None
        summary = f"Student for {dataset} (group {self.group}): {', '.join(self.facts[dataset].classes)}."
        self.shared(student, dataset, f"runs/{student}/distill/0", stock, summary)

    def group_bundles(self) -> None:
        """joint_teacher_<group> and multi_head_<group>."""
        target, *sources = self.facts
        joint, multi = f"joint_teacher_{self.group}", f"multi_head_{self.group}"
        teachers = [f"runs/teacher_{target}/alone/0", *(f"runs/teacher_{s}/for_{target}/0" for s in sources)]
        members = {"target": target, "sources": sources}
        self.config(
            joint, "train", "joint", f"{joint}: frozen teachers fused level by level, a new head for the target.", "training",
            members | {"teachers": teachers, **self.training()},
        )  # fmt: skip
        self.config(
            multi, "train", "multi_head", f"{multi}: one encoder, a head a dataset, trained on all in turn.", "training",
            members | self.training() | self.networks("student", target),
        )  # fmt: skip
        names = ", ".join(self.facts)
        for bundle, what in ((joint, "Joint teacher"), (multi, "Multi-head baseline")):
            run = f"runs/{bundle}/for_{target}/0"
            self.shared(bundle, target, run, "$from_run(@run_dir, head=@head)", f"{what} of {names} (group {self.group}).")


def write_group(group_file: str | Path) -> list[Path]:
    """Write every bundle of a group beside its group file; returns the bundles' folders.

    Reads the group file's keys `datasets` and `preset` (a name of `PRESETS`).

    Raises:
        ValueError: fewer than two datasets, or an unknown preset.
    """
    path = Path(group_file)
    group = load_group(path)
    if len(group["datasets"]) < 2:
        raise ValueError(f"{path}: a group needs a target and at least one source; it has {', '.join(group['datasets'])}.")
    if group.get("preset") not in PRESETS:
        raise ValueError(f"{path}: preset {group.get('preset')!r} is unknown; choose {' or '.join(PRESETS)}.")
    writer = _Writer(path, PRESETS[group["preset"]], {name: load_facts(path, name) for name in group["datasets"]})
    for dataset in writer.facts:
        writer.dataset_bundles(dataset)
    writer.group_bundles()
    names = [f"{role}_{dataset}" for dataset in writer.facts for role in ("teacher", "student")]
    return [path.parent / n for n in [*names, f"joint_teacher_{path.stem}", f"multi_head_{path.stem}"]]


def deployed(facts: Facts, size: int) -> dict[str, Any]:
    """The preprocessing facts that an inference configuration states in stock transforms."""
    spatial = [size, size, size]
    spatial[facts.slice_axis] = -1
    if facts.window is not None:
        scale: dict[str, Any] = {"_target_": "monai.transforms.ScaleIntensityRanged", "keys": "image"}
        scale |= {"a_min": facts.window[0], "a_max": facts.window[1]}
    else:
        assert facts.percentiles is not None
        scale = {"_target_": "monai.transforms.ScaleIntensityRangePercentilesd", "keys": "image"}
        scale |= {"lower": facts.percentiles[0], "upper": facts.percentiles[1]}
    scale |= {"b_min": 0.0, "b_max": 1.0, "clip": True}
    return {"orientation": facts.orientation, "slice_axis": facts.slice_axis, "spatial_size": spatial, "intensity": scale}


def metadata(bundle: str, summary: str, facts: Facts, *, packages: Sequence[str]) -> dict[str, Any]:
    """metadata.json of a bundle; `packages` are those its configurations import beside monai, torch and numpy."""
    channels = {"0": "background"} | {str(i): name for i, name in enumerate(facts.classes, start=1)}
    tensor = {"type": "image", "modality": "n/a", "spatial_shape": ["16*n", "16*n"], "dtype": "float32", "is_patch_data": False}
    return {
        "schema": "https://github.com/Project-MONAI/MONAI-extra-test-data/releases/download/0.8.1/meta_schema_20240725.json",
        "version": "0.1.0",
        "changelog": {"0.1.0": "first version"},
        "monai_version": version("monai"),
        "pytorch_version": version("torch").split("+")[0],
        "numpy_version": version("numpy"),
        "required_packages_version": {p: version(p) for p in packages},
        "supported_apps": {},
        "name": bundle,
        "task": "segmentation",
        "description": summary,
        "authors": "Medistill",
        "copyright": "Medistill contributors, Apache-2.0",
        "data_source": facts.name,
        "data_type": "nifti",
        "image_classes": "one channel, intensities in [0, 1]",
        "label_classes": ", ".join(f"{i}: {name}" for i, name in channels.items()),
        "pred_classes": ", ".join(f"{i}: {name}" for i, name in channels.items()),
        "intended_use": "research; not for diagnosis",
        "network_data_format": {
            "inputs": {"image": tensor | {"format": "magnitude", "num_channels": 1, "value_range": [0, 1]}
                       | {"channel_def": {"0": "image"}}},
            "outputs": {"pred": tensor | {"format": "segmentation", "num_channels": facts.out_channels}
                        | {"value_range": [0, 1], "channel_def": channels}},
        },
    }  # fmt: skip


def _readme(bundle: str, summary: str, root: Path) -> str:
    lines = [
        f"# {bundle}",
        "",
        summary,
        "",
        "Run from the repository's root; every key at the top of a file can be overridden.",
        "",
    ]
    runs = [(path.stem, path.read_text().splitlines()[:2]) for path in sorted((root / "configs").glob("*.yaml"))]
    for stem, (what, command) in runs:
        lines += [
            f"- `{stem}.yaml`: {what.removeprefix('# ').split(': ', 1)[1]}",
            "",
            f"      {command.removeprefix('# ')}",
            "",
        ]
    return "\n".join(lines)


LOGGING = """[loggers]
keys=root

[handlers]
keys=consoleHandler

[formatters]
keys=fullFormatter

[logger_root]
level=INFO
handlers=consoleHandler

[handler_consoleHandler]
class=StreamHandler
level=INFO
formatter=fullFormatter
args=(sys.stdout,)

[formatter_fullFormatter]
format=%(asctime)s - %(name)s - %(levelname)s - %(message)s
"""
