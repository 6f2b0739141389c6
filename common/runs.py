# SPDX-License-Identifier: Apache-2.0
"""Runs: a trained bundle on disk. What starts one, and what reads one back."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.bundle import ConfigParser

from .config import live_config
from .data.draws import StoredSlices
from .data.facts import Facts, Item, load_facts
from .data.fold import FoldData, list_items, split_items
from .data.store import SliceStore
from .errors import brief
from .handlers import save_atomic
from .networks import FeatureNet
from .study_checks import FREE

__all__ = ["from_run", "from_runs", "predictors", "read_json", "run_setting", "start_run", "teachers_of", "test_items"]
__all__ += ["check_facts", "check_same", "learned_from", "run_name", "teacher_runs", "test_slices"]
__all__ += ["validated_on", "validation_score"]

ROOT = Path(__file__).resolve().parents[1]  # from where runs are started, and name their group files
# Facts of a dataset that weights depend on.
LEARNED = ("classes", "window", "percentiles", "orientation", "slice_axis", "dims", "middle_share")


def from_run(run_dir: str | Path, *, head: str | None = None) -> FeatureNet:
    """The trained network of a run, in eval mode on the CPU.

    Args:
        run_dir: `runs/<bundle>/<variant>/<seed>`.
        head: for a network with several heads, the dataset whose head `forward` uses.

    Raises:
        FileNotFoundError, ValueError: the run is missing, unfinished, damaged or of another architecture; names the file. Or
            it has heads, but none for `head`.
    """
    spec, model = read_json(run_dir, "network.json"), _file(run_dir, "model.pt")
    if head is not None and "target" in spec:  # a MultiHead; the heads of other networks are those of an attention
        if head not in spec["heads"]:
            fix = "it learned none of its labels (r: 0, and other classes). Use it on those, or train it with r: 1"
            raise ValueError(f"run {run_dir} has no head for {head}, only for {', '.join(spec['heads'])}: {fix}.")
        spec["target"] = head
    try:
        network = ConfigParser({"network": spec}).get_parsed_content("network")
    except Exception as error:  # whatever the network's constructor raises, wrapped by MONAI
        file = model.with_name("network.json")
        raise ValueError(f"{file} gives no network ({brief(error)}); train the run again.") from error
    try:
        weights = torch.load(model, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises types of its own for a damaged file
        raise ValueError(f"{model} is damaged ({brief(error)}); copy or train the run again.") from error
    try:
        network.load_state_dict(weights, strict=True)
    except (RuntimeError, TypeError) as error:
        detail = " ".join(str(error).split("\n", 1)[-1].split())[:200]
        message = f"{model} is not of the architecture in network.json beside it ({detail}); train the run again."
        raise ValueError(message) from error
    return network.eval()


def _file(run_dir: str | Path, name: str) -> Path:
    """A file of a finished run."""
    run = Path(run_dir)
    if not run.is_dir():
        raise FileNotFoundError(f"run {run} does not exist; train it first, or check the path.")
    if not (run / name).is_file():
        raise FileNotFoundError(f"run {run} has no {name}: its training is not complete; start it again to resume it.")
    return run / name


def read_json(run_dir: str | Path, name: str, *keys: str, remedy: str = "copy or train the run again") -> dict[str, Any]:
    """A record of a finished run, which must have `keys`; one that is damaged is refused with the `remedy`."""
    file = _file(run_dir, name)
    try:
        value = json.loads(file.read_text())
        missing = [key for key in keys if key not in value]
    except (ValueError, TypeError) as error:
        raise ValueError(f"{file} is damaged ({brief(error)}); {remedy}.") from error
    if missing:
        raise ValueError(f"{file} is damaged (no {', '.join(missing)}); {remedy}.")
    return value


def from_runs(run_dirs: Sequence[str], *, head: str | None = None, best_on: str | None = None) -> list[FeatureNet]:
    """`from_run` of each, in order; with `best_on`, a dataset, the best first.

    The first teacher of a joint teacher gives its head's architecture and, warm-started, its start: with `best_on` training
    begins from the best teacher instead of from nothing. Best is the best validation score on that dataset. Decision: runs
    that were validated on another (r = 0: on their source) come after all of those, in the order given, as scores on
    different datasets do not compare.
    """
    if not run_dirs or isinstance(run_dirs, str):
        example = "['runs/teacher_lits/alone/0', 'runs/teacher_kits/for_lits/0']"
        raise ValueError(f'teachers: {run_dirs!r}; give a list of runs, such as --teachers "{example}".')
    if best_on is not None:
        run_dirs = sorted(run_dirs, key=lambda run: -validation_score(run) if validated_on(run) == best_on else math.inf)
    return [from_run(run, head=head) for run in run_dirs]


def predictors(run_dirs: Sequence[str], *, head: str) -> dict[str, FeatureNet]:
    """Run -> its network with the head for dataset `head`, of the runs whose output can be scored on that dataset.

    Decision: a source teacher of other classes that never read the target's labels (r = 0) predicts its source alone and is
    left out: its encoder is what a joint teacher uses, and nothing of it could be scored on the target.
    """
    specs = {run: read_json(run, "network.json") for run in run_dirs}
    heads = {run: list(spec["heads"]) if "target" in spec else [head] for run, spec in specs.items()}
    return {run: from_run(run, head=head) for run, names in heads.items() if len(names) > 1 or names == [head]}


def test_items(run_dir: str | Path, *, dataset: str, group_file: str, data_dir: str, seed: int) -> list[Item]:
    """The items of `dataset`'s test patients of fold `seed`, none of which the run has seen.

    Raises:
        ValueError: a test patient was in the run's training or validation part; names it.
    """
    facts = load_facts(group_file, dataset)
    check_facts(run_dir, facts, group_file)
    items = [item for item in list_items(facts, data_dir) if item["label"] is not None]
    test = set(split_items(facts, items, fold=seed).test)
    splits = read_json(run_dir, "folds.json", "datasets")["datasets"]
    seen = {case for split in splits.values() for part in ("train", "val") for case in split[part]}
    if test & seen:
        raise ValueError(
            f"run {run_dir} trained on test patient {min(test & seen)} of fold {seed}; evaluate it on its own seed."
        )
    return [item for item in items if item["case"] in test]


def validation_score(run_dir: str | Path) -> float:
    """Best validation metric of a finished run, on the dataset `validated_on`."""
    return float(read_json(run_dir, "history.json", "best_value")["best_value"])


def validated_on(run_dir: str | Path) -> str:
    """The dataset whose patients chose a run's best epoch, as its config names it."""
    config = read_json(run_dir, "config.json", "validate")
    names = {name: name for name in read_json(run_dir, "folds.json", "datasets")["datasets"]}
    return ConfigParser(config | {"data": names}).get_parsed_content("validate::dataset::entry")


