# SPDX-License-Identifier: Apache-2.0
"""What is true of a dataset, said once: where its cases lie, its classes, its intensities, its geometry."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, NotRequired, TypedDict

import yaml

__all__ = [
    "TASKS",
    "Facts",
    "Item",
    "check_orientation",
    "load_facts",
    "load_group",
    "read_folder",
    "stated_facts",
    "with_class",
]

TASKS = ("segmentation", "classification")


class Item(TypedDict):
    """One file to read, as an entry of a MONAI data list.

    `case` is `<dataset>/<patient>`, the unit of folds and of the bootstrap; `(case, volume)` is the unit of metrics. `volume`
    is empty when the case is a set of 2-D images. `image` is a NIfTI file, a 2-D image, a DICOM folder, or a list of 2-D slice
    files in order. `label` is a file (or files) beside the image's for segmentation, the raw label itself for classification,
    None for an unlabelled image.
    """

    image: str | list[str]
    label: str | list[str] | None
    case: str
    volume: str
    spacing: NotRequired[list[float]]  # mm, of files that do not carry it
    origin: NotRequired[str]  # where a raw label is written, for messages: a table and its row
    fold: NotRequired[int]  # the fold 0, 1, ... in which a dataset that publishes its folds tests the case


@dataclass(frozen=True, kw_only=True)
class Facts:
    """The facts of one dataset.

    Args:
        name: the dataset; prefix of every case id.
        reader: lists the dataset's items under a root folder.
        task: segmentation or classification.
        classes: class name -> raw label values. Segmentation: whole numbers of a mask, in channel order 1..K; values in no
            class become background. Classification: strings, in index order 0..K-1; images of a label in no class are left out.
        label_values: every raw value a label may hold; another one is refused before training.
        window: fixed intensities mapped to [0, 1] (CT, Hounsfield units); exactly one of `window` and `percentiles` is given.
        percentiles: percentiles of the item mapped to [0, 1] (MR, photographs); where the items are images, a volume to
            segment is mapped slice by slice.
        orientation: axis codes every volume is brought to through its affine, or None to keep the file's own axes.
        slice_axis: the axis of 3-D arrays, after orientation, along which slices are cut.
        dims: 3 for volumes, 2 for images.
        spacing_known: False where files carry no spacing; surface distances are then in pixels.
        masks_by_index: a mask whose affine states nothing (unit steps) lies on its image's voxels.
        middle_share: share of a volume's slices, around its middle, that carry the volume's class (classification; the outer
            slices of a head show no brain).
    """

    name: str
    reader: Callable[[Path], list[Item]]
    task: str = "segmentation"
    classes: Mapping[str, tuple[Any, ...]]
    label_values: tuple[Any, ...]
    window: tuple[float, float] | None = None
    percentiles: tuple[float, float] | None = None
    orientation: str | None = None
    slice_axis: int = 2
    dims: int = 3
    spacing_known: bool = True
    masks_by_index: bool = False
    middle_share: float = 1.0

    def __post_init__(self) -> None:
        if (self.window is None) == (self.percentiles is None):
            raise ValueError(f"dataset {self.name}: give exactly one of `window` and `percentiles`.")
        for key, limits in (("window", self.window), ("percentiles", self.percentiles)):
            if limits is not None and not (len(limits) == 2 and limits[0] < limits[1]):
                raise ValueError(f"dataset {self.name}: `{key}` is {list(limits)}; give the lower limit, then the upper one.")
        if self.percentiles is not None and not 0 <= self.percentiles[0] < self.percentiles[1] <= 100:
            raise ValueError(f"dataset {self.name}: `percentiles` is {list(self.percentiles)}; they lie between 0 and 100.")
        if self.orientation is not None:
            check_orientation(self.orientation, f"dataset {self.name}: `orientation`")
        if not self.classes:
            raise ValueError(f"dataset {self.name}: `classes` is empty; name at least one class and its raw label values.")
        unknown = {v for values in self.classes.values() for v in values} - set(self.label_values)
        if unknown:
            raise ValueError(f"dataset {self.name}: classes use raw values {sorted(unknown)} that are not in `label_values`.")
        if self.dims not in (2, 3) or self.slice_axis not in (0, 1, 2):
            raise ValueError(f"dataset {self.name}: `dims` must be 2 or 3 and `slice_axis` 0, 1 or 2.")
        if self.task not in TASKS:
            raise ValueError(f"dataset {self.name}: task {self.task!r} is unknown; choose {' or '.join(TASKS)}.")
        wrong = [v for v in self.label_values if isinstance(v, str) != self.classification]
        if wrong:
            kind = "texts" if self.classification else "numbers"
            raise ValueError(f"dataset {self.name}: label value {wrong[0]!r}; those of {self.task} are {kind}.")
        if not 0 < self.middle_share <= 1 or (self.middle_share < 1 and (self.dims == 2 or not self.classification)):
            fix = "it is a share above 0 and up to 1, of volumes to classify"
            raise ValueError(f"dataset {self.name}: `middle_share` is {self.middle_share}; {fix}.")
        if self.classification:
            owner: dict[Any, str] = {}
            for name, values in self.classes.items():
                for value in values:
                    if owner.setdefault(value, name) != name:
                        raise ValueError(f"dataset {self.name}: label {value!r} is of class {owner[value]} and of {name}.")

    @property
    def classification(self) -> bool:
        return self.task == "classification"

    @property
    def out_channels(self) -> int:
        """Channels of a network's output: the classes and, in segmentation, the background before them."""
        return len(self.classes) + (not self.classification)

    def class_of(self, item: Item) -> int | None:
        """Index of an item's class (classification), None for an unlabelled item or a label in no class.

        Raises:
            ValueError: the label is not in `label_values`; names the file and where its label is written.
        """
        label = item["label"]
        if label is None:
            return None
        if label not in self.label_values:
            image = item["image"] if isinstance(item["image"], str) else item["image"][0]
            where = f"{item['origin']}: " if "origin" in item else ""
            known = ", ".join(map(repr, self.label_values))
            raise ValueError(
                f"{where}{image} has the label {label!r}; dataset {self.name} knows {known}: correct it, or the group"
                " file's label_values and classes."
            )
        return next((k for k, values in enumerate(self.classes.values()) if label in values), None)

    def record(self) -> dict[str, Any]:
        """What is stated, by key; classes as pairs, since their order numbers the channels."""
        stated = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in ("name", "reader")}
        return stated | {"classes": list(self.classes.items())}

    @property
    def hd95_unit(self) -> str:
        return "mm" if self.spacing_known else "px"


