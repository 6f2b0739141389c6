# SPDX-License-Identifier: Apache-2.0
"""What a run trains on: the stores and splits of its datasets, checked against each other."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from monai.transforms import Compose

from .draws import JointDraws, SliceDraws, StoredSlices
from .facts import Facts, Item, load_facts
from .folds import Split, check_split, make_split
from .store import SliceStore

__all__ = ["Fold", "FoldData", "folds", "joint_draws", "pooled_draws", "validation_slices"]


class Fold:
    """One dataset's facts, slice store and split, of one fold."""

    def __init__(self, facts: Facts, store: SliceStore, split: Split) -> None:
        self.facts, self.store, self.split = facts, store, split


FoldData = dict[str, Fold]


def list_items(facts: Facts, data_dir: str | Path) -> list[Item]:
    """The items of a dataset under `<data_dir>/<dataset>`; a missing or empty folder is refused by name."""
    root = Path(data_dir) / facts.name
    if not root.is_dir():
        raise FileNotFoundError(f"dataset folder {root} does not exist; put dataset {facts.name} there or set data_dir.")
    items = facts.reader(root)
    if not items:
        raise ValueError(f"dataset folder {root} holds no cases in the layout of {facts.name}.")
    return items


def folds(
    datasets: Sequence[str],
    *,
    group_file: str,
    data_dir: str,
    store_dir: str,
    image_size: int,
    fold: int,
    target: str,
    target_cases: int | None = None,
    equal_volume: int | None = None,
) -> FoldData:
    """Stores and splits of `datasets` for `fold`, checked for leaks inside and between datasets.

    Args:
        target: the dataset whose labels `target_cases` limits (see `make_split`).
        equal_volume: number of teachers K: every dataset keeps `1/K` of the target's training patients, so that all together
            hold as many as the target alone (the control of equal data volume).

    Raises:
        ValueError: a dataset named twice (a target equal to a source), a leak, equal images in two datasets.
    """
    repeated = {d for d in datasets if list(datasets).count(d) > 1}
    if repeated:
        raise ValueError(f"dataset {', '.join(sorted(repeated))} is named twice; a source must differ from the target.")
    out: FoldData = {}
    owner: dict[str, str] = {}
    for name in datasets:
        facts = load_facts(group_file, name)
        store = SliceStore(store_dir, facts, list_items(facts, data_dir), image_size)
        labelled = {unit.case for unit in store.units if unit.labelled}
        budget = target_cases if name == target else None
        split = make_split(store.cases, fold=fold, target_cases=budget, labelled=labelled)
        check_split(split, content=store.content(), foreground=store.foreground())
        for case, digests in store.content().items():
            for digest in digests:
                if digest in owner:
                    raise ValueError(f"{case} and {owner[digest]} hold the same image in two datasets; remove one of them.")
            owner.update(dict.fromkeys(digests, case))
        out[name] = Fold(facts, store, split)
    if equal_volume is not None:
        _subsample(out, target, equal_volume, fold)
    return out


def _subsample(data: FoldData, target: str, teachers: int, fold: int) -> None:
    """Cut every training part to `1/teachers` of the target's size, deterministically by fold."""
    if target in data:
        size = len(data[target].split.train)
    else:
        raise ValueError(f"equal_volume needs the target {target} among the datasets {', '.join(data)}.")
    keep = max(1, size // teachers)
    for entry in data.values():
        train = entry.split.train
        order = np.random.default_rng([2, fold]).permutation(len(train))
        entry.split = entry.split._replace(train=sorted(train[i] for i in order[:keep]))  # the others are in no part


def pooled_draws(
    data: FoldData,
    *,
    length: int,
    seed: int,
    foreground_share: float = 0.5,
    augment: Compose | None = None,
    stream: int = 0,
) -> SliceDraws:
    """Labelled training slices of all datasets in one pool (one dataset: training alone).

    Raises:
        ValueError: the datasets' class lists differ, so that one head cannot serve them.
    """
    classes = {name: tuple(entry.facts.classes) for name, entry in data.items()}
    if len(set(classes.values())) > 1:
        raise ValueError(f"datasets with different classes cannot share one head: {classes}.")
    parts = [(entry.store, entry.split.train) for entry in data.values()]
    return SliceDraws(parts, length=length, seed=seed, foreground_share=foreground_share, augment=augment, stream=stream)


def joint_draws(
    data: FoldData,
    *,
    length: int,
    seed: int,
    foreground_share: float = 0.5,
    augment: Compose | None = None,
    unlabelled: Sequence[str] = (),
    wide: Sequence[str] = (),
) -> JointDraws:
    """One stream a dataset, in the order of `data`.

    Args:
        unlabelled: datasets whose labels are neither read nor used to choose slices (r = 0).
        wide: datasets that together make one more stream `wide` without labels: their training patients and their unlabelled
            ones; they get no stream of their own unless they are the first dataset.
    """
    streams: dict[str, SliceDraws] = {}
    target = next(iter(data))
    for number, (name, entry) in enumerate(data.items()):
        if wide and name != target:
            continue
        free = name in unlabelled
        streams[name] = SliceDraws(
            [(entry.store, entry.split.train)],
            length=length,
            seed=seed,
            foreground_share=0.0 if free else foreground_share,
            labelled=not free,
            augment=augment,
            stream=number,
        )
    if wide:
        parts = [(data[name].store, [*data[name].split.train, *data[name].split.unlabelled]) for name in wide]
        streams["wide"] = SliceDraws(
            parts, length=length, seed=seed, foreground_share=0.0, labelled=False, augment=augment, stream=len(data)
        )
    return JointDraws(streams)


def validation_slices(entry: Fold) -> StoredSlices:
    """Every stored slice of the fold's validation patients."""
    return StoredSlices(entry.store, entry.split.val)