def run_setting(run_dir: str | Path, key: str) -> Any:
    """What a run was trained with: the `seed`, which is its fold, or the `image_size`, whose networks see no other."""
    return ConfigParser(read_json(run_dir, "config.json", key)).get_parsed_content(key)


def teachers_of(config: Mapping[str, Any]) -> list[str]:
    """The runs that a configuration names as its `teacher` or `teachers`."""
    given = [ConfigParser(config).get_parsed_content(key) for key in ("teacher", "teachers") if key in config]
    return [run for runs in given if runs for run in ([runs] if isinstance(runs, str) else runs)]


def run_name(run_dir: str) -> str:
    """`<bundle>/<variant>/<seed>`: what a run is called wherever the folder of runs lies."""
    return "/".join(Path(run_dir).parts[-3:])


def teacher_runs(run_dir: str | Path) -> list[Path]:
    """The runs that taught a run: beside it by bundle, variant and seed, so that a folder of runs may move; else as given."""
    given = teachers_of(read_json(run_dir, "config.json"))
    beside = [Path(run_dir).resolve().parents[2] / run_name(teacher) for teacher in given]
    return [near if near.is_dir() else Path(teacher) for near, teacher in zip(beside, given, strict=True)]


def learned_from(run_dir: str | Path) -> list[str]:
    """The datasets whose images a finished run or its teachers learned from, its own first.

    Raises:
        FileNotFoundError: a teacher's run is not there, so that nobody can tell.
    """
    names = list(read_json(run_dir, "folds.json", "datasets")["datasets"])
    for teacher in teacher_runs(run_dir):
        if not teacher.is_dir():
            fix = "copy it back: the terms of the data that it learned from bind whom it taught"
            raise FileNotFoundError(f"run {run_dir} was taught by {teacher}, which does not exist; {fix}.")
        names += learned_from(teacher)
    return list(dict.fromkeys(names))


