# SPDX-License-Identifier: Apache-2.0
"""What a network meets: the files of each layout through the dataset's own reader and preprocessing."""

from __future__ import annotations

import importlib
from collections import Counter
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from scipy.ndimage import gaussian_gradient_magnitude, laplace
from sklearn.ensemble import ExtraTreesClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from common.data.facts import Facts
from common.data.fold import split_items
from common.data.store import SliceStore
from common.data.table import cases as table_cases
from common.phantoms.domains import GROUPS
from common.phantoms.layouts import write_dataset
from common.phantoms.picture_layouts import PICTURE_WRITERS

CASES = 30


def _facts(name: str) -> Facts:
    if name not in ("kermany", "nih"):
        return importlib.import_module(f"common.data.{name}").FACTS
    return Facts(
        name=name,
        reader=lambda root: table_cases(root, name, task="classification"),
        task="classification",
        classes={"normal": ("normal",), "pneumonia": ("pneumonia",)},
        label_values=("normal", "pneumonia"),
        percentiles=(0.5, 99.5),
        dims=2,
        spacing_known=False,
    )


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory):
    """`stored(name)`: images (n, 32, 32), class indices and patients of a dataset as its slice store holds them."""
    root = tmp_path_factory.mktemp("phantoms")

    @cache
    def stored(name: str) -> tuple[np.ndarray, list[int], list[str]]:
        facts = _facts(name)
        items = facts.reader(write_dataset(name, root, cases=CASES, size=32, slices=8))
        store = SliceStore(root / "store", facts, items, 32)
        images, labels, patients = [], [], []
        for index, unit in enumerate(store.units):
            images.append(np.asarray(np.load(store.file(index))[:, 0], np.float32))
            labels += unit.labels
            patients += [unit.case] * len(unit.labels)
        return np.concatenate(images), labels, patients

    return stored


@pytest.mark.parametrize("name", sorted(PICTURE_WRITERS))
def test_the_class_can_be_learned_from_other_patients(name: str, stored) -> None:
    images, labels, patients = stored(name)
    few = images.reshape(-1, 16, 2, 16, 2).mean((2, 4)).reshape(len(images), -1)
    model = ExtraTreesClassifier(100, random_state=0)
    scores = cross_val_score(model, few, labels, groups=patients, cv=StratifiedGroupKFold(3), scoring="balanced_accuracy")
    assert scores.mean() > 1 / len(set(labels)) + 0.25, scores


def _describe(image: np.ndarray) -> list[float]:
    edges, grain = gaussian_gradient_magnitude(image, 1), np.abs(laplace(image))
    return [image.mean(), image.std(), edges.mean(), float(np.median(grain))]


@pytest.mark.parametrize("group", ["cxr", "dementia", "pneumonia"])
def test_four_numbers_an_image_tell_the_datasets_of_a_group_apart(group: str, stored) -> None:
    features, dataset, case = [], [], []
    for index, name in enumerate(GROUPS[group]):
        images, _, patients = stored(name)
        features += [_describe(image) for image in images]
        dataset += [index] * len(images)
        case += patients
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    scores = cross_val_score(model, features, dataset, groups=case, cv=StratifiedGroupKFold(3))
    assert scores.mean() > 0.85, scores


@pytest.mark.parametrize("name", sorted(PICTURE_WRITERS))
def test_fifteen_cases_hold_every_class_in_every_fold(name: str, tmp_path: Path) -> None:
    facts = _facts(name)
    items = facts.reader(write_dataset(name, tmp_path, cases=15, size=16, slices=4))
    for fold in range(5):
        split = split_items(facts, items, fold=fold)
        for part in (split.train, split.val, split.test):
            if name != "oasis" or part is not split.test:  # four classes, fifteen subjects, tests of three
                assert len({facts.class_of(item) for item in items if item["case"] in part}) == len(facts.classes)


def test_some_patients_of_nih_have_images_of_both_classes(tmp_path: Path) -> None:
    items = _facts("nih").reader(write_dataset("nih", tmp_path, cases=10, size=16))
    both = Counter(case for case, _ in {(item["case"], item["label"]) for item in items})
    assert sorted(both.values()) == [1] * 8 + [2] * 2
