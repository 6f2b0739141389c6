# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import hashlib
import warnings
from collections import Counter
from collections.abc import Mapping

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.data.folds import Split, check_split, make_split, spread

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


def stratified(sizes: list[int]) -> dict[str, int]:
    labels = [label for label, n in enumerate(sizes) for _ in range(n)]
    names = np.random.default_rng(0).permutation(len(labels))
    return {f"toy/{name:04d}": label for name, label in zip(names, labels, strict=True)}


def held(cases: list[str], classes: Mapping[str, int]) -> Counter[int]:
    return Counter(classes[case] for case in cases)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_every_part_and_every_budget_holds_every_class(data: st.DataObject) -> None:
    small = data.draw(st.booleans())
    sizes = data.draw(st.lists(st.integers(5, 30 if small else 90), min_size=2, max_size=4))
    if not small:
        sizes[0] += 200
    classes, fold = stratified(sizes), data.draw(st.integers(0, 7))
    cases, extra = sorted(classes), [f"toy/u{i}" for i in range(3)]
    whole = make_split(cases, fold=fold, classes=classes)
    pool = len(whole.train) + len(whole.val)
    budget = data.draw(st.one_of(st.none(), st.integers(2 * len(sizes), pool)))
    split = make_split([*cases, *extra], fold=fold, target_cases=budget, labelled=cases, classes=classes)
    assert sorted(case for part in split for case in part) == sorted([*cases, *extra])
    assert split.test == whole.test
    for part in split[:3]:
        assert held(part, classes).keys() == set(range(len(sizes)))
    n = len(cases)
    for part, share in ((whole.test, len(whole.test) / n), (whole.train, len(whole.train) / n)):
        for label, count in held(part, classes).items():  # two of each class come first, whatever the shares
            assert abs(count - share * sizes[label]) <= 2 + 2 * len(sizes)


