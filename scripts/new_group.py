# SPDX-License-Identifier: Apache-2.0
"""Your own data in ten minutes: check the tables, measure what the facts need, write the group's bundles.

    python scripts/new_group.py heart --task segmentation --dataset our_mr=data/our_mr/index.csv \\
        --dataset their_mr=data/their_mr/index.csv \\
        --classes lv=our_mr:3/their_mr:1

    python scripts/new_group.py lungs --task classification --dataset our_xray=data/our_xray/index.csv \\
        --dataset their_xray=data/their_xray/index.csv \\
        --classes normal=normal,pneumonia=our_xray:bacterial+viral/their_xray:pneumonia
"""

from __future__ import annotations

import contextlib
import re
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import yaml
from torch import nn

sys.path.insert(0, str(Path(__file__).parents[1]))
from common.bundle_files import check_owner, from_root, write_group
from common.command_line import command
from common.data.facts import TASKS, check_orientation, load_group, stated_facts
from common.data.measure import measure
from common.data.measure import slice_axis as measured_axis
from common.handlers import save_atomic
from common.presets import PRESETS
from common.runs import ROOT

HU_FLOOR = -500  # under it an intensity is air in Hounsfield units


def new_group(
    name: str,
    *,
    task: str,
    dataset: Sequence[str],
    classes: str | None = None,
    preset: str = "paper",
    window: Sequence[float] | None = None,
    percentiles: Sequence[float] | None = None,
    orientation: str | None = None,
    slice_axis: int | None = None,
    out: str = "bundles",
    force: bool = False,
) -> None:
    """Write `<out>/<name>.yaml` and the group's bundles: teachers, students, joint teacher, multi-head.

    Args:
        name: the group; letters, digits, underscores.
        task: segmentation or classification.
        dataset: `NAME=DIR/index.csv`, `NAME=DIR` or `NAME=DIR:channel=1` (of several in a dataset.json); one a dataset, at
            least two. DIR holds an index.csv (see docs/add_a_dataset.md) or a dataset.json; `NAME=common.data.MODULE` is a
            dataset with a file of its own.
        classes: what is segmented, such as `lv=3` (raw mask value), `lv=ours:3/theirs:1` (values differ by dataset) or
            `lesion=1+2` (several values are one class); several classes are separated by commas. To classify, the values
            are the texts of the column `label`, such as `normal=normal,pneumonia=bacterial+viral`. Left out, each label,
            or each name in dataset.json, is a class, if all datasets have the same ones. Images of a label in no class are
            left out.
        preset: `paper` (published sizes, GPU), `small` (two CPU cores, hours) or `demo` (minutes).
        window: lowest and highest intensity, for CT in Hounsfield units.
        percentiles: percentiles of an image that become 0 and 1, where there is no window; left out, 1 and 99.
        orientation: axis codes (RAS) that volumes are brought to; left out, each file keeps its axes.
        slice_axis: the axis along which volumes are cut into slices, after `orientation`; left out, 2, unless their spacing
            speaks against it.
        out: folder of the bundles.
        force: overwrite an existing group; what was added to its file by hand (`about`, `settings`, facts of a dataset with a
            file of its own) stays.
    """
    name, group_file = str(name), (Path(out) / f"{name}.yaml").resolve()
    named = from_root(group_file)
    if task not in TASKS:
        raise ValueError(f"--task {task} is unknown; choose {' or '.join(TASKS)}.")
    if not name.isidentifier():
        raise ValueError(f"group name {name!r}: use letters, digits and underscores.")
    if preset not in PRESETS:
        raise ValueError(f"--preset {preset} is unknown; choose {' or '.join(PRESETS)}.")
    for option, limits, example in (("window", window, "-100,250"), ("percentiles", percentiles, "1,99")):
        numbers = limits if isinstance(limits, list | tuple) and all(isinstance(v, int | float) for v in limits) else []
        if limits is not None and not (len(numbers) == 2 and numbers[0] < numbers[1]):
            raise ValueError(f"--{option} {limits}: write the lower limit and the upper one, as in --{option}={example}.")
    if orientation is not None:
        check_orientation(orientation, "--orientation")
    if group_file.exists() and not force:
        raise ValueError(f"{named} exists; choose another name, or give --force to write the group again.")
    places = _places(dataset)
    check_owner(group_file, places)
    measures: dict[str, Any] = {"classes": classes, "window": window, "percentiles": percentiles}
    measures |= {"orientation": orientation, "slice_axis": slice_axis}
    given = [f"--{key}" for key, value in measures.items() if value is not None]
    if given and all(place.startswith("common.") for place in places.values()):
        raise ValueError(
            f"{' and '.join(given)}: for tables, and {', '.join(places)} have files of their own, whose facts hold. Leave it"
            f" out; what is to differ goes into {named} afterwards, such as `{next(iter(places))}: {{module: ..., classes:"
            f" ...}}`, and `python scripts/sync_recipes.py --group {named}` writes the bundles anew."
        )
    entries: dict[str, Any] = {}
    measured: dict[str, dict[str, Any]] = {}
    for key, place in places.items():
        if place.startswith("common."):
            entries[key] = _own_facts(group_file, key, place)
        else:
            measured[key] = measure(key, *_channel(place), task=task)
    values = {key: found["values"] for key, found in measured.items()}
    names = {key: found["names"] for key, found in measured.items()}
    own = None
    if classes is None and not entries:  # a dataset's own file may name its classes otherwise
        own = _shared_labels(values) if task == "classification" else _shared_names(names, values)
    chosen = own or _classes(classes, values, names, task)
    axis = measured_axis(measured, orientation, slice_axis)
    for key, found in measured.items():
        scale = _intensity(key, found, window, percentiles or (1, 99))
        geometry = {"dims": found["dims"], "spacing_known": found["spacing_known"]}
        if found["dims"] == 3:
            geometry |= {"orientation": orientation, "slice_axis": axis}
        if (channel := _channel(places[key])[1]) is not None:
            geometry |= {"channel": channel}
        entries[key] = {"classes": chosen[key], "label_values": found["values"], **scale, **geometry}
    group = {"group": name, "task": task, "preset": preset, "datasets": {key: entries[key] for key in places}}
    group |= _added_by_hand(group_file, task, places)
    for key in places:
        stated_facts(group, key, named)  # before anything is written
    head = f"# The group {name}: its datasets and their facts. Written by scripts/new_group.py.\n"
    with contextlib.chdir(ROOT):
        save_atomic(head + yaml.safe_dump(group, sort_keys=False, default_flow_style=None), named)
        for path in write_group(named):
            print(path)
    print(f"wrote {named}; each dataset is expected in DATA/<name>. Next:")
    place = "" if named.parent == Path("bundles") else f" --group-file {named}"
    print(
        f"  python scripts/study.py --group {name}{place} --targets {next(iter(places))} --seeds 0 --arms alone,distill"
        f" --data DATA --runs runs"
    )