def start_run(run_dir: str, *, network: FeatureNet, data: FoldData) -> None:
    """Record what a run is before it trains: network.json, folds.json, config.json.

    A run that has no checkpoint yet has nothing to keep: what an attempt that failed before training wrote is replaced.

    Raises:
        ValueError: the run was begun with another configuration or other folds, a joint teacher's first teacher has not
            seen the target, a teacher saw a test patient or labels outside of this run's budget or learned from other facts of
            a dataset, the network has not the dataset's number of outputs, or see `live_config`; names the key, the teacher
            or the group file.
    """
    run = Path(run_dir)
    store = next(iter(data.values())).store
    config = live_config() | {"store_dir": str(store.root)}  # as a path: the expression means nothing outside of the run
    config["facts"] = {name: _learned(entry.facts) for name, entry in data.items()}
    splits = {name: entry.split._asdict() for name, entry in data.items()}
    target = next(iter(splits.values()))
    if config.get("teachers"):
        _check_order(teachers_of(config), next(iter(splits)))
    for teacher in teachers_of(config):
        _check_teacher(teacher, splits)
        for entry in data.values():
            check_facts(teacher, entry.facts, config["group_file"])
    _check_outputs(network, next(iter(data.values())).facts, config["group_file"])
    spec = json.loads(json.dumps(network.spec))
    begun = (run / "checkpoints" / "last.pt").exists() or (run / "model.pt").exists()
    # said only where labels were not read, so that the records of all other runs stay what they were
    read = {name: split if data[name].labelled else {**split, "labelled": False} for name, split in splits.items()}
    for file, value in (("config.json", config), ("folds.json", target | {"datasets": read}), ("network.json", spec)):
        path = run / file
        value = json.loads(json.dumps(value, default=str))
        if begun and path.exists():
            check_same(read_json(run, file), value, path)
        elif not torch.distributed.is_initialized() or torch.distributed.get_rank() == 0:
            save_atomic(value, path)


def _learned(facts: Facts) -> dict[str, Any]:
    return {key: json.loads(json.dumps(facts.record()[key])) for key in LEARNED}


def check_facts(run_dir: str | Path, facts: Facts, group_file: str | Path) -> None:
    """Refuse a dataset of which the group file now says something else than when the run learned from it.

    Raises:
        ValueError: names the key, what it was and what it is.
    """
    then = read_json(run_dir, "config.json").get("facts", {}).get(facts.name, {})
    for key, before, now in _differences(then, _learned(facts)):
        raise ValueError(
            f"run {run_dir} was trained with {key} {before} of dataset {facts.name}, and {group_file} now says {now}; undo"
            " that, or train the run again."
        )


def _check_outputs(network: FeatureNet, facts: Facts, group_file: str) -> None:
    """Refuse the network of a configuration that was written before the group file said other classes."""
    outputs = network.spec.get("out_channels", facts.out_channels)  # several heads are made from the facts
    if outputs != facts.out_channels:
        background = "" if facts.classification else ", and the background"
        raise ValueError(
            f"the network has {outputs} outputs, but {group_file} gives dataset {facts.name} {facts.out_channels}"
            f" ({', '.join(facts.classes)}{background}): after an edit of that file, `python scripts/sync_recipes.py --group"
            f" {group_file}` writes its bundles anew."
        )


def _check_order(teachers: Sequence[str], target: str) -> None:
    """Refuse a joint teacher whose first teacher, from which it has levels and head, has never seen the target."""
    seen = read_json(teachers[0], "folds.json", "datasets")["datasets"]
    if target not in seen:
        raise ValueError(
            f"teachers: the first is {teachers[0]}, a teacher of {', '.join(seen)}, but the target is {target}; name the"
            " target's own teacher first, then the sources' adapted to it: --teachers"
            f" \"['runs/teacher_{target}/alone/0', ...]\"."
        )


