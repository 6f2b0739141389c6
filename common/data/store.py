# SPDX-License-Identifier: Apache-2.0
"""The slice store: every volume is read and preprocessed once, then slices are drawn from memory-mapped arrays."""

from __future__ import annotations

import hashlib
import json
import os
import re
import socket
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from tqdm import tqdm

from .facts import Facts, Item
from .transforms import preprocessing

__all__ = ["SliceStore", "Unit", "volumes"]

FORMAT = 2  # part of the preprocessing key; raise it when what is stored changes
ONLY_CLASSIFICATION = ("task", "middle_share")  # facts that a segmentation store's key does not hold


@dataclass(frozen=True)
class Unit:
    """One stored array of a (case, volume), float16: `(slices, 2, H, W)` (image in [0, 1], class index of each pixel).

    For classification it is `(slices, 1, H, W)`, the image alone, and `labels` holds the class index of each slice, none where
    the unit is unlabelled; `foreground` is then empty.
    """

    case: str
    volume: str
    labelled: bool
    shape: tuple[int, int, int, int]
    foreground: tuple[bool, ...]
    content: tuple[str, ...]  # of each image (volume or 2-D) that is not constant, see ContentHashd
    sources: tuple[tuple[str, int, int], ...]  # (name, bytes, mtime in ns) of every file read
    labels: tuple[int, ...] = ()


def _stat(path: str) -> tuple[str, int, int]:
    """Name, size and time of a file, or of a DICOM folder's files together."""
    p = Path(path)
    if p.is_dir():
        stats = [f.stat() for f in sorted(p.iterdir())]
        return (p.name, sum(s.st_size for s in stats), max((s.st_mtime_ns for s in stats), default=0))
    if not p.exists():
        raise FileNotFoundError(f"{path} does not exist; check the dataset folder or the table's row.")
    return (p.name, p.stat().st_size, p.stat().st_mtime_ns)


def _sources(items: Sequence[Item], facts: Facts) -> tuple[tuple[str, int, int], ...]:
    paths: list[str] = []
    for item in items:
        for value in (item["image"], None if facts.classification else item["label"]):
            paths += [] if value is None else [value] if isinstance(value, str) else value
    return tuple(_stat(path) for path in paths)


def _place(jobs: int) -> int:
    """A place among the jobs that depends on the process alone."""
    own = hashlib.sha256(f"{socket.gethostname()}-{os.getpid()}".encode()).digest()
    return int.from_bytes(own[:8], "big") % jobs


def volumes(items: Iterable[Item], *, dims: int, task: str) -> list[list[Item]]:
    """The items of each (case, volume), in order.

    Raises:
        ValueError: a scan (`dims` 3) is listed twice, or only some of a volume's images have a label.
    """

    def volume(item: Item) -> tuple[str, str]:
        return item["case"], item["volume"]

    groups = [list(group) for _, group in groupby(sorted(items, key=volume), key=volume)]
    for group in groups:
        name = f"volume {group[0]['volume']!r} of case {group[0]['case']}"
        if dims == 3 and len(group) > 1:
            raise ValueError(f"{name} is listed twice ({group[1]['image']}); give each scan of a case its own volume.")
        if len({item["label"] is None for item in group}) > 1:
            kind = "labels" if task == "classification" else "masks"
            fix = "give all or none, or another volume to those without"
            raise ValueError(f"{name} has {kind} on some images only; {fix}.")
    return groups