def check_orientation(codes: str, what: str) -> None:
    """Refuse what names no three axes; `what` says where it is written."""
    if len(codes) != 3 or any(len(set(pair) & set(codes)) != 1 for pair in ("LR", "PA", "IS")):
        raise ValueError(f"{what} {codes!r}: name three axes, of L and R, P and A, I and S one each, such as RAS.")


def load_group(group_file: str | Path) -> dict[str, Any]:
    """Read and check a group file `bundles/<group>.yaml`: keys `group`, `task`, `datasets`.

    Raises:
        FileNotFoundError, ValueError: there is no such file, or a key is missing or wrong; names it.
    """
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
    if group["task"] not in TASKS:
        raise ValueError(f"group file {path}: task {group['task']!r} is unknown; choose {' or '.join(TASKS)}.")
    return group


def load_facts(group_file: str | Path, dataset: str) -> Facts:
    """The facts of `dataset` as its group file states them.

    An entry with `module` takes `FACTS` of that module and may replace single fields; one without gives all fields and reads a
    table (`common.data.table`) or an MSD / nnU-Net folder (`common.data.dataset_json`), of several channels that one which its
    `channel` numbers.

    Raises:
        ValueError: the dataset is not in the group, or a key is missing, wrong or not a field of `Facts`; names file and key.
    """
    return stated_facts(load_group(group_file), dataset, group_file)