def _existing(group_file: Path) -> dict[str, Any]:
    try:
        return load_group(group_file)
    except (FileNotFoundError, ValueError):  # none, or one that nobody can read and that is being written again
        return {"task": None, "datasets": {}}


def _own_facts(group_file: Path, dataset: str, module: str) -> dict[str, Any]:
    """The entry of a dataset with a file of its own: with the facts that an existing group file replaces."""
    old = _existing(group_file)["datasets"].get(dataset) or {}
    return old if old.get("module") == module else {"module": module}


def _added_by_hand(group_file: Path, task: str, datasets: Iterable[str]) -> dict[str, dict[str, Any]]:
    """What an existing group file says of these datasets that is not measured: the keys `settings` and `about`."""
    old = _existing(group_file)
    keys = ["settings", "about"] if old["task"] == task else ["about"]  # settings are a task's
    said = {key: {name: (old.get(key) or {})[name] for name in datasets if name in (old.get(key) or {})} for key in keys}
    return {key: of for key, of in said.items() if of}


def _places(dataset: Sequence[str]) -> dict[str, str]:
    places: dict[str, str] = {}
    for text in [dataset] if isinstance(dataset, str) else dataset:
        key, found, place = text.partition("=")
        if not found or not key.isidentifier():
            raise ValueError(f"--dataset {text}: write NAME=DIR/index.csv, the name of letters, digits and underscores.")
        if hasattr(nn.ModuleDict, key):
            raise ValueError(f"--dataset {key}: the name is one of a PyTorch module's own, and heads are named after datasets.")
        if key in places:
            raise ValueError(f"--dataset {key} is given twice; a source must differ from the target.")
        if place.endswith(".csv") and Path(place).name != "index.csv":
            raise ValueError(f"--dataset {text}: the table must be named index.csv, in the dataset's folder.")
        places[key] = place
    if len(places) < 2:
        raise ValueError("give at least two --dataset, the target and a source.")
    return places


def _channel(place: str) -> tuple[Path, int | None]:
    """Folder or table, and the channel of its images that is used, where they have several."""
    folder, found, number = place.partition(":channel=")
    if found and not number.isdecimal():
        raise ValueError(f"--dataset {place}: the channel is a whole number, as in dataset.json.")
    return Path(folder), int(number) if found else None


