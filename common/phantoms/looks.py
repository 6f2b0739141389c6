# SPDX-License-Identifier: Apache-2.0
"""What sets one phantom dataset for classification apart from another of its group: exposure, contrast, noise, blur."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Look:
    """One phantom dataset's appearance, in grey values 0..255 (arbitrary units in volumes).

    Within a group a class is always drawn by the same rule, a place and a shape: sources can help. Everything here differs,
    so that a shift is left to bridge.

    Args:
        findings: what the cases show, in turn: raw labels, so that every class is there from the first few cases on.
        soft: soft tissue (brain: white matter).
        dark: lungs (brain: ventricles and the rim of fluid).
        bright: opacities at full strength (brain: skull and tumours).
        ribs: strength of the ribs, as a share of `soft - dark`; 0 in a brain.
        noise: standard deviation of the pixel noise.
        texture: standard deviation of smooth texture.
        blur: standard deviation of the point spread, as a share of the picture's side.
        frame: width of the dark collimator frame, as a share of the picture's side.
    """

    findings: tuple[str, ...]
    soft: float
    dark: float
    bright: float
    ribs: float = 0.0
    noise: float
    texture: float
    blur: float
    frame: float = 0.0


COVID = "Pneumonia/Viral/COVID-19"
LOOKS: dict[str, Look] = {
    "covidx_cxr3": Look(
        findings=("normal", "pneumonia", "COVID-19"),
        soft=180, dark=60, bright=195, ribs=0.25, noise=3, texture=6, blur=0.012,
    ),
    "covid_collection": Look(
        findings=(COVID, "Pneumonia/Bacterial/Streptococcus", COVID, "Pneumonia", COVID, "No Finding"),
        soft=215, dark=120, bright=225, ribs=0.05, noise=14, texture=12, blur=0.004, frame=0.04,
    ),
    "covid_qu_ex": Look(
        findings=("Normal", "Non-COVID", "COVID-19"),
        soft=150, dark=25, bright=140, ribs=0.4, noise=1, texture=16, blur=0.03,
    ),
    "kermany": Look(
        findings=("normal", "pneumonia"), soft=190, dark=70, bright=205, ribs=0.35, noise=2, texture=5, blur=0.025,
    ),
    "nih": Look(
        findings=("normal", "pneumonia"), soft=160, dark=35, bright=145, ribs=0.1, noise=12, texture=14, blur=0.004, frame=0.03,
    ),
    "oasis": Look(
        findings=("Non Demented", "Very mild Dementia", "Mild Dementia", "Moderate Dementia"),
        soft=150, dark=35, bright=215, noise=3, texture=6, blur=0.03,
    ),
    "adni": Look(findings=("CN", "MCI", "AD"), soft=620, dark=240, bright=700, noise=55, texture=60, blur=0.008),
    "figshare": Look(findings=("1", "2", "3"), soft=700, dark=250, bright=1300, noise=45, texture=40, blur=0.01),
}  # fmt: skip