class SliceStore:
    """The stored slices of one dataset under one preprocessing.

    `<root>/<dataset>/<key>/<unit>.npy` with `<unit>.json` beside it, each put in place by `os.replace`, the JSON last, so
    that a killed build leaves whole units only, and two runs may build at once. A unit whose source files changed, whose array
    has not the recorded size, or whose labels a table now states otherwise, is rebuilt.

    Args:
        root: folder of all stores.
        facts: the dataset's facts; they and `image_size` make the key.
        items: the dataset's items.
        image_size: pixels a side in-plane.
        masks: False stores the images alone, in a folder of their own, and opens no mask (segmentation).
    """

    def __init__(self, root: str | Path, facts: Facts, items: Sequence[Item], image_size: int, *, masks: bool = True) -> None:
        if not items:
            raise ValueError(f"dataset {facts.name} has no cases; check its folder.")
        left_out = (() if facts.classification else ONLY_CLASSIFICATION) + (() if facts.masks_by_index else ("masks_by_index",))
        recipe = {k: v for k, v in facts.record().items() if k not in left_out}
        if not masks and not facts.classification:
            items = [{**item, "label": None} for item in items]
            recipe["masks"] = False
        digest = hashlib.sha256(json.dumps([FORMAT, image_size, recipe], sort_keys=True).encode()).hexdigest()
        self.root = Path(root)
        self.folder = self.root / facts.name / digest[:16]
        self.facts, self.image_size = facts, image_size
        self._groups = volumes(items, dims=facts.dims, task=facts.task)
        self._transform = preprocessing(facts, image_size)

    def _path(self, items: Sequence[Item]) -> Path:
        parts = [part for part in (items[0]["case"].split("/", 1)[1], items[0]["volume"]) if part]
        name = "__".join(parts)
        safe = re.sub(r"[^A-Za-z0-9_.-]", "_", name)
        if safe != name or "___" in name or name.count("__") >= len(parts):  # two names may become one
            name = "/".join(parts)
            safe += "-" + hashlib.sha256(name.encode()).hexdigest()[:8]
        return self.folder / f"{safe}.npy"

    def _valid(self, items: Sequence[Item], path: Path) -> Unit | None:
        """The recorded unit if it is whole and its sources are unchanged, else None."""
        try:
            raw: dict[str, Any] = json.loads(path.with_suffix(".json").read_text())
            raw["sources"] = tuple((Path(path).name, size, time) for path, size, time in raw["sources"])
            fields: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in raw.items()}
            unit = Unit(**fields)
            array = np.load(path, mmap_mode="r")
        except (OSError, EOFError, ValueError, TypeError, KeyError):  # EOFError: an empty array file
            return None
        whole = array.shape == unit.shape and array.dtype == np.float16 and unit.labels == self._labels(items, len(array))
        return unit if whole and unit.sources == _sources(items, self.facts) else None

    def _labels(self, items: Sequence[Item], slices: int) -> tuple[int, ...]:
        """Class index of each stored slice: an image is one slice, a volume's class is that of its slices."""
        if not self.facts.classification:
            return ()
        known = [k for k in map(self.facts.class_of, items) if k is not None]
        return tuple(known * slices if self.facts.dims == 3 else known)

    def _build(self, items: Sequence[Item], path: Path) -> Unit:
        images, content = [], []
        labelled = all(item["label"] is not None for item in items)
        for item in items:
            data = self._transform(dict(item))
            image = data["image"].as_tensor().float()
            if self.facts.classification:
                pair = image.numpy()
            else:
                label = data["label"].as_tensor().float() if labelled else torch.zeros_like(image)
                pair = torch.cat([image, label]).numpy()  # (2, H, W) or (2, X, Y, Z)
            stack = np.moveaxis(pair, 1 + self.facts.slice_axis, 0) if self.facts.dims == 3 else pair[None]
            images.append(stack.astype(np.float16))
            content += [data["content"]] if data["content"] else []
        array = np.concatenate(images)
        unit = Unit(
            case=items[0]["case"],
            volume=items[0]["volume"],
            labelled=labelled,
            shape=array.shape,
            foreground=() if self.facts.classification else tuple(bool(label.any()) for label in array[:, 1] > 0),
            content=tuple(content),
            sources=_sources(items, self.facts),
            labels=self._labels(items, len(array)),
        )
        record = asdict(unit)
        if not self.facts.classification:
            del record["labels"]
        # Containers may share a folder, and process ids.
        scratch = path.with_suffix(f".{socket.gethostname()}-{os.getpid()}.tmp")
        try:
            with scratch.open("wb") as file:
                np.save(file, array)
            os.replace(scratch, path)
            scratch.write_text(json.dumps(record))
            os.replace(scratch, path.with_suffix(".json"))
        except OSError as error:
            raise OSError(f"cannot write the slice store {path}: {error.strerror}; free space or set store_dir.") from error
        finally:
            scratch.unlink(missing_ok=True)
        return unit

    @cached_property
    def units(self) -> list[Unit]:
        """All units, building what is missing, torn or stale."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OSError(f"cannot make the slice store {self.folder} ({error.strerror}); set store_dir.") from error
        found = [self._valid(items, self._path(items)) for items in self._groups]
        missing = sum(unit is None for unit in found)
        if missing:
            jobs = [(i, g) for i, (g, unit) in enumerate(zip(self._groups, found, strict=True)) if unit is None]
            # Processes begin at different places and take what another has meanwhile built: together they build all once.
            start = len(jobs) * dist.get_rank() // dist.get_world_size() if dist.is_initialized() else _place(len(jobs))
            for i, items in tqdm(jobs[start:] + jobs[:start], desc=f"slice store {self.facts.name}", unit="case"):
                path = self._path(items)
                found[i] = self._valid(items, path) or self._build(items, path)
        return [unit for unit in found if unit is not None]

    @property
    def cases(self) -> list[str]:
        return sorted({unit.case for unit in self.units})

    def file(self, unit: int) -> Path:
        """The file of a unit's array, see `Unit`."""
        return self._path(self._groups[unit])

    def content(self) -> dict[str, list[str]]:
        """Case id -> hashes of its image contents."""
        out: dict[str, list[str]] = {}
        for unit in self.units:
            out.setdefault(unit.case, []).extend(unit.content)
        return out

    def foreground(self) -> dict[str, bool]:
        """Case id -> whether any stored slice has foreground."""
        out: dict[str, bool] = {}
        for unit in self.units:
            out[unit.case] = out.get(unit.case, False) or any(unit.foreground)
        return out

    def classes(self) -> dict[str, dict[str, int]]:
        """Case id -> class name -> its number of stored slices, of labelled cases (classification)."""
        names = list(self.facts.classes)
        out: dict[str, dict[str, int]] = {}
        for unit in self.units:
            if unit.labelled:
                counts = out.setdefault(unit.case, {})
                for index in unit.labels:
                    counts[names[index]] = counts.get(names[index], 0) + 1
        return out