def _shared_labels(values: dict[str, list[str]]) -> dict[str, dict[str, list[Any]]] | None:
    """A class a label, where all tables have the same labels and those make class names (COVID-19: COVID_19)."""
    labels = next(iter(values.values()))
    names = [re.sub(r"\W+", "_", label) for label in labels]
    named = all(name.isidentifier() for name in names) and len(set(names)) == len(names)
    if not named or any(other != labels for other in values.values()):
        return None
    return {key: {name: [label] for name, label in zip(names, labels, strict=True)} for key in values}


def _shared_names(
    names: dict[str, dict[str, tuple[int, ...]]], values: dict[str, list[int]]
) -> dict[str, dict[str, list[Any]]] | None:
    """The classes as every dataset.json names them, where all name the same ones and each value but 0 is in one of them."""
    for key, classes in names.items():
        named = sorted(value for of in classes.values() for value in of)
        if not all(name.isidentifier() for name in classes) or named != [value for value in values[key] if value]:
            return None
    if len({frozenset(classes) for classes in names.values()}) > 1:
        return None
    return {key: {name: list(classes[name]) for name in next(iter(names.values()))} for key, classes in names.items()}


def _intensity(
    name: str, found: dict[str, Any], window: Sequence[float] | None, percentiles: Sequence[float]
) -> dict[str, Any]:
    if window is not None:
        return {"window": [float(v) for v in window]}
    if found["low"] < HU_FLOOR:
        raise ValueError(
            f"dataset {name} has intensities from {found['low']:g} to {found['high']:g}: is it CT in Hounsfield"
            f" units? Then give the"
            " window of the organ, e.g. --window=-100,250; if it is not, give --window with the range to use."
        )
    return {"percentiles": [float(v) for v in percentiles]}


def _classes(
    text: str | None, values: dict[str, list[Any]], names: dict[str, dict[str, tuple[int, ...]]], task: str
) -> dict[str, dict[str, list[Any]]]:
    """Class name -> raw values of each dataset; a question instead of a guess."""
    told = {key: ", ".join(f"{'+'.join(map(str, of))} {name}" for name, of in found.items()) for key, found in names.items()}
    seen = "; ".join(f"{key} has {found}" + (f" ({told[key]})" if told[key] else "") for key, found in values.items())
    if values and not text:
        example = "lesion=1 (0 is background)" if task == "segmentation" else "healthy=normal,ill=covid+sars"
        raise ValueError(f"which label values are which class? {seen}. Answer with e.g. --classes {example}.")
    out: dict[str, dict[str, list[Any]]] = {key: {} for key in values}
    for part in (text or "").split(",") if values else []:
        name, found, where = part.partition("=")
        if not found:
            raise ValueError(f"--classes {part}: write NAME=VALUES, e.g. lv=3 or lv=ours:3/theirs:1.")
        if not name.isidentifier():
            raise ValueError(
                f"--classes {part}: the class's name {name!r} is to be of letters, digits and underscores, no digit first."
            )
        parts = [place.partition(":") for place in where.split("/")]
        own = {key: spec for key, colon, spec in parts if colon and key in values}
        if own and len(own) < len(parts):
            raise ValueError(f"--classes {part}: give each value one dataset of {', '.join(values)}: NAME=ours:1/theirs:2.")
        for key in values:
            spec = own.get(key) if own else where
            if spec is None:
                continue  # a dataset without this class
            if task == "segmentation":
                raw: list[Any] = [int(v) if v.isdecimal() else v for v in spec.split("+")]
            else:
                raw = spec.split("+")
            if set(raw) - set(values[key]):
                hint = f"; the datasets are {', '.join(values)}" if ":" in spec else ""
                raise ValueError(f"--classes {part}: {spec!r} for {key} is not among its label values {values[key]}{hint}.")
            twice = [c for c, other in out[key].items() if set(other) & set(raw)]
            if twice:
                raise ValueError(f"--classes {part}: {spec!r} of {key} is already of class {twice[0]}; choose one.")
            out[key][name] = raw
    for key, chosen in out.items():
        if not chosen:
            raise ValueError(f"dataset {key} has none of the classes; {seen}. Leave it out, or name its value.")
        unused = sorted(set(values[key]) - {v for raw in chosen.values() for v in raw} - {0})
        if unused:
            fate = "images labelled {} are in no class and left out" if task == "classification" else "{} are background"
            print(f"{key}: " + fate.format(", ".join(map(repr, unused))))
    return out


def main() -> None:
    """The command line; one line on an error."""
    try:
        command(new_group)
    except (ValueError, OSError) as error:
        raise SystemExit(f"error: {error}") from error


if __name__ == "__main__":
    main()
