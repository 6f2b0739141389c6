# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from common.data.facts import Facts
from common.data.fold import (
    FoldData,
    class_counts,
    folds,
    joint_draws,
    list_items,
    pooled_draws,
    split_items,
    validation_slices,
)
from common.data.folds import make_split
from common.errors import root_cause
from common.phantoms.layouts import write_dataset

ROOT = Path(__file__).parents[2]
Make = Callable[..., FoldData]


@pytest.fixture
def make(tmp_path: Path, toy: Callable[..., Facts]) -> Make:
    """`make(a=10, b=8, **options of folds)`: data sets a and b of so many patients, and their folds."""

    def make(a: int = 10, b: int = 8, **options) -> FoldData:
        entries = {}
        for name, patients in (("a", a), ("b", b)):
            if not (tmp_path / "data" / name).exists():
                toy(name, patients=patients, images=2)
            entries[name] = {"classes": {"lv": [7]}, "label_values": [0, 7], "percentiles": [1, 99], "dims": 2}
        group = tmp_path / "group.yaml"
        group.write_text(yaml.safe_dump({"group": "toys", "task": "segmentation", "datasets": entries}))
        settings = {
            "datasets": ["a", "b"],
            "group_file": str(group),
            "data_dir": str(tmp_path / "data"),
            "store_dir": str(tmp_path / "store"),
            "image_size": 16,
            "fold": 0,
            "target": "a",
        }
        return folds(**(settings | options))

    return make


def test_each_dataset_has_its_facts_store_and_split(make: Make) -> None:
    data = make(fold=3)
    assert list(data) == ["a", "b"]
    for name, entry in data.items():
        assert entry.facts.name == name
        assert entry.split == make_split(entry.store.cases, fold=3)
    assert list(make(fold=3, datasets=["b", "a"])) == ["b", "a"]


def test_refuses_a_dataset_twice_and_a_folder_without_data(make: Make, tmp_path: Path, toy) -> None:
    with pytest.raises(ValueError, match="dataset a is named twice; a source must differ from the target"):
        make(datasets=["a", "b", "a"])
    with pytest.raises(FileNotFoundError, match=r"dataset folder .*elsewhere/a does not exist.*set data_dir"):
        make(data_dir=str(tmp_path / "elsewhere"))
    with pytest.raises(ValueError, match=r"data/c holds no cases"):
        list_items(replace(toy("c"), reader=lambda root: []), tmp_path / "data")


@pytest.mark.parametrize("where", ["a/p03_0.png", "b/p01_1.png"])
def test_refuses_equal_images_in_two_parts_or_two_datasets(make: Make, tmp_path: Path, where: str) -> None:
    split = make()["a"].split
    assert "a/p03" not in split.test
    first = f"{split.test[0]}_1.png"
    content = (tmp_path / "data" / first).read_bytes()
    (tmp_path / "data" / where).write_bytes(content)
    pair = rf"({where[:5]}.*{split.test[0]}|{split.test[0]}.*{where[:5]})"
    with pytest.raises(ValueError, match=rf"{pair}.*hold the same image"):
        make()


def test_a_budget_limits_the_target_only(make: Make) -> None:
    full, few = make(), make(target_cases=4)
    assert few["b"].split == full["b"].split
    target, whole = few["a"].split, full["a"].split
    assert len(target.train) + len(target.val) == 4
    assert target.test == whole.test
    assert {*target.train, *target.val, *target.unlabelled} == {*whole.train, *whole.val}
    assert make(target_cases=4, datasets=["b", "a"])["a"].split == target