def stated_facts(group: Mapping[str, Any], dataset: str, group_file: str | Path) -> Facts:
    """The facts of `dataset` as the content of a group file states them, see `load_facts`; errors name `group_file`."""
    if dataset not in group["datasets"]:
        raise ValueError(f"dataset {dataset!r} is not in {group_file}; choose from {', '.join(group['datasets'])}.")
    entry = dict(group["datasets"][dataset] or {})
    module = entry.pop("module", None)
    known = {f.name for f in fields(Facts)} - {"name", "reader", "task"} | ({"channel"} if module is None else set())
    if set(entry) - known:
        raise ValueError(f"{group_file}, dataset {dataset}: unknown keys {sorted(set(entry) - known)}; known: {sorted(known)}.")
    missing = [key for key in ("classes", "label_values") if key not in entry and module is None]
    if missing:
        raise ValueError(f"{group_file}, dataset {dataset}: the key {' and '.join(missing)} is missing; add it.")
    try:
        return _facts(dataset, entry, module, group["task"])
    except ValueError as error:
        raise ValueError(f"{group_file}, {error}") from error
    except (TypeError, AttributeError, ImportError) as error:
        raise ValueError(f"{group_file}, dataset {dataset}: {error}; correct its entry.") from error


def _facts(dataset: str, entry: dict[str, Any], module: str | None, task: str) -> Facts:
    for key in ("window", "percentiles"):
        if entry.get(key) is not None:
            entry[key] = _values(entry[key], f"dataset {dataset}: {key}")
    if entry.get("label_values") is not None:
        entry["label_values"] = _values(entry["label_values"], f"dataset {dataset}: label_values", task)
    if "classes" in entry:
        classes = {c: _values(values, f"dataset {dataset}: class {c}", task) for c, values in dict(entry["classes"]).items()}
        entry["classes"] = classes
    if module is not None:
        package = __package__ if module.startswith(".") else None
        facts = importlib.import_module(module, package).FACTS
        if facts.task != task:
            raise ValueError(f"dataset {dataset}: {module} is for {facts.task}, its group for {task}.")
        if facts.name != dataset:  # two datasets of one module must not share case ids
            entry["reader"] = lambda root: [
                {**item, "case": f"{dataset}/{item['case'].split('/', 1)[1]}"} for item in facts.reader(root)
            ]
        return replace(facts, **({"name": dataset} | entry))
    channel = entry.pop("channel", None)
    return Facts(name=dataset, task=task, reader=lambda root: read_folder(root, dataset, task=task, channel=channel), **entry)


def _values(value: Any, what: str, task: str = "segmentation") -> tuple[Any, ...]:
    kind, plural = (str, 'texts, such as ["1"]') if task == "classification" else (int | float, "numbers, such as [1]")
    if not isinstance(value, list) or not all(isinstance(v, kind) for v in value):
        raise ValueError(f"{what}: {value!r} is not a list of {plural}; correct it.")
    return tuple(value)


def with_class(facts: Facts, items: Iterable[Item]) -> list[Item]:
    """The items that are unlabelled or of one of the dataset's classes (classification); see `Facts.class_of` for errors."""
    return [item for item in items if facts.class_of(item) is not None or item["label"] is None]


def read_folder(root: Path, dataset: str, *, task: str = "segmentation", channel: int | None = None) -> list[Item]:
    """A user's folder: an MSD or nnU-Net one if it has a dataset.json and no index.csv, else a table.

    `channel` is that of a dataset.json with several.
    """
    from . import dataset_json, table  # here, because they need Item from this module

    if (root / "dataset.json").is_file() and not (root / "index.csv").is_file():
        if task == "classification":
            raise ValueError(f"{root} lists masks in a dataset.json; to classify, write an index.csv with a column label.")
        return dataset_json.cases(root, name=dataset, channel=channel)
    if channel is not None:
        raise ValueError(f"{root}: a channel is picked by number in a dataset.json only; in a table name its files.")
    return table.cases(root, dataset, task=task)
