# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import importlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import binary_erosion, gaussian_gradient_magnitude, laplace
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from common.phantoms.domains import DOMAINS, GROUPS
from common.phantoms.scene import Scene, body_scene, heart_scenes

LESION = sorted(set(DOMAINS) - {"acdc", "sunnybrook"})


def _draw(name: str, seed: int, size: int = 32, slices: int = 8) -> Scene:
    rng = np.random.default_rng(seed)
    if name in LESION:
        return body_scene(DOMAINS[name], rng, size=size, slices=slices)
    return heart_scenes(DOMAINS[name], rng, size=size, slices=slices)[0]


def _normalised(name: str, scene: Scene) -> np.ndarray:
    """What a network sees: the dataset's own window or percentiles brought to 0..1."""
    module = "acdc" if name == "sunnybrook" else name
    facts = importlib.import_module(f"common.data.{module}").FACTS
    low, high = facts.window or np.percentile(scene.image, facts.percentiles)
    return np.clip((scene.image - low) / (high - low), 0, 1)


def _describe(image: np.ndarray) -> list[list[float]]:
    """Of each slice the mean, spread, edges and fine grain of what is not air."""
    rows = []
    for plane in np.moveaxis(image, -1, 0):
        tissue = plane > 0.05
        inner = binary_erosion(tissue, iterations=2) if tissue.any() else tissue
        if inner.any():
            edges, grain = gaussian_gradient_magnitude(plane, 1)[inner], np.abs(laplace(plane))[inner]
            rows.append([plane[tissue].mean(), plane[tissue].std(), edges.mean(), np.median(grain)])
    return rows


@pytest.mark.parametrize("group", ["mri", "ct", "cardiac"])
def test_four_numbers_an_image_tell_the_datasets_of_a_group_apart(group: str) -> None:
    features, dataset, case = [], [], []
    for index, name in enumerate(n for n in GROUPS[group] if n in DOMAINS):
        for seed in range(6):
            rows = _describe(_normalised(name, _draw(name, seed)))
            features += rows
            dataset += [index] * len(rows)
            case += [10 * index + seed] * len(rows)
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    scores = cross_val_score(model, features, dataset, groups=case, cv=StratifiedGroupKFold(3))
    assert scores.mean() > 0.9, scores


@pytest.mark.parametrize("name", sorted(DOMAINS))
def test_a_lesion_is_brighter_than_its_organ_in_every_dataset(name: str) -> None:
    """The rule that datasets share: with it alone, pixels of lesion and organ are told apart far above chance."""
    lesion, organ = (3, 2) if name not in LESION else (2, 1)
    for seed in range(3):
        scene = _draw(name, seed)
        image = _normalised(name, scene)
        bright, plain = image[scene.label == lesion], image[scene.label == organ]
        assert bright.mean() - plain.mean() > 0.1
        assert (bright[:, None] > plain[None, ::7]).mean() > 0.85


@settings(max_examples=25, deadline=None)
@given(
    name=st.sampled_from(sorted(DOMAINS)),
    seed=st.integers(0, 2**31),
    size=st.integers(16, 40),
    slices=st.integers(4, 12),
)
def test_every_case_has_its_labels_on_some_slices_and_finite_intensities(name, seed, size, slices) -> None:
    scene = _draw(name, seed, size, slices)
    assert scene.image.shape == scene.label.shape == (size, size, slices)
    assert scene.image.dtype == np.float32 and scene.label.dtype == np.uint8
    assert np.isfinite(scene.image).all()
    assert set(np.unique(scene.label).tolist()) == ({0, 1, 2} if name in LESION else {0, 1, 2, 3})
    found = (scene.label == (2 if name in LESION else 3)).any(axis=(0, 1))
    assert found.any() and not found.all()
    low, high = DOMAINS[name].spacing
    assert low - 1e-3 <= scene.spacing[0] <= high + 1e-3


def test_the_heart_contracts_and_its_wall_thickens() -> None:
    for seed in range(5):
        diastole, systole = heart_scenes(DOMAINS["acdc"], np.random.default_rng(seed), size=48, slices=8)
        assert (systole.label == 3).sum() < (diastole.label == 3).sum()
        assert (systole.label == 2).sum() > (diastole.label == 2).sum()
        assert systole.spacing == diastole.spacing


def test_lesion_sizes_and_noise_differ_between_datasets() -> None:
    for group in ("mri", "ct"):
        members = [DOMAINS[name] for name in GROUPS[group]]
        for fact in ("noise", "texture", "blur", "radius", "lesion"):
            assert len({getattr(member, fact) for member in members}) == len(members), fact
