# SPDX-License-Identifier: Apache-2.0
"""Runs: a trained bundle on disk. What starts one, and what reads one back."""

from __future__ import annotations

import difflib
import inspect
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from monai.bundle import ConfigParser
from torch import nn

from .data.draws import StoredSlices
from .data.facts import Item, load_facts
from .data.fold import FoldData, list_items
from .data.folds import make_split
from .data.store import SliceStore
from .handlers import save_atomic
from .networks import FeatureNet, JointTeacher

__all__ = ["from_run", "from_runs", "joint_from_runs", "live_config", "start_run", "test_items", "test_slices", "validation_score"]

# Keys that may change between the start and the resume of a run without changing its result.
# (max_epochs is not among them: learning-rate and adversarial schedules end with it, so a run cannot be made longer exactly.)
FREE = ("data_dir", "store_dir", "runs_dir", "device", "quiet", "teacher_floor")


def from_run(run_dir: str | Path, *, head: str | None = None) -> FeatureNet:
    """The trained network of a run, in eval mode on the CPU.

    Args:
        run_dir: `runs/<bundle>/<variant>/<seed>`.
        head: for a network with several heads, the dataset whose head `forward` uses.

    Raises:
        FileNotFoundError, ValueError: the run is missing, unfinished, damaged or of another architecture; names the file.
    """
    run = Path(run_dir)
    spec_file, model = run / "network.json", run / "model.pt"
    if not run.is_dir():
        raise FileNotFoundError(f"run {run} does not exist; train it first, or check the path.")
    for file in (spec_file, model):
        if not file.is_file():
            raise FileNotFoundError(f"run {run} has no {file.name}: its training is not complete; start it again to resume it.")
    try:
        spec = json.loads(spec_file.read_text())
        if head is not None and "target" in spec:
            spec["target"] = head
        network = ConfigParser({"network": spec}).get_parsed_content("network")
        weights = torch.load(model, map_location="cpu", weights_only=True)
    except Exception as error:  # torch, JSON and MONAI each raise types of their own for a damaged file
        raise ValueError(f"run {run} cannot be read ({type(error).__name__}: {error}); train it again.") from error
    try:
        network.load_state_dict(weights, strict=True)
    except RuntimeError as error:
        detail = str(error).splitlines()[1].strip() if "\n" in str(error) else str(error)
        raise ValueError(f"{model} is not of the architecture in {spec_file}: {detail} Train the run again.") from error
    return network.eval()


def from_runs(run_dirs: Sequence[str], *, head: str | None = None) -> list[FeatureNet]:
    """`from_run` of each, in order."""
    if not run_dirs:
        raise ValueError("no teacher runs are given; set `teachers`, e.g. --teachers \"['runs/teacher_lits/alone/0']\".")
    return [from_run(run, head=head) for run in run_dirs]


def joint_from_runs(
    teachers: Sequence[str], *, out_channels: int, levels: Sequence[str] | None = None, warm_start: bool = False
) -> JointTeacher:
    """The joint teacher of trained runs, the target teacher's first.

    Args:
        warm_start: the best teacher (by validation on the target) comes first and its decoder is the head's start. The fusion
            begins as the identity on its maps, so training starts from that teacher instead of from nothing.
    """
    runs = sorted(teachers, key=validation_score, reverse=True) if warm_start else list(teachers)
    networks = from_runs(runs)
    weights = networks[0].state_dict()
    joint = JointTeacher(networks, out_channels, levels=levels)
    if warm_start:
        joint.decoder.load_state_dict({key: weights[key] for key in joint.decoder.state_dict()}, strict=True)
    return joint


def test_items(run_dir: str | Path, *, dataset: str, group_file: str, data_dir: str, seed: int) -> list[Item]:
    """The items of `dataset`'s test patients of fold `seed`, none of which the run has seen.

    Raises:
        ValueError: a test patient was in the run's training or validation part; names it.
    """
    facts = load_facts(group_file, dataset)
    items = [item for item in list_items(facts, data_dir) if item["label"] is not None]
    test = set(make_split((item["case"] for item in items), fold=seed).test)
    splits = json.loads((Path(run_dir) / "folds.json").read_text())["datasets"]
    seen = {case for split in splits.values() for part in ("train", "val") for case in split[part]}
    if test & seen:
        raise ValueError(f"run {run_dir} trained on test patient {min(test & seen)} of fold {seed}; evaluate it on its own seed.")
    return [item for item in items if item["case"] in test]


