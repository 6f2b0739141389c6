# SPDX-License-Identifier: Apache-2.0
"""KiTS 2019: kidney tumours in contrast-enhanced CT (210 training cases); the tumour by default."""

from __future__ import annotations

from pathlib import Path

from .facts import Facts, Item
from .layout import NIFTI, pair


def cases(root: str | Path) -> list[Item]:
    """List `case_NNNNN/imaging` with `case_NNNNN/segmentation`; cases 210 to 299 are the test set and have no mask.

    Axial slices lie on the FIRST axis of the files; the affine says so, and orientation RAS puts them on the last.
    """
    return pair(
        root,
        dataset="kits",
        image=r"(?P<case>case_\d{5})/imaging" + NIFTI,
        label=r"(?P<case>case_\d{5})/segmentation" + NIFTI,
        unlabelled=r"case_002[1-9]\d/imaging" + NIFTI,
        layout="data/case_NNNNN/imaging.nii.gz and data/case_NNNNN/segmentation.nii.gz",
        fix="Clone https://github.com/neheller/kits19 and run its `python -m starter_code.get_imaging`: "
        "the masks come with the clone, the images with that command.",
    )


# The organ beside its tumour: replace(FACTS, classes=ORGAN_CLASSES).
ORGAN_CLASSES: dict[str, tuple[int, ...]] = {"kidney": (1,), "lesion": (2,)}

FACTS = Facts(
    name="kits",
    reader=cases,
    classes={"lesion": (2,)},
    label_values=(0, 1, 2),
    # the 0.5 and 99.5 percentiles of the foreground, which KiTS entries commonly clip to
    window=(-79.0, 304.0),
    percentiles=None,
    orientation="RAS",
)
