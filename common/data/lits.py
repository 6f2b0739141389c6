# SPDX-License-Identifier: Apache-2.0
"""LiTS 2017: liver tumours in contrast-enhanced CT (131 training volumes); the tumour by default."""

from __future__ import annotations

from pathlib import Path

from .facts import Facts, Item
from .layout import NIFTI, pair


def cases(root: str | Path) -> list[Item]:
    """List `volume-N` with `segmentation-N`, in one folder or in the batch folders of the download.

    Decision: LiTS publishes no patient ids, so each volume is a case of its own. The test volumes (test-volume-N)
    have no masks and are left out. The volumes lie in mixed orientations: readers go by the affine (orientation RAS). The
    download states nonsense in places: an affine of segmentation-53 with unit steps, so that such a mask goes by index; and
    identity affines of volumes 28 to 47, whose orientation is then a guess and whose HD95 is in voxels.
    """
    return pair(
        root,
        dataset="lits",
        image=r"volume-(?P<case>\d+)" + NIFTI,
        label=r"segmentation-(?P<case>\d+)" + NIFTI,
        ignore=r"test-volume-\d+" + NIFTI,
        layout="[Training Batch 1/]volume-N.nii and segmentation-N.nii",
        fix="Download the training batches from https://competitions.codalab.org/competitions/17094.",
    )


# The organ beside its tumour: replace(FACTS, classes=ORGAN_CLASSES).
ORGAN_CLASSES: dict[str, tuple[int, ...]] = {"liver": (1,), "lesion": (2,)}

FACTS = Facts(
    name="lits",
    reader=cases,
    classes={"lesion": (2,)},
    label_values=(0, 1, 2),
    window=(-100.0, 250.0),
    percentiles=None,
    orientation="RAS",
    masks_by_index=True,
)
