# SPDX-License-Identifier: Apache-2.0
"""Splits by patient: deterministic, written to the run, refused when anything leaks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

__all__ = ["Split", "check_split", "make_split"]

SMALL = 200  # cases; under it a test share of a tenth proves nothing, and every case is predicted once in five folds
FOLDS = 5
VALIDATION_SHARE = 0.15


class Split(NamedTuple):
    """Case ids of one fold; `unlabelled` are training cases whose labels must not be read."""

    train: list[str]
    val: list[str]
    test: list[str]
    unlabelled: list[str]


def make_split(
    cases: Iterable[str], *, fold: int, target_cases: int | None = None, labelled: Iterable[str] | None = None
) -> Split:
    """Split patients for `fold` (a study's seed).

    Under 200 cases: five folds, test = `fold % 5`, so that every case is predicted once; else 80/10/10 drawn by `fold`.
    `target_cases` is a label budget: that many labelled patients in all, validation included (15 %, at least one); the other
    training patients become `unlabelled`. Budgets are nested: the ten contain the five. `labelled` restricts which cases have
    labels at all (default: every one).

    Raises:
        ValueError: fewer than five cases, or a budget that is under 2 or above what the fold has.
    """
    cases = sorted(set(cases))
    has_label = set(cases if labelled is None else labelled)
    extra = [case for case in cases if case not in has_label]
    cases = [case for case in cases if case in has_label]
    if len(cases) < FOLDS:
        name = (cases + extra or ["no case"])[0].split("/")[0]
        raise ValueError(
            f"{name}: {len(cases)} labelled patients of {len(cases) + len(extra)} ({', '.join(cases) or 'none'}) are"
            f" too few; at least"
            f" {FOLDS} are needed: add patients or their masks."
        )
    if len(cases) < SMALL:
        order = np.random.default_rng(0).permutation(len(cases))
        test = [cases[i] for i in order[fold % FOLDS :: FOLDS]]
    else:
        order = np.random.default_rng(fold).permutation(len(cases))
        test = [cases[i] for i in order[: len(cases) // 10]]
    pool = [case for case in cases if case not in set(test)]
    pool = [pool[i] for i in np.random.default_rng([1, fold]).permutation(len(pool))]
    budget = len(pool) if target_cases is None else target_cases
    if not isinstance(budget, int) or not 2 <= budget <= len(pool):
        raise ValueError(f"target_cases: {budget!r}; the fold has {len(pool)} labelled patients; give 2 to {len(pool)}.")
    n_val = len(cases) // 10 if len(cases) >= SMALL and target_cases is None else max(1, round(VALIDATION_SHARE * budget))
    chosen, rest = pool[:budget], pool[budget:]
    # the validation patients stand first, so that budgets nest in both parts as closely as their shares allow
    return Split(sorted(chosen[n_val:]), sorted(chosen[:n_val]), sorted(test), sorted(rest + extra))


def check_split(split: Split, *, content: Mapping[str, Sequence[str]], foreground: Mapping[str, bool]) -> None:
    """Refuse a split that leaks or cannot be learned from.

    Args:
        split: the split.
        content: case id -> hashes of its image contents.
        foreground: case id -> whether any of its labels has a foreground voxel.

    Raises:
        ValueError: a patient in two parts, equal images in two parts, or a part without any foreground; names the cases.
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
        if part != "unlabelled" and not any(foreground.get(case, False) for case in cases):
            raise ValueError(
                f"no case of the {part} part has any foreground ({', '.join(cases)}); use another fold or seed, or"
                f" check the masks."
            )
