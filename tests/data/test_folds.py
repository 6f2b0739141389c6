# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.data.folds import Split, check_split, make_split

CASES = [f"toy/p{i:03d}" for i in range(23)]


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_the_parts_are_disjoint_and_hold_every_case(data: st.DataObject) -> None:
    n = data.draw(st.one_of(st.integers(5, 60), st.integers(195, 230)))
    cases = [f"toy/{i}" for i in range(n)]
    without = data.draw(st.sets(st.sampled_from(cases), max_size=n - 5))
    fold = data.draw(st.integers(0, 12))
    labelled = [case for case in cases if case not in without]
    pool = len(make_split(cases, fold=fold, labelled=labelled).train) + len(make_split(cases, fold=fold, labelled=labelled).val)
    budget = data.draw(st.one_of(st.none(), st.integers(2, pool)))
    split = make_split(cases, fold=fold, target_cases=budget, labelled=labelled)
    assert sorted(case for part in split for case in part) == sorted(cases)
    assert all(part == sorted(part) for part in split)
    assert split.train and split.val and split.test
    assert without <= set(split.unlabelled)
    if budget is None:
        assert set(split.unlabelled) == without
    else:
        assert len(split.train) + len(split.val) == budget
    # the test part is that of the labelled cases, whatever the budget: what an evaluation without either sees
    assert split.test == make_split(labelled, fold=fold).test


@pytest.mark.parametrize("n", [5, 23, 199])
def test_five_folds_predict_every_patient_once(n: int) -> None:
    cases = [f"toy/{i}" for i in range(n)]
    tested = Counter(case for fold in range(5) for case in make_split(cases, fold=fold).test)
    assert tested == Counter(cases)
    assert make_split(cases, fold=5).test == make_split(cases, fold=0).test


def test_a_large_set_is_split_80_10_10_anew_for_every_fold() -> None:
    cases = [f"toy/{i}" for i in range(250)]
    splits = [make_split(cases, fold=fold) for fold in range(3)]
    assert all([len(part) for part in split] == [200, 25, 25, 0] for split in splits)
    assert len({tuple(split.test) for split in splits}) == 3


def test_depends_on_the_set_of_cases_and_the_fold_only() -> None:
    split = make_split(CASES, fold=3)
    assert make_split(reversed(CASES + CASES), fold=3) == split
    assert make_split(CASES, fold=4).test != split.test
    # written out, because a changed draw would give every published run another test part
    assert split.test == ["toy/p010", "toy/p012", "toy/p017", "toy/p019"]


def test_budgets_are_nested() -> None:
    before: set[str] = set()
    for budget in range(2, 19):
        split = make_split(CASES, fold=1, target_cases=budget)
        chosen = {*split.train, *split.val}
        assert before < chosen
        before = chosen
        assert len(split.val) == max(1, round(0.15 * budget))
    assert before.isdisjoint(make_split(CASES, fold=1).test)


def test_refuses_too_few_cases_and_a_budget_that_cannot_be_met() -> None:
    with pytest.raises(ValueError, match=r"toy: 4 labelled patients of 4 \(toy/p000, .*at least 5"):
        make_split(CASES[:4], fold=0)
    with pytest.raises(ValueError, match="4 labelled patients of 23"):
        make_split(CASES, fold=0, labelled=CASES[:4])
    for budget in (1, 19):
        with pytest.raises(ValueError, match=f"target_cases: {budget}; the fold has 18 labelled patients; give 2 to 18"):
            make_split(CASES, fold=0, target_cases=budget)


SPLIT = Split(["toy/a"], ["toy/b"], ["toy/c"], ["toy/d"])
CONTENT = {case: [case] for part in SPLIT for case in part}
FOREGROUND = {"toy/a": True, "toy/b": True, "toy/c": True, "toy/d": False}


def test_accepts_a_clean_split_and_equal_images_in_one_part() -> None:
    check_split(SPLIT, content=CONTENT, foreground=FOREGROUND)
    check_split(
        SPLIT._replace(train=["toy/a", "toy/e"]),
        content=CONTENT | {"toy/e": ["toy/a"]},
        foreground=FOREGROUND | {"toy/e": False},
    )


@pytest.mark.parametrize("part", ["val", "test", "unlabelled"])
def test_refuses_a_patient_in_two_parts(part: str) -> None:
    leaking = SPLIT._replace(**{part: [*getattr(SPLIT, part), "toy/a"]})
    with pytest.raises(ValueError, match=f"patient toy/a is in the parts train and {part}"):
        check_split(leaking, content=CONTENT, foreground=FOREGROUND)


@pytest.mark.parametrize(("case", "part"), [("toy/b", "val"), ("toy/c", "test"), ("toy/d", "unlabelled")])
def test_refuses_equal_images_in_two_parts(case: str, part: str) -> None:
    content = CONTENT | {case: ["other", "toy/a"]}
    with pytest.raises(ValueError, match=rf"{case} \({part}\) and toy/a \(train\) hold the same image"):
        check_split(SPLIT, content=content, foreground=FOREGROUND)


@pytest.mark.parametrize(("case", "part"), [("toy/a", "train"), ("toy/b", "val"), ("toy/c", "test")])
def test_refuses_a_part_without_foreground(case: str, part: str) -> None:
    with pytest.raises(ValueError, match=rf"no case of the {part} part has any foreground \({case}\)"):
        check_split(SPLIT, content=CONTENT, foreground=FOREGROUND | {case: False})
