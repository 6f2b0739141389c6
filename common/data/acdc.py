# SPDX-License-Identifier: Apache-2.0
"""ACDC: short-axis cine MR of the heart (100 training patients, two frames each); the LV cavity by default."""

from __future__ import annotations

from pathlib import Path

from .facts import Facts, Item
from .layout import NIFTI, pair


def cases(root: str | Path) -> list[Item]:
    """List the annotated frames of the training patients: a case is a patient, a volume a frame.

    The cine series (patientNNN_4d) and Info.cfg are not read; everything under `testing/` is left out, masks or not.
    """
    return pair(
        root,
        dataset="acdc",
        image=r"(?P<case>patient\d{3})/(?P=case)_(?P<volume>frame\d{2})" + NIFTI,
        label=r"(?P<case>patient\d{3})/(?P=case)_(?P<volume>frame\d{2})_gt" + NIFTI,
        ignore=r"patient\d{3}_4d" + NIFTI + r"|testing/.*",
        layout="training/patientNNN/patientNNN_frameNN.nii.gz and patientNNN_frameNN_gt.nii.gz",
        fix="Download the ACDC database from https://www.creatis.insa-lyon.fr/Challenge/acdc/ and give its folder.",
    )


# All that is annotated: replace(FACTS, classes=PART_CLASSES).
PART_CLASSES: dict[str, tuple[int, ...]] = {"rv": (1,), "myo": (2,), "lv": (3,)}

FACTS = Facts(
    name="acdc",
    reader=cases,
    classes={"lv": (3,)},
    label_values=(0, 1, 2, 3),
    window=None,
    percentiles=(0.5, 99.5),
    # Decision: the files' affines do not hold the true short-axis pose; slices are read as stored, on the last axis.
    orientation=None,
    slice_axis=2,
)