@pytest.mark.parametrize(("teachers", "kept"), [(1, 7), (2, 3), (3, 2), (9, 1)])
def test_equal_volume_keeps_a_share_of_the_targets_size_of_every_dataset(make: Make, teachers: int, kept: int) -> None:
    full = make()
    few = r"b has 5 training patients, fewer than its share of 7; together the datasets stay below the 7 of a"
    with pytest.warns(UserWarning, match=few) if kept > 5 else contextlib.nullcontext():
        data = make(equal_volume=teachers)
    assert len(full["a"].split.train) == 7 and len(full["b"].split.train) == 5
    for name, entry in data.items():
        split, whole = entry.split, full[name].split
        assert len(split.train) == min(kept, len(whole.train))
        assert (split.val, split.test) == (whole.val, whole.test)
        assert set(split.train) <= set(whole.train) and split.unlabelled == whole.unlabelled
        assert split == make(equal_volume=teachers)[name].split


def test_equal_volume_counts_from_the_target_even_where_it_is_not_first(make: Make) -> None:
    assert len(make(equal_volume=2, datasets=["b", "a"])["b"].split.train) == 3
    assert len(make(equal_volume=2, target_cases=5)["b"].split.train) == 2
    with pytest.raises(ValueError, match="equal_volume needs the target c among the datasets a, b"):
        make(equal_volume=2, target="c")


def cases(stream) -> set[str]:
    return {stream[i]["case"] for i in range(len(stream))}


def test_a_pool_holds_the_training_patients_of_all_datasets(make: Make) -> None:
    data = make()
    pool = pooled_draws(data, length=96, seed=0)
    assert cases(pool) == {*data["a"].split.train, *data["b"].split.train}
    assert "label" in pool[0]


def test_a_pool_of_different_classes_is_refused(make: Make) -> None:
    data = make()
    for classes in ({"rv": (7,)}, {"lv": (7,), "rv": (0,)}):
        data["b"].facts = replace(data["b"].facts, classes=classes)
        with pytest.raises(ValueError, match=r"different classes cannot share one head.*'b'"):
            pooled_draws(data, length=8, seed=0)


def test_a_stream_a_dataset_in_order(make: Make) -> None:
    data = make()
    joint = joint_draws(data, length=40, seed=0)
    assert list(joint[0]) == ["a", "b"]
    for name, stream in joint.streams.items():
        assert cases(stream) == set(data[name].split.train)
        assert "label" in stream[0]


def test_an_unlabelled_stream_is_drawn_uniformly(make: Make) -> None:
    data = make(unlabelled=["a"])
    joint = joint_draws(data, length=56, seed=0)
    assert "label" not in joint[0]["a"] and "label" in joint[0]["b"]
    images = [joint.streams["a"][i]["image"].numpy().tobytes() for i in range(56)]
    assert len(set(images)) == 14 and all(images.count(image) == 4 for image in set(images))


def test_a_wide_stream_adds_sources_and_unlabelled_patients_without_labels(make: Make) -> None:
    data = make(target_cases=4)
    joint = joint_draws(data, length=80, seed=0, wide=["a", "b"])
    assert list(joint[0]) == ["a", "wide"]
    assert cases(joint.streams["a"]) == set(data["a"].split.train)
    wide = {*data["a"].split.train, *data["a"].split.unlabelled, *data["b"].split.train}
    assert cases(joint.streams["wide"]) == wide
    assert "label" in joint[0]["a"] and "label" not in joint[0]["wide"]


def told_of(data: FoldData, **options) -> tuple[list[str], list[str]]:
    """The streams of one head, and what is said of those left out."""
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        joint = joint_draws(data, length=8, seed=0, one_head=True, **options)
    return list(joint.streams), [str(one.message) for one in said]


OTHERS: dict[str, list[dict[str, tuple]]] = {  # of another name, number, order
    "make": [{"rv": (7,)}, {"lv": (7,), "rest": (0,)}],
    "make_classes": [{"well": ("well",), "ill": ("ill",)}, {"ill": ("ill",)}, {"ill": ("ill",), "healthy": ("well",)}],
}