def validation_score(run_dir: str | Path) -> float:
    """Best validation metric of a finished run."""
    return float(json.loads((Path(run_dir) / "history.json").read_text())["best_value"])


def start_run(run_dir: str, *, network: nn.Module, data: FoldData) -> None:
    """Record what a run is before it trains: network.json, folds.json, config.json.

    Raises:
        ValueError: a top-level key of the configuration that the bundle does not know (a misspelt override), or a run that was
            begun with another configuration or other folds; names the key.
    """
    run = Path(run_dir)
    config = live_config()
    splits = {name: entry.split._asdict() for name, entry in data.items()}
    target = next(iter(splits.values()))
    spec = json.loads(json.dumps(network.spec))
    for file, value in (("config.json", config), ("folds.json", target | {"datasets": splits}), ("network.json", spec)):
        path = run / file
        value = json.loads(json.dumps(value, default=str))
        if path.exists():
            _same(json.loads(path.read_text()), value, path)
        elif not torch.distributed.is_initialized() or torch.distributed.get_rank() == 0:
            save_atomic(value, path)


def _same(old: Mapping[str, Any], new: Mapping[str, Any], path: Path) -> None:
    for key in sorted((set(old) | set(new)) - set(FREE)):
        if old.get(key) != new.get(key):
            raise ValueError(
                f"{path.parent} was begun with another {key} ({path.name}: {str(old.get(key))[:80]}, now {str(new.get(key))[:80]});"
                " give the new run another variant, or remove that folder."
            )


def live_config() -> dict[str, Any]:
    """The configuration being run, overrides included, after a check of its top-level keys.

    MONAI hands expressions the parsed values only and takes any override silently, so the parser is found among the callers. Known
    are the keys of the bundle's own files, of the overlays and of all recipes (one study's settings go to every stage).
    """
    parsers = [f.frame.f_locals.get("self") for f in inspect.stack(context=0)]
    parser = next((p for p in reversed(parsers) if isinstance(p, ConfigParser)), None)
    if parser is None:
        raise RuntimeError("live_config is called by a bundle's `initialize`, under monai.bundle.run.")
    config = {key: value for key, value in parser.get().items() if key != "_meta_"}
    recipes = Path(__file__).with_name("recipes").glob("*.yaml")
    files = [*(Path(config["bundle_root"]) / "configs").glob("*.yaml"), *Path("bundles").glob("multi_gpu*.yaml"), *recipes]
    known = {key for file in files for key in yaml.safe_load(file.read_text())}
    for key in sorted(set(config) - known):
        close = difflib.get_close_matches(key, known, n=1)
        raise ValueError(f"unknown configuration key {key!r}{f'; did you mean {close[0]!r}?' if close else '.'}")
    return config


def test_slices(run_dir: str | Path, dataset: str, n: int) -> list[tuple[torch.Tensor, torch.Tensor, str]]:
    """`n` stored slices with foreground of a run's test patients, evenly spread: (image (1, H, W), label (1, H, W), case)."""
    run = Path(run_dir)
    config = json.loads((run / "config.json").read_text())
    splits = json.loads((run / "folds.json").read_text())["datasets"]
    if dataset not in splits:
        raise ValueError(f"run {run} has no fold of dataset {dataset}; it knows {', '.join(splits)}.")
    facts = load_facts(config["group_file"], dataset)
    store = SliceStore(config["store_dir"], facts, list_items(facts, config["data_dir"]), config["image_size"])
    slices = StoredSlices(store, splits[dataset]["test"])
    shown = [i for i in range(len(slices)) if bool((slices[i]["label"] > 0).any())]
    picked = [shown[round(i)] for i in np.linspace(0, len(shown) - 1, min(n, len(shown)))]
    return [(slices[i]["image"], slices[i]["label"], slices[i]["case"]) for i in picked]
