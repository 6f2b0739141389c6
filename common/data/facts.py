# SPDX-License-Identifier: Apache-2.0
"""What is true of a dataset, said once: where its cases lie, its classes, its intensities, its geometry."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, NotRequired, TypedDict

import yaml

__all__ = ["Facts", "Item", "load_facts", "load_group", "read_folder"]


class Item(TypedDict):
    """One file to read, as an entry of a MONAI data list.

    `case` is `<dataset>/<patient>`, the unit of folds and of the bootstrap; `(case, volume)` is the unit of metrics. `volume`
    is empty when the case is a set of 2-D images. `image` is a NIfTI file, a 2-D image, a DICOM folder, or a list of 2-D slice
    files in order; `label` is None for an unlabelled image.
    """

    image: str | list[str]
    label: str | list[str] | None
    case: str
    volume: str
    spacing: NotRequired[list[float]]  # mm, of files that do not carry it


@dataclass(frozen=True, kw_only=True)
class Facts:
    """The facts of one dataset.

    Args:
        name: the dataset; prefix of every case id.
        reader: lists the dataset's items under a root folder.
        classes: class name -> raw label values, in channel order 1..K. Raw values in no class become background.
        label_values: every raw value a label may hold; another one is refused before training.
        window: fixed intensities mapped to [0, 1] (CT, Hounsfield units); exactly one of `window` and `percentiles` is given.
        percentiles: percentiles of the item mapped to [0, 1] (MR, photographs).
        orientation: axis codes every volume is brought to through its affine, or None to keep the file's own axes.
        slice_axis: the axis of 3-D arrays, after orientation, along which slices are cut.
        dims: 3 for volumes, 2 for images.
        spacing_known: False where files carry no spacing; surface distances are then in pixels.
    """

    name: str
    reader: Callable[[Path], list[Item]]
    classes: Mapping[str, tuple[int, ...]]
    label_values: tuple[int, ...]
    window: tuple[float, float] | None = None
    percentiles: tuple[float, float] | None = None
    orientation: str | None = None
    slice_axis: int = 2
    dims: int = 3
    spacing_known: bool = True

    def __post_init__(self) -> None:
        if (self.window is None) == (self.percentiles is None):
            raise ValueError(f"dataset {self.name}: give exactly one of `window` and `percentiles`.")
        if not self.classes:
            raise ValueError(f"dataset {self.name}: `classes` is empty; name at least one class and its raw label values.")
        unknown = {v for values in self.classes.values() for v in values} - set(self.label_values)
        if unknown:
            raise ValueError(f"dataset {self.name}: classes use raw values {sorted(unknown)} that are not in `label_values`.")
        if self.dims not in (2, 3) or self.slice_axis not in (0, 1, 2):
            raise ValueError(f"dataset {self.name}: `dims` must be 2 or 3 and `slice_axis` 0, 1 or 2.")

    @property
    def out_channels(self) -> int:
        """Channels of a network's output: background and the classes."""
        return 1 + len(self.classes)

    @property
    def hd95_unit(self) -> str:
        return "mm" if self.spacing_known else "px"


def load_group(group_file: str | Path) -> dict[str, Any]:
    """Read and check a group file `bundles/<group>.yaml`: keys `group`, `task`, `datasets`."""
    path = Path(group_file)
    if not path.is_file():
        raise FileNotFoundError(
            f"group file {path} does not exist; `python scripts/new_group.py` writes one for your own data."
        )
    try:
        group = yaml.safe_load(path.read_text())
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"group file {path} is not YAML ({reason}); correct it or write it again.") from error
    if not isinstance(group, dict) or not {"group", "task", "datasets"} <= group.keys():
        raise ValueError(f"group file {path} needs the keys group, task and datasets.")
    if not isinstance(group["datasets"], dict) or not all(isinstance(e, dict | None) for e in group["datasets"].values()):
        raise ValueError(f"group file {path}: `datasets` must map each dataset's name to its facts.")
    return group


def load_facts(group_file: str | Path, dataset: str) -> Facts:
    """The facts of `dataset` as its group file states them.

    An entry with `module` takes `FACTS` of that module and may replace single fields; one without gives all fields and reads a
    table (`common.data.table`) or an MSD / nnU-Net folder (`common.data.dataset_json`).

    Raises:
        ValueError: the dataset is not in the group, or a key is missing, wrong or not a field of `Facts`; names file and key.
    """
    group = load_group(group_file)
    if dataset not in group["datasets"]:
        raise ValueError(f"dataset {dataset!r} is not in {group_file}; choose from {', '.join(group['datasets'])}.")
    entry = dict(group["datasets"][dataset] or {})
    module = entry.pop("module", None)
    known = {f.name for f in fields(Facts)} - {"name", "reader"}
    if set(entry) - known:
        raise ValueError(f"{group_file}, dataset {dataset}: unknown keys {sorted(set(entry) - known)}; known: {sorted(known)}.")
    missing = [key for key in ("classes", "label_values") if key not in entry and module is None]
    if missing:
        raise ValueError(f"{group_file}, dataset {dataset}: the key {' and '.join(missing)} is missing; add it.")
    try:
        return _facts(dataset, entry, module)
    except ValueError as error:
        raise ValueError(f"{group_file}, {error}") from error
    except (TypeError, AttributeError, ImportError) as error:
        raise ValueError(f"{group_file}, dataset {dataset}: {error}; correct its entry.") from error


def _facts(dataset: str, entry: dict[str, Any], module: str | None) -> Facts:
    for key in ("label_values", "window", "percentiles"):
        if entry.get(key) is not None:
            entry[key] = _values(entry[key], f"dataset {dataset}: {key}")
    if "classes" in entry:
        classes = {c: _values(values, f"dataset {dataset}: class {c}") for c, values in dict(entry["classes"]).items()}
        entry["classes"] = classes
    if module is not None:
        package = __package__ if module.startswith(".") else None
        facts = importlib.import_module(module, package).FACTS
        if facts.name != dataset:  # two datasets of one module must not share case ids
            entry["reader"] = lambda root: [
                {**item, "case": f"{dataset}/{item['case'].split('/', 1)[1]}"} for item in facts.reader(root)
            ]
        return replace(facts, **({"name": dataset} | entry))
    return Facts(name=dataset, reader=lambda root: read_folder(root, dataset), **entry)


def _values(value: Any, what: str) -> tuple[Any, ...]:
    if not isinstance(value, list) or not all(isinstance(v, int | float) for v in value):
        raise ValueError(f"{what}: {value!r} is not a list of numbers, such as [1]; correct it.")
    return tuple(value)


def read_folder(root: Path, dataset: str) -> list[Item]:
    """A user's folder: an MSD or nnU-Net one if it has a dataset.json and no index.csv, else a table."""
    from . import dataset_json, table  # here, because they need Item from this module

    if (root / "dataset.json").is_file() and not (root / "index.csv").is_file():
        return dataset_json.cases(root, name=dataset)
    return table.cases(root, dataset)