@pytest.mark.parametrize("kind", OTHERS)
def test_one_head_learns_the_labels_of_the_targets_classes_only(request: pytest.FixtureRequest, kind: str) -> None:
    data = request.getfixturevalue(kind)()
    assert told_of(data) == (["a", "b"], [])
    ours = list(data["a"].facts.classes)
    for classes in OTHERS[kind]:
        data["b"].facts = replace(data["b"].facts, classes=classes)
        streams, (said,) = told_of(data)
        assert streams == ["a"]
        assert f"dataset b has the classes {list(classes)}, the target a has {ours}" in said
        assert list(joint_draws(data, length=8, seed=0).streams) == ["a", "b"]  # a head a dataset
        # without their labels its images serve as before
        data["b"].labelled = False
        assert told_of(data) == (["a", "b"], [])
        data["b"].labelled = True
        assert told_of(data, wide=["a", "b"]) == (["a", "wide"], [])
        wide = joint_draws(data, length=80, seed=0, wide=["a", "b"]).streams["wide"]
        assert set(data["b"].split.train) <= cases(wide)


@pytest.mark.parametrize(
    ("target", "streams"), [("covidx_cxr3", ["covidx_cxr3", "covid_qu_ex"]), ("covid_collection", ["covid_collection"])]
)
def test_one_head_of_a_group_whose_datasets_have_other_classes(tmp_path: Path, target: str, streams: list[str]) -> None:
    names = ["covidx_cxr3", "covid_collection", "covid_qu_ex"]
    for name in names:
        write_dataset(name, tmp_path / "data", cases=15, size=32)
    places = {"data_dir": str(tmp_path / "data"), "store_dir": str(tmp_path / "store"), "image_size": 16}
    ordered = [target, *[name for name in names if name != target]]
    data = folds(ordered, group_file=str(ROOT / "bundles" / "cxr.yaml"), fold=0, target=target, **places)
    drawn, said = told_of(data)
    assert drawn == streams
    left_out = [name for name in ordered if name not in streams]
    assert len(said) == len(left_out)
    assert all(f"dataset {name} has the classes" in one for name, one in zip(left_out, said, strict=True))


def test_no_stream_draws_a_validation_or_test_patient(make: Make) -> None:
    data = make(target_cases=4)
    held_out = {case for entry in data.values() for part in (entry.split.val, entry.split.test) for case in part}
    for joint in (joint_draws(data, length=80, seed=0), joint_draws(data, length=80, seed=0, wide=["a", "b"])):
        assert held_out.isdisjoint(set().union(*[cases(stream) for stream in joint.streams.values()]))


def test_validation_is_every_slice_of_the_validation_patients(make: Make) -> None:
    entry = make()["a"]
    found = validation_slices(entry)
    assert [item["case"] for item in found] == [case for case in entry.split.val for _ in range(2)]


def test_patients_without_labels_are_never_tested_but_seen_without(tmp_path: Path, make: Make, toy) -> None:
    toy("a", patients=10, images=2, unlabelled=3)
    data = make()
    assert data["a"].split.unlabelled == ["a/p07", "a/p08", "a/p09"]
    wide = joint_draws(data, length=80, seed=0, wide=["a", "b"]).streams["wide"]
    assert {"a/p07", "a/p08", "a/p09"} <= cases(wide)


def test_a_split_without_foreground_is_refused(tmp_path: Path, make: Make) -> None:
    for case in make()["a"].split.val:
        for number in range(2):
            Image.fromarray(np.zeros((16, 16), np.uint8)).save(tmp_path / f"data/a/mask_{case[2:]}_{number}.png")
    with pytest.raises(ValueError, match="no case of the val part has any foreground"):
        make()