def test_five_folds_predict_every_patient_once_and_share_out_the_classes() -> None:
    classes = stratified([100, 23, 12, 5])
    tests = [make_split(classes, fold=fold, classes=classes).test for fold in range(5)]
    assert Counter(case for test in tests for case in test) == Counter(list(classes))
    for label, n in enumerate([100, 23, 12, 5]):
        assert {held(test, classes)[label] for test in tests} <= {n // 5, -(-n // 5)}


def test_budgets_of_classes_are_nested_and_follow_their_shares() -> None:
    classes, before = stratified([40, 40, 10]), set()
    for budget in range(6, 73):
        split = make_split(classes, fold=1, target_cases=budget, classes=classes)
        chosen = {*split.train, *split.val}
        assert before < chosen and len(chosen) == budget
        before = chosen
        found = held(sorted(chosen), classes)
        if budget >= 20:
            assert abs(found[0] - found[1]) <= 1 and abs(found[2] - budget / 9) <= 2
    with pytest.raises(ValueError, match="the fold has 72 labelled patients, and 3 classes need two each; give 6 to 72"):
        make_split(classes, fold=1, target_cases=5, classes=classes)


def test_training_keeps_the_last_patient_of_a_class() -> None:
    classes = stratified([60, 60, 2])
    for fold in range(5):
        split = make_split(classes, fold=fold, classes=classes)
        assert 2 in held(split.train, classes) or 2 not in held(split.train + split.val, classes)


def test_spread_keeps_the_order_within_a_class() -> None:
    assert spread(list("abcdefgh"), dict(zip("abcdefgh", [1, 1, 1, 1, 1, 1, 0, 0], strict=True))) == list("gahbcdef")


def test_classes_are_split_by_what_is_published() -> None:
    classes = stratified([60, 60])
    published = {case: int(case[-1]) % 5 for case in classes}
    for fold in range(6):
        split = make_split(classes, fold=fold, classes=classes, published=published)
        assert split.test == sorted(case for case in classes if published[case] == fold % 5)
        assert held(split.val, classes).keys() == {0, 1}


def test_the_test_part_of_classes_stays_as_it_is() -> None:
    # written out, because a changed draw would give every published run another test part
    classes = {case: int(i % 3 == 0) for i, case in enumerate(CASES)}
    assert make_split(CASES, fold=3, classes=classes).test == ["toy/p003", "toy/p011", "toy/p014", "toy/p016"]


@pytest.mark.parametrize(("fold", "digest"), [(0, "af826a5f5b0d52d7"), (3, "dbfc85fc5520ece7")])
def test_the_parts_of_a_large_set_of_classes_stay_as_they_are(fold: int, digest: str) -> None:
    # of a class of four too: only one of fewer patients is kept from test for the sake of training and validation
    classes = stratified([130, 120, 4])
    split = make_split(classes, fold=fold, classes=classes)
    assert hashlib.sha256("\n".join(map(str, split)).encode()).hexdigest()[:16] == digest
    assert held(split.test, classes)[2] == 2


OASIS = {0: "non_demented", 1: "very_mild", 2: "mild", 3: "moderate"}
SUBJECTS = [316, 70, 28, 2]  # of OASIS-1, by CDR 0, 0.5, 1, 2


@pytest.mark.parametrize("fold", range(8))
def test_oasis_as_published_can_be_trained(fold: int) -> None:
    classes = stratified(SUBJECTS)
    names = {case: [OASIS[label]] for case, label in classes.items()}
    for budget in (None, 8, 40):
        split = make_split(classes, fold=fold, classes=classes, target_cases=budget)
        with pytest.warns(UserWarning, match=r"the val part is of class moderate, which only 2 patients") as found:
            check_split(split, content={case: [case] for case in classes}, classes=names)
        assert len(found) == 1
        train, val, test, _ = (held(part, classes) for part in split)
        assert train.keys() == test.keys() == {0, 1, 2, 3} and val.keys() == {0, 1, 2}
        assert train[3] == test[3] == 1
    whole = make_split(classes, fold=fold, classes=classes)
    assert [len(part) for part in whole] == [334, 41, 41, 0]
    assert all(abs(held(part, classes)[k] - SUBJECTS[k] / 10) <= 2 for part in whole[1:3] for k in range(3))


@pytest.mark.parametrize(("few", "parts"), [(1, [1, 0, 0]), (2, [1, 0, 1]), (3, [1, 1, 1]), (4, [1, 1, 2])])
def test_the_few_patients_of_a_class_go_to_training_then_test_then_validation(few: int, parts: list[int]) -> None:
    classes = stratified([150, 100, few])
    for fold in range(8):
        split = make_split(classes, fold=fold, classes=classes)
        assert [held(part, classes)[2] for part in split[:3]] == parts
        assert [len(part) for part in split[:3]] == [len(classes) - 2 * 25, 25, 25]


PARTS = {"toy/a": ["ill", "well"], "toy/b": ["ill", "well"], "toy/c": ["well", "ill"]}


@pytest.mark.parametrize(("case", "part"), [("toy/a", "train"), ("toy/b", "val"), ("toy/c", "test")])
def test_refuses_a_part_without_a_class(case: str, part: str) -> None:
    check_split(SPLIT, content=CONTENT, classes=PARTS)
    with pytest.raises(ValueError, match=rf"no image of the {part} part is of class ill, which only 2 patients have \(toy/"):
        check_split(SPLIT, content=CONTENT, classes=PARTS | {case: ["well"]})


@pytest.mark.parametrize("part", ["val", "unlabelled"])
def test_refuses_leaks_of_images_to_classify(part: str) -> None:
    with pytest.raises(ValueError, match=f"patient toy/a is in the parts train and {part}"):
        check_split(SPLIT._replace(**{part: [*getattr(SPLIT, part), "toy/a"]}), content=CONTENT, classes=PARTS)
    with pytest.raises(ValueError, match="hold the same image"):
        check_split(SPLIT, content=CONTENT | {"toy/d": ["toy/a"]}, classes=PARTS)


@pytest.mark.parametrize(("few", "refused"), [(4, False), (5, True)])
@pytest.mark.parametrize("part", ["train", "val", "test"])
def test_a_class_may_be_absent_for_want_of_patients_but_not_from_training(part: str, few: int, refused: bool) -> None:
    """Below 200 patients five folds need five of a class."""
    parts = {name: [f"toy/{name}_ill", f"toy/{name}_well"] for name in ("train", "val", "test")}
    others = [name for name in parts if name != part]
    for number in range(few):
        parts[others[number % 2]].append(f"toy/{number}_rare")
    split = Split(**parts, unlabelled=[])
    classes = {case: [case.rpartition("_")[2]] for cases in parts.values() for case in cases}
    message = rf"the {part} part is of class rare, which only {few} patients have \(toy/0_rare"
    if refused or part == "train":
        with pytest.raises(ValueError, match=message):
            check_split(split, content={}, classes=classes)
    else:
        with pytest.warns(UserWarning, match=message + ".*too few for every part"):
            check_split(split, content={}, classes=classes)


def test_a_class_of_many_patients_is_refused_where_it_is_absent_and_a_whole_split_is_silent() -> None:
    classes = stratified([150, 100, 3])
    names = {case: [str(label)] for case, label in classes.items()}
    split = make_split(classes, fold=0, classes=classes)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_split(split, content={}, classes=names)
    moved = [case for case in split.val if classes[case] != 2]
    with pytest.raises(ValueError, match="the val part is of class 2, which only 3 patients have"):
        check_split(split._replace(val=moved), content={}, classes=names)