def _check_teacher(run_dir: str, splits: Mapping[str, Mapping[str, Sequence[str]]]) -> None:
    """Refuse a teacher whose knowledge would reach its student past the split: of another fold, or of another label budget."""
    theirs = read_json(run_dir, "folds.json", "datasets")["datasets"].values()
    seen, labelled = (
        {case for split in chosen for part in ("train", "val") for case in split[part]}
        for chosen in (theirs, [split for split in theirs if split.get("labelled", True)])
    )
    leaked = sorted(seen & {case for split in splits.values() for case in split["test"]})
    if leaked:
        raise ValueError(f"teacher {run_dir} trained on test patient {leaked[0]} of this run; give teachers of the same seed.")
    known = labelled & {case for split in splits.values() for case in split["unlabelled"]}
    if known:
        raise ValueError(
            f"teacher {run_dir} learned the labels of {len(known)} patients that are unlabelled for this run, such as"
            f" {min(known)}; train the teacher with the same target_cases."
        )


def check_same(old: Mapping[str, Any], new: Mapping[str, Any], path: Path) -> None:
    """Refuse a run's record `old`, in the file `path`, where `new` says otherwise of a key on which results depend (`FREE`).

    Raises:
        ValueError: names the run and the key.
    """
    for key, before, now in _differences(old, new):
        moved = key in ("teacher", "teachers") and _run_names(before) == _run_names(now)
        if key not in FREE and not moved:
            raise ValueError(
                f"{path.parent} was begun with another {key} ({path.name}: {str(before)[:80]}, now {str(now)[:80]});"
                " give the new run another variant, or remove that folder."
            )


def _run_names(runs: Any) -> list[str]:
    return [run_name(run) for run in ([runs] if isinstance(runs, str) else runs or [])]


def _differences(old: Mapping[str, Any], new: Mapping[str, Any], place: str = "") -> Iterator[tuple[str, Any, Any]]:
    # a top-level key that only one side has came or went with an update of the recipes
    for key in sorted(set(old) | set(new) if place else set(old) & set(new)):
        before, now = old.get(key), new.get(key)
        if isinstance(before, Mapping) and isinstance(now, Mapping):
            yield from _differences(before, now, f"{place}{key}::")
        elif before != now:
            yield place + key, before, now


def test_slices(
    run_dir: str | Path, dataset: str, n: int, *, data_dir: str | None = None
) -> list[tuple[torch.Tensor, torch.Tensor, str]]:
    """`n` stored slices of a run's test patients, evenly spread: (image (1, H, W), label, case).

    Segmentation: slices with foreground, label (1, H, W). Classification: any slices, label a 0-dim class index.
    `data_dir` replaces that of the run, if the data moved since.
    """
    run = Path(run_dir)
    config = read_json(run, "config.json")
    splits = read_json(run, "folds.json", "datasets")["datasets"]
    if dataset not in splits:
        raise ValueError(f"run {run} has no fold of dataset {dataset}; it knows {', '.join(splits)}.")
    facts = load_facts(ROOT / config["group_file"], dataset)
    check_facts(run, facts, config["group_file"])
    parser = ConfigParser(config | ({} if data_dir is None else {"data_dir": data_dir}))  # expressions as they were written
    data_dir, store_dir, size = (parser.get_parsed_content(key) for key in ("data_dir", "store_dir", "image_size"))
    if not Path(store_dir).is_dir():  # the folder of runs was moved
        store_dir = run.resolve().parents[2] / ".store"
    store = SliceStore(store_dir, facts, list_items(facts, data_dir), size)
    slices = StoredSlices(store, splits[dataset]["test"])
    shown = [i for i in range(len(slices)) if facts.classification or bool((slices[i]["label"] > 0).any())]
    picked = [shown[round(i)] for i in np.linspace(0, len(shown) - 1, min(n, len(shown)))]
    return [(slices[i]["image"], slices[i]["label"], slices[i]["case"]) for i in picked]