@pytest.mark.parametrize(
    ("content", "message"),
    [(0, "has any foreground"), (9, "holds label values 9"), (None, "cannot be read")],
    ids=["empty", "unknown values", "no picture"],
)
def test_masks_that_must_not_be_read_stop_nothing(tmp_path: Path, make: Make, content: int | None, message: str) -> None:
    before = make(unlabelled=["a"])
    for mask in (tmp_path / "data" / "a").glob("mask_*.png"):
        if content is None:
            mask.write_bytes(b"no picture")
        else:
            Image.fromarray(np.full((16, 16), content, np.uint8)).save(mask)
    data = make(unlabelled=["a"])
    assert data["a"].split == before["a"].split and data["b"].split == before["b"].split
    images = [
        [joint[i]["a"]["image"] for i in range(9)] for joint in (joint_draws(d, length=9, seed=0) for d in (before, data))
    ]
    assert all(np.array_equal(x, y) for x, y in zip(*images, strict=True))
    with pytest.raises(Exception) as error:  # MONAI wraps what a transform raises
        make()
    assert message in str(root_cause(error.value))


def test_a_store_without_masks_leaves_the_one_with_masks_alone(make: Make) -> None:
    stored = {path: path.stat().st_mtime_ns for path in make()["a"].store.folder.iterdir()}
    images = make(unlabelled=["a"])["a"].store
    assert not any(unit.labelled or any(unit.foreground) for unit in images.units)
    assert stored == {path: path.stat().st_mtime_ns for path in make()["a"].store.folder.iterdir()}
    full = make()["a"].store
    pairs = [(np.load(images.file(n)), np.load(full.file(n))) for n in range(len(full.units))]
    assert all(np.array_equal(a[:, 0], b[:, 0]) for a, b in pairs)


@pytest.fixture
def make_classes(tmp_path: Path, toy_classes: Callable[..., Facts]) -> Make:
    """`make_classes(**options of folds)`: data sets a (20 patients) and b (15) to classify, and their folds."""

    def make_classes(**options) -> FoldData:
        entries = {}
        for name, patients in (("a", 20), ("b", 15)):
            if not (tmp_path / "data" / name).exists():
                toy_classes(name, patients=patients)
            classes = {"healthy": ["well"], "ill": ["ill"]} if "only" not in options or name == "a" else {"ill": ["ill"]}
            entries[name] = {"classes": classes, "label_values": ["ill", "well"], "percentiles": [1, 99], "dims": 2}
        group = tmp_path / "group.yaml"
        group.write_text(yaml.safe_dump({"group": "toys", "task": "classification", "datasets": entries}))
        settings = {
            "datasets": ["a", "b"],
            "group_file": str(group),
            "data_dir": str(tmp_path / "data"),
            "store_dir": str(tmp_path / "store"),
            "image_size": 16,
            "fold": 0,
            "target": "a",
        }
        return folds(**(settings | {key: value for key, value in options.items() if key != "only"}))

    return make_classes


def test_every_part_of_every_fold_holds_every_class(make_classes: Make, tmp_path: Path) -> None:
    for fold in range(5):
        for name, entry in make_classes(fold=fold, target_cases=8).items():
            found = entry.store.classes()
            for part in entry.split[:3]:
                assert {c for case in part for c in found[case]} == {"healthy", "ill"}
            items = [item for item in list_items(entry.facts, tmp_path / "data") if item["case"].startswith(name)]
            assert split_items(entry.facts, items, fold=fold, target_cases=8 if name == "a" else None) == entry.split


def test_class_counts_are_those_of_the_training_images(make_classes: Make, tmp_path: Path) -> None:
    path = tmp_path / "data" / "a" / "index.csv"
    make_classes()
    path.write_text(path.read_text().replace("p01_1.jpg,1,well", "p01_1.jpg,1,ill"))  # a patient with both
    for fold in range(3):
        entry = make_classes(fold=fold)["a"]
        rows = [line.split(",") for line in path.read_text().splitlines()[1:]]
        labels = [label for _, _, label, case in rows if f"a/{case}" in entry.split.train]
        assert entry.class_counts == [labels.count("well"), labels.count("ill")]
        assert class_counts({"a": entry, "b": entry}) == [2 * n for n in entry.class_counts]


