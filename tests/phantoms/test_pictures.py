# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_gradient_magnitude, label, laplace

from common.phantoms.looks import LOOKS
from common.phantoms.pictures import FINDINGS, TUMOURS, brain, chest, tumour

CHEST = ("covid_collection", "covid_qu_ex", "covidx_cxr3", "kermany", "nih")


@settings(max_examples=25, deadline=None)
@given(name=st.sampled_from(CHEST), finding=st.sampled_from(FINDINGS), seed=st.integers(0, 2**31), size=st.integers(16, 64))
def test_a_chest_has_two_lungs_and_finite_intensities(name, finding, seed, size) -> None:
    image, lungs = chest(LOOKS[name], np.random.default_rng(seed), finding=finding, size=size)
    assert image.shape == lungs.shape == (size, size)
    assert image.dtype == np.float32 and np.isfinite(image).all() and image.min() >= 0
    assert label(lungs)[1] >= 2
    middle = size // 2
    assert lungs[:middle].any() and lungs[middle:].any()


@pytest.mark.parametrize("name", CHEST)
def test_pneumonia_fills_one_lung_and_covid_the_rim_of_both(name: str) -> None:
    added = {}
    for finding in ("pneumonia", "covid"):
        for seed in range(5):
            plain, lungs = chest(LOOKS[name], np.random.default_rng(seed), finding="normal", size=48)
            image, _ = chest(LOOKS[name], np.random.default_rng(seed), finding=finding, size=48)
            change = np.where(lungs, image - plain, 0)  # the noise differs, as opacities are drawn before it
            sides = np.sort([change[:24].sum(), change[24:].sum()])
            added.setdefault(finding, []).append(sides[0] / sides[1])
    assert np.mean(added["pneumonia"]) < 0.35 < 0.6 < np.mean(added["covid"])


@pytest.mark.parametrize("name", ["oasis", "adni"])
def test_with_severity_ventricles_grow_and_the_brain_shrinks(name: str) -> None:
    look = LOOKS[name]
    soft = []
    for severity in (0.0, 0.5, 1.0):
        drawn = [
            brain(look, np.random.default_rng(seed), severity=severity, size=48, slices=5, extent=0.3) for seed in range(5)
        ]
        assert all(volume.shape == (48, 48, 5) and np.isfinite(volume).all() for volume in drawn)
        middle = np.mean([volume[14:34, 19:29] for volume in drawn])  # where the ventricles are
        white = np.mean([np.abs(volume - look.soft) < 0.15 * look.soft for volume in drawn])
        soft.append((middle, white))
    assert soft[0][0] > soft[1][0] > soft[2][0]
    assert soft[0][1] > soft[1][1] > soft[2][1]


def test_a_whole_head_shows_no_brain_on_its_outer_slices() -> None:
    volume = brain(LOOKS["adni"], np.random.default_rng(0), severity=0.0, size=32, slices=20, extent=1.0)
    assert volume[..., [0, -1]].mean() < 0.2 * volume[..., 8:12].mean()


def test_tumours_differ_in_place_size_and_core() -> None:
    found = {}
    for kind in TUMOURS:
        for seed in range(8):
            image, mask = tumour(LOOKS["figshare"], np.random.default_rng(seed), kind=kind, size=64)
            x, y = np.argwhere(mask).mean(0) / 31.5 - 1
            core = image[mask].min() < 0.7 * LOOKS["figshare"].soft
            found.setdefault(kind, []).append((mask.mean(), np.hypot(x, y), abs(x), core))
    area, radius, off, core = (dict(zip(found, column, strict=True)) for column in np.mean(list(found.values()), axis=1).T)
    assert area["glioma"] > area["meningioma"] > area["pituitary"]
    assert radius["meningioma"] > 0.5 and off["pituitary"] < 0.1
    assert core == {"meningioma": 0, "glioma": 1, "pituitary": 0}


def test_unknown_kinds_are_refused() -> None:
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match="unknown finding 'flu'; choose one of normal, pneumonia, covid"):
        chest(LOOKS["nih"], rng, finding="flu", size=16)
    with pytest.raises(ValueError, match="unknown tumour 'wart'; choose one of meningioma"):
        tumour(LOOKS["figshare"], rng, kind="wart", size=16)
    with pytest.raises(ValueError, match="severity is a share from 0 to 1, not 2"):
        brain(LOOKS["adni"], rng, severity=2, size=16, slices=4, extent=1.0)


def test_noise_and_blur_are_what_the_look_says() -> None:
    drawn = {n: chest(LOOKS[n], np.random.default_rng(0), finding="normal", size=64)[0] / LOOKS[n].soft for n in CHEST}
    grain = {n: np.median(np.abs(laplace(image))) for n, image in drawn.items()}
    edges = {n: gaussian_gradient_magnitude(image, 1).max() for n, image in drawn.items()}
    assert min(grain["covid_collection"], grain["nih"]) > 2 * max(grain["covidx_cxr3"], grain["covid_qu_ex"], grain["kermany"])
    assert edges["covid_qu_ex"] < edges["covidx_cxr3"] < edges["covid_collection"]
