# SPDX-License-Identifier: Apache-2.0
"""Splits by patient: deterministic, written to the run, refused when anything leaks."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

__all__ = ["Split", "check_split", "make_split", "spread"]

SMALL = 200  # cases; under it a test share of a tenth proves nothing, and every case is predicted once in five folds
FOLDS = 5
VALIDATION_SHARE = 0.15


class Split(NamedTuple):
    """Case ids of one fold; `unlabelled` are training cases whose labels must not be read."""

    train: list[str]
    val: list[str]
    test: list[str]
    unlabelled: list[str]


def spread(cases: Sequence[str], classes: Mapping[str, int]) -> list[str]:
    """Reorder cases so that every beginning holds every class, and each about in its share.

    One case of each class comes first, then a second of each, then the others: the j-th of a class's n by `(j + 1/2) / n`.
    Within a class the order stays.
    """
    members: dict[int, list[str]] = {}
    for case in cases:
        members.setdefault(classes[case], []).append(case)
    ranked = [
        (j if j < 2 else 2, (j + 0.5) / len(group) if j >= 2 else 0.0, label, case)
        for label, group in sorted(members.items())
        for j, case in enumerate(group)
    ]
    return [case for _, _, _, case in sorted(ranked, key=lambda r: r[:3])]


def _first(cases: Sequence[str], n: int, classes: Mapping[str, int], *, parts: int) -> list[str]:
    """The first `n` cases, but for the last ones of a class, of which each of `parts` other parts needs one.

    Training comes first: a class's only case is not taken, and of two the second part gets one, whatever `parts` is.
    """
    left = Counter(classes[case] for case in cases)
    kept = {label: min(parts, max(1, size - 1)) for label, size in left.items()}
    taken: list[str] = []
    for case in cases:
        label = classes[case]
        if len(taken) < n and left[label] > kept[label]:
            left[label] -= 1
            taken.append(case)
    return taken


def _test(cases: Sequence[str], fold: int, classes: Mapping[str, int] | None, published: Mapping[str, int]) -> list[str]:
    """The test part of `fold`; see `make_split`."""
    if published:
        number = 1 + max(published.values())
        return [case for case in cases if published[case] == fold % number]
    if len(cases) < SMALL:
        ordered = [cases[i] for i in np.random.default_rng(0).permutation(len(cases))]
        if classes is not None:
            ordered.sort(key=lambda case: classes[case])  # stable: every fifth case is then a fifth of each class
        return ordered[fold % FOLDS :: FOLDS]
    ordered = [cases[i] for i in np.random.default_rng(fold).permutation(len(cases))]
    n = len(cases) // 10
    return ordered[:n] if classes is None else _first(spread(ordered, classes), n, classes, parts=2)


def make_split(
    cases: Iterable[str],
    *,
    fold: int,
    target_cases: int | None = None,
    labelled: Iterable[str] | None = None,
    classes: Mapping[str, int] | None = None,
    published: Mapping[str, int] | None = None,
) -> Split:
    """Split patients for `fold` (a study's seed).

    Under 200 cases: five folds, test = `fold % 5`, so that every case is predicted once; else 80/10/10 drawn by `fold`.
    `target_cases` is a label budget: that many labelled patients in all, validation included (15 %, at least one); the other
    training patients become `unlabelled`. Budgets are nested: the ten contain the five. `labelled` restricts which cases have
    labels at all (default: every one).

    For classification, `classes` (labelled case -> its commonest class) stratifies: test, validation and every budget hold
    each class about in its share, and at least one patient of each where there are enough; a budget needs two a class.
    Decision: a class of few patients (OASIS has two of CDR 2) is given to training first, then to test, then to validation;
    below 200 cases test stays every fifth patient of a class, so that each is predicted once.
    Decision: stratified also where a target's labels are not read in training (r = 0), as the folds of all arms must be equal.
    `published` gives the test fold 0, 1, ... of each case where the dataset publishes folds.

    Raises:
        ValueError: fewer than five cases, or a budget that is under 2 (a class) or above what the fold has.
    """
    cases = sorted(set(cases))
    has_label = set(cases if labelled is None else labelled)
    extra = [case for case in cases if case not in has_label]
    cases = [case for case in cases if case in has_label]
    if len(cases) < FOLDS:
        name = (cases + extra or ["no case"])[0].split("/")[0]
        raise ValueError(
            f"{name}: {len(cases)} labelled patients of {len(cases) + len(extra)} ({', '.join(cases) or 'none'}) are"
            f" too few; at least {FOLDS} are needed: add patients, or label more of them."
        )
    test = _test(cases, fold, classes, published or {})
    held_out = set(test)
    pool = [case for case in cases if case not in held_out]
    pool = [pool[i] for i in np.random.default_rng([1, fold]).permutation(len(pool))]
    if classes is not None:
        pool = spread(pool, classes)
    kinds = 1 if classes is None else len(set(classes.values()))
    budget = len(pool) if target_cases is None else target_cases
    least = 2 if target_cases is None else 2 * kinds
    if not isinstance(budget, int) or not least <= budget <= len(pool):
        why = f", and {kinds} classes need two each" if kinds > 1 else ""
        has = f"the fold has {len(pool)} labelled patients{why}"
        raise ValueError(f"target_cases: {budget!r}; {has}; give {least} to {len(pool)}.")
    n_val = len(cases) // 10 if len(cases) >= SMALL and target_cases is None else max(kinds, round(VALIDATION_SHARE * budget))
    chosen, rest = pool[:budget], pool[budget:]
    # the validation patients stand first, so that budgets nest in both parts as closely as their shares allow
    val = chosen[:n_val] if classes is None else _first(chosen, n_val, classes, parts=1)
    return Split(sorted(set(chosen) - set(val)), sorted(val), sorted(test), sorted(rest + extra))


def check_split(
    split: Split,
    *,
    content: Mapping[str, Sequence[str]],
    foreground: Mapping[str, bool] | None = None,
    classes: Mapping[str, Collection[str]] | None = None,
) -> None:
    """Refuse a split that leaks or cannot be learned from.

    Args:
        split: the split.
        content: case id -> hashes of its image contents.
        foreground: case id -> whether any of its labels has a foreground voxel (segmentation).
        classes: labelled case id -> the classes of its images (classification); every one must be in every part, but see below.

    Decision: a class of fewer patients than there are parts (three; below 200 cases five, the folds) may be absent from
    validation or test, which is warned of, as long as the part has two classes to tell apart. It counts in no metric there:
    balanced accuracy is over the classes present, AUROC is undefined in test.

    Raises:
        ValueError: a patient in two parts, equal images in two parts, or a part without any foreground or without a class;
            names the cases or the class.
    Warns:
        UserWarning: validation or test is without a class of so few patients.
    """
    owner: dict[str, str] = {}
    seen: dict[str, tuple[str, str]] = {}
    for part, cases in split._asdict().items():
        for case in cases:
            if case in owner:
                raise ValueError(f"patient {case} is in the parts {owner[case]} and {part}; split by patient.")
            owner[case] = part
            for digest in content.get(case, ()):
                other = seen.setdefault(digest, (case, part))
                if other[1] != part:
                    raise ValueError(f"{case} ({part}) and {other[0]} ({other[1]}) hold the same image; remove one of them.")
        if part == "unlabelled":
            continue
        if classes is not None:
            _check_classes(part, cases, classes)
        if foreground is not None and not any(foreground.get(case, False) for case in cases):
            raise ValueError(
                f"no case of the {part} part has any foreground ({', '.join(cases)}); use another fold or seed, or"
                f" check the masks."
            )


def _check_classes(part: str, cases: Sequence[str], classes: Mapping[str, Collection[str]]) -> None:
    every = {name for found in classes.values() for name in found}
    present = {name for case in cases for name in classes.get(case, ())}
    few = FOLDS if len(classes) < SMALL else len(Split._fields) - 1
    for name in sorted(every - present):
        has = sorted(case for case, found in classes.items() if name in found)
        only = f"no image of the {part} part is of class {name}, which only {len(has)} patients have ({', '.join(has[:8])})"
        if part == "train" or len(present) < 2 or len(has) >= few:
            raise ValueError(f"{only}; use another fold or seed, add patients, or take the class out.")
        warnings.warn(
            f"{only}: too few for every part. Its metrics there leave the class out; add patients, or take the class out.",
            stacklevel=3,
        )