def test_classes_are_drawn_and_pooled(make_classes: Make) -> None:
    data = make_classes(target_cases=6)
    joint = joint_draws(data, length=30, seed=0, wide=["a", "b"])
    assert list(joint[0]) == ["a", "wide"] and "label" not in joint[0]["wide"]
    assert {int(joint[i]["a"]["label"]) for i in range(30)} == {0, 1}
    assert cases(pooled_draws(data, length=80, seed=0)) == {*data["a"].split.train, *data["b"].split.train}
    assert {int(item["label"]) for item in validation_slices(data["a"])} == {0, 1}
    equal = make_classes(equal_volume=4)
    for entry in equal.values():
        assert {c for case in entry.split.train for c in entry.store.classes()[case]} == {"healthy", "ill"}


def test_published_folds_are_kept_and_a_patient_in_two_is_refused(make_classes: Make, tmp_path: Path) -> None:
    facts = make_classes()["a"].facts
    items = list_items(facts, tmp_path / "data")
    for item in items:
        item["fold"] = int(item["case"][-1]) % 5
    assert split_items(facts, items, fold=7).test == ["a/p02", "a/p07", "a/p12", "a/p17"]
    items[1]["fold"] = 4
    with pytest.raises(ValueError, match="patient a/p00 is published in two folds"):
        split_items(facts, items, fold=0)


def rewrite(tmp_path: Path, name: str, change: Callable[[list[str]], str]) -> None:
    """Change the rows (image, age, label, case) of a table."""
    path = tmp_path / "data" / name / "index.csv"
    head, *rows = path.read_text().splitlines()
    path.write_text("\n".join([head, *(change(row.split(",")) for row in rows)]) + "\n")


def test_names_the_row_of_a_label_and_the_class_that_is_missing(make_classes: Make, tmp_path: Path) -> None:
    make_classes()
    rewrite(tmp_path, "b", lambda row: ",".join([*row[:2], "Well" if row[0] == "p04_0.jpg" else row[2], row[3]]))
    with pytest.raises(ValueError, match=r"b/index\.csv, row 10: .*p04_0\.jpg has the label 'Well'"):
        make_classes()
    rewrite(tmp_path, "b", lambda row: ",".join([*row[:2], "well", row[3]]))
    with pytest.raises(ValueError, match="dataset b has no image of class ill; add some, or take the class out"):
        make_classes()
    rewrite(tmp_path, "b", lambda row: ",".join([*row[:2], "ill" if row[3] in ("p03", "p08") else "well", row[3]]))
    with pytest.raises(ValueError, match=r"the \w+ part is of class ill, which only 2 patients have \(b/p03, b/p08\)"):
        make_classes()
    rewrite(tmp_path, "b", lambda row: ",".join([*row[:2], "well", row[3]]))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        data = make_classes(datasets=["b", "a"], target="a", unlabelled=["b"])  # labels that must not be read may lack one
    assert "label" not in joint_draws(data, length=4, seed=0)[0]["b"]


def test_warns_of_a_source_with_one_class_and_refuses_such_a_target(make_classes: Make, tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        make_classes()
    with pytest.warns(UserWarning, match="dataset b: .*ill.*confounded"):
        data = make_classes(only="ill")  # the images that are well are left out
    assert {unit.labels for unit in data["b"].store.units} == {(0, 0)}
    with pytest.raises(ValueError, match=r"dataset b, the target, has one class \(ill\); a classifier needs two"):
        make_classes(only="ill", target="b")


def test_refuses_equal_images_of_two_patients_to_classify(make_classes: Make, tmp_path: Path) -> None:
    split = make_classes()["a"].split
    copy = (tmp_path / "data" / f"{split.test[0]}_0.jpg").read_bytes()
    (tmp_path / "data" / f"{split.train[0]}_1.jpg").write_bytes(copy)
    with pytest.raises(ValueError, match="hold the same image"):
        make_classes()


def test_a_store_of_many_images_tells_its_progress_a_case(make_classes: Make, capsys: pytest.CaptureFixture) -> None:
    entry = make_classes()["a"]
    assert len(entry.store.units) == 20
    assert "slice store a: 100%" in capsys.readouterr().err
