# SPDX-License-Identifier: Apache-2.0
"""What a run trains on: the stores and splits of its datasets, checked against each other."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from monai.transforms import Compose

from .confounded import check_confounded
from .draws import JointDraws, SliceDraws, StoredSlices
from .facts import Facts, Item, load_facts, with_class
from .folds import Split, check_split, make_split, spread
from .store import SliceStore

__all__ = ["Fold", "FoldData", "class_counts", "folds", "joint_draws", "pooled_draws", "split_items", "validation_slices"]


class Fold:
    """One dataset's facts, slice store and split, of one fold; not `labelled`: its labels are not read (r = 0)."""

    def __init__(self, facts: Facts, store: SliceStore, split: Split, *, labelled: bool = True) -> None:
        self.facts, self.store, self.split, self.labelled = facts, store, split, labelled

    @property
    def class_counts(self) -> list[int]:
        """Images of each class in the training part (their shares are `f_c` of eq. 14), in the order of the classes."""
        found = self.store.classes()
        return [sum(found[case].get(name, 0) for case in self.split.train) for name in self.facts.classes]


FoldData = dict[str, Fold]


def list_items(facts: Facts, data_dir: str | Path) -> list[Item]:
    """The items of a dataset under `<data_dir>/<dataset>`; a missing or empty folder is refused by name.

    For classification, every label is checked (see `Facts.class_of`), and images of a label in no class are left out.
    """
    root = Path(data_dir) / facts.name
    if not root.is_dir():
        raise FileNotFoundError(f"dataset folder {root} does not exist; put dataset {facts.name} there or set data_dir.")
    items = facts.reader(root)
    if not items:
        raise ValueError(f"dataset folder {root} holds no cases in the layout of {facts.name}.")
    return with_class(facts, items) if facts.classification else items


def split_items(facts: Facts, items: Iterable[Item], *, fold: int, target_cases: int | None = None) -> Split:
    """The split of a dataset's items for `fold`, see `make_split`; it depends on cases, classes and published folds only.

    Raises:
        ValueError: see `make_split`; or a patient whose images are published in two folds.
    """
    items = with_class(facts, items) if facts.classification else list(items)
    labelled = {item["case"] for item in items if item["label"] is not None}
    counts: dict[str, Counter[int]] = {}
    published: dict[str, int] = {}
    for item in items:
        if facts.classification and (index := facts.class_of(item)) is not None:
            counts.setdefault(item["case"], Counter())[index] += 1
        if "fold" in item and published.setdefault(item["case"], item["fold"]) != item["fold"]:
            raise ValueError(f"patient {item['case']} is published in two folds; split by patient.")
    classes = {case: min(found, key=lambda k: (-found[k], k)) for case, found in counts.items()}
    return make_split(
        (item["case"] for item in items),
        fold=fold,
        target_cases=target_cases,
        labelled=labelled,
        classes=classes if facts.classification else None,
        published=published,
    )


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
    unlabelled: Sequence[str] = (),
) -> FoldData:
    """Stores and splits of `datasets` for `fold`, checked for leaks inside and between datasets.

    Decision: masks of an `unlabelled` dataset are not even opened, for which it has a second store, of images alone. Its
    classes (classification) still stratify its folds, see `make_split`, and its cut to equal volume, and must be known ones;
    nothing else reads them.

    Args:
        target: the dataset whose labels `target_cases` limits (see `make_split`).
        equal_volume: number of teachers K: every dataset keeps `1/K` of the target's training patients, so that all together
            hold as many as the target alone (the control of equal data volume). One that has fewer keeps all, with a warning.
        unlabelled: datasets whose labels this run must not read (r = 0); what their labels lack or hold stops no run.

    Raises:
        ValueError: a dataset named twice (a target equal to a source), a leak, equal images in two datasets, a part without
            foreground, a class that no image or no image of a part has (see `check_split`).
    Warns:
        UserWarning: a source's training images are of one class only; a class has too few patients for every part.
    """
    repeated = {d for d in datasets if list(datasets).count(d) > 1}
    if repeated:
        raise ValueError(f"dataset {', '.join(sorted(repeated))} is named twice; a source must differ from the target.")
    out: FoldData = {}
    owner: dict[str, str] = {}
    for name in datasets:
        facts = load_facts(group_file, name)
        items = list_items(facts, data_dir)
        labelled = name not in unlabelled
        store = SliceStore(store_dir, facts, items, image_size, masks=labelled)
        split = split_items(facts, items, fold=fold, target_cases=target_cases if name == target else None)
        if name == target and facts.classification and len(facts.classes) == 1:
            only = next(iter(facts.classes))
            raise ValueError(f"dataset {name}, the target, has one class ({only}); a classifier needs two.")
        if not labelled:
            check_split(split, content=store.content())
        elif facts.classification:
            _check_classes(facts, store)
            check_split(split, content=store.content(), classes=store.classes())
        else:
            check_split(split, content=store.content(), foreground=store.foreground())
        for case, digests in store.content().items():
            for digest in digests:
                if digest in owner:
                    raise ValueError(f"{case} and {owner[digest]} hold the same image in two datasets; remove one of them.")
            owner.update(dict.fromkeys(digests, case))
        out[name] = Fold(facts, store, split, labelled=labelled)
    if equal_volume is not None:
        _subsample(out, target, equal_volume, fold)
    # of a dataset whose labels are not read nothing is said, but it may make another's domain tell the class
    classes = {n: entry.store.classes() if entry.labelled else {} for n, entry in out.items() if entry.facts.classification}
    check_confounded({n: {c for case in out[n].split.train for c in found.get(case, ())} for n, found in classes.items()})
    return out


