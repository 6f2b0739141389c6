# SPDX-License-Identifier: Apache-2.0
"""What sets one phantom dataset apart from another of its group: contrast, noise, blur, spacing, lesion size."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Domain:
    """One phantom dataset's appearance. Intensities are HU in CT and arbitrary units in MR.

    Within a group a lesion is always brighter than its organ: sources can help, as the rule is shared, and a shift is
    left to bridge, as everything else differs.

    Args:
        scanner: "ct" (Gaussian noise, air at -1000 outside) or "mr" (Rician noise, a bias field, 0 outside).
        body, organ, lesion: mean intensities (heart: surroundings, myocardium, blood).
        organs: how many organs hold lesions (lungs and kidneys are two, the brain fills the body).
        noise: standard deviation, in intensities.
        texture: standard deviation of smooth tissue texture, in intensities.
        blur: standard deviation of the in-plane point spread, in pixels.
        lesions: least and most lesions a case.
        radius: least and greatest lesion radius in the plane, as a share of the image's side.
        spacing: least and greatest pixel size, mm.
        thickness: least and greatest slice spacing, mm.
    """

    scanner: str
    body: float
    organ: float
    lesion: float
    organs: int = 1
    noise: float
    texture: float
    blur: float
    lesions: tuple[int, int] = (1, 1)
    radius: tuple[float, float] = (0.1, 0.2)
    spacing: tuple[float, float]
    thickness: tuple[float, float]


DOMAINS: dict[str, Domain] = {
    "brainmetshare": Domain(
        scanner="mr", body=320, organ=320, lesion=560, noise=22, texture=22, blur=0.4,
        lesions=(2, 5), radius=(0.06, 0.10), spacing=(0.94, 0.94), thickness=(1.0, 1.0),
    ),
    "isles22": Domain(
        scanner="mr", body=170, organ=170, lesion=330, noise=32, texture=14, blur=1.0,
        lesions=(1, 3), radius=(0.08, 0.17), spacing=(1.2, 2.0), thickness=(4.0, 6.5),
    ),
    "brats20": Domain(
        scanner="mr", body=240, organ=240, lesion=400, noise=8, texture=24, blur=0.8,
        lesions=(1, 1), radius=(0.15, 0.22), spacing=(1.0, 1.0), thickness=(1.0, 1.0),
    ),
    "msd_lung": Domain(
        scanner="ct", body=-100, organ=-780, lesion=110, organs=2, noise=55, texture=50, blur=0.4,
        lesions=(1, 2), radius=(0.06, 0.11), spacing=(0.6, 0.98), thickness=(0.7, 2.5),
    ),
    "lits": Domain(
        scanner="ct", body=0, organ=85, lesion=160, noise=20, texture=10, blur=0.8,
        lesions=(1, 4), radius=(0.07, 0.14), spacing=(0.56, 1.0), thickness=(0.7, 5.0),
    ),
    "kits": Domain(
        scanner="ct", body=-40, organ=120, lesion=205, organs=2, noise=10, texture=8, blur=1.2,
        lesions=(1, 2), radius=(0.09, 0.14), spacing=(0.6, 0.98), thickness=(1.0, 5.0),
    ),
    "acdc": Domain(
        scanner="mr", body=110, organ=80, lesion=210, noise=10, texture=14, blur=0.6,
        radius=(0.13, 0.18), spacing=(1.37, 1.68), thickness=(5.0, 10.0),
    ),
    "sunnybrook": Domain(
        scanner="mr", body=40, organ=34, lesion=74, noise=7, texture=6, blur=1.0,
        radius=(0.11, 0.16), spacing=(1.29, 1.56), thickness=(8.0, 10.0),
    ),
}  # fmt: skip

GROUPS: dict[str, tuple[str, ...]] = {
    "mri": ("brainmetshare", "isles22", "brats20"),
    "ct": ("msd_lung", "lits", "kits"),
    "cardiac": ("acdc", "sunnybrook", "acdc_official"),
    "table": ("acdc_volumes", "lits_dicom"),
    "cxr": ("covidx_cxr3", "covid_collection", "covid_qu_ex"),
    "dementia": ("oasis", "adni"),
    "figshare": ("figshare",),
    "pneumonia": ("kermany", "nih"),
}