def _check_classes(facts: Facts, store: SliceStore) -> None:
    """Refuse a class without images."""
    present = {name for counts in store.classes().values() for name in counts}
    absent = [name for name in facts.classes if name not in present]
    if absent:
        fix = "add some, or take the class out of the group file's classes"
        raise ValueError(f"dataset {facts.name} has no image of class {', '.join(absent)}; {fix}.")


def _subsample(data: FoldData, target: str, teachers: int, fold: int) -> None:
    """Cut every training part to `1/teachers` of the target's size, deterministically by fold."""
    if target in data:
        size = len(data[target].split.train)
    else:
        raise ValueError(f"equal_volume needs the target {target} among the datasets {', '.join(data)}.")
    keep = max(1, size // teachers)
    for name, entry in data.items():
        train = entry.split.train
        if len(train) < keep:  # no other can stand in: each teacher's run knows its own dataset and the target only
            warnings.warn(
                f"equal_volume: {name} has {len(train)} training patients, fewer than its share of {keep}; together the"
                f" datasets stay below the {size} of {target}",
                stacklevel=3,
            )
        order = [train[i] for i in np.random.default_rng([2, fold]).permutation(len(train))]
        if entry.facts.classification:
            names, found = list(entry.facts.classes), entry.store.classes()
            order = spread(order, {case: names.index(max(found[case], key=lambda n: found[case][n])) for case in train})
        entry.split = entry.split._replace(train=sorted(order[:keep]))  # the others are in no part


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


def class_counts(data: FoldData) -> list[int]:
    """Images of each class in the training parts of datasets of the same classes, together (classification)."""
    return [sum(counts) for counts in zip(*(entry.class_counts for entry in data.values()), strict=True)]


def joint_draws(
    data: FoldData,
    *,
    length: int,
    seed: int,
    foreground_share: float = 0.5,
    augment: Compose | None = None,
    wide: Sequence[str] = (),
    one_head: bool = False,
) -> JointDraws:
    """One stream a dataset, in the order of `data`; one whose labels are not read (r = 0) has none and is drawn uniformly.

    Args:
        wide: datasets that together make one more stream `wide` without labels: their training patients and their unlabelled
            ones; they get no stream of their own unless they are the first dataset.
        one_head: one head learns all labels: a dataset whose classes are not the first one's, in its order, gets no stream,
            for a label there means something else.

    Warns:
        UserWarning: `one_head` leaves a dataset out; names it and both class lists.
    """
    streams: dict[str, SliceDraws] = {}
    target = next(iter(data))
    for number, (name, entry) in enumerate(data.items()):
        if wide and name != target:
            continue
        if one_head and entry.labelled and _left_out(data[target].facts, entry.facts):
            continue
        streams[name] = SliceDraws(
            [(entry.store, entry.split.train)],
            length=length,
            seed=seed,
            foreground_share=foreground_share if entry.labelled else 0.0,
            labelled=entry.labelled,
            augment=augment,
            stream=number,
        )
    if wide:
        parts = [(data[name].store, [*data[name].split.train, *data[name].split.unlabelled]) for name in wide]
        streams["wide"] = SliceDraws(
            parts, length=length, seed=seed, foreground_share=0.0, labelled=False, augment=augment, stream=len(data)
        )
    return JointDraws(streams)


def _left_out(target: Facts, source: Facts) -> bool:
    """Whether a head of the target's classes cannot learn the source's labels; says so if it is."""
    ours, theirs = list(target.classes), list(source.classes)
    if ours != theirs:
        warnings.warn(
            f"dataset {source.name} has the classes {theirs}, the target {target.name} has {ours}: its labels are left out of "
            "training; give both the same classes in the group file to use them.",
            stacklevel=3,
        )
    return ours != theirs


def validation_slices(entry: Fold) -> StoredSlices:
    """Every stored slice of the fold's validation patients."""
    return StoredSlices(entry.store, entry.split.val)
