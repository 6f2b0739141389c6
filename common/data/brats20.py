# SPDX-License-Identifier: Apache-2.0
"""BraTS 2020: gliomas in multi-sequence MR (369 training cases); FLAIR, the whole tumour by default."""

from __future__ import annotations

from pathlib import Path

from .facts import Facts, Item
from .layout import NIFTI, pair

_CASE = r"(?P<case>BraTS20_Training_\d{3})/"


def cases(root: str | Path) -> list[Item]:
    """List the FLAIR of every training case; T1, T1ce and T2 are left out (paper 000 uses FLAIR).

    The release misnames one mask, BraTS20_Training_355/W39_1998.09.19_Segm.nii: it is read as that case's mask. The
    validation cases (BraTS20_Validation_XXX) have no masks and are left out.
    """
    return pair(
        root,
        dataset="brats20",
        image=_CASE + "(?P=case)_flair" + NIFTI,
        label=_CASE + r"(?:(?P=case)_seg|W39_1998\.09\.19_Segm)" + NIFTI,
        ignore=r"BraTS20_Training_\d{3}_(?:t1|t1ce|t2)" + NIFTI + r"|BraTS20_Validation_\d{3}_\w+" + NIFTI,
        layout="MICCAI_BraTS2020_TrainingData/BraTS20_Training_XXX/BraTS20_Training_XXX_{flair,seg}.nii.gz",
        fix="Register at https://www.med.upenn.edu/cbica/brats2020/ and unpack MICCAI_BraTS2020_TrainingData there.",
    )


# The parts of the tumour as classes of their own: replace(FACTS, classes=PART_CLASSES).
PART_CLASSES: dict[str, tuple[int, ...]] = {"core": (1,), "oedema": (2,), "enhancing": (4,)}

FACTS = Facts(
    name="brats20",
    reader=cases,
    classes={"lesion": (1, 2, 4)},
    label_values=(0, 1, 2, 4),
    window=None,
    percentiles=(0.5, 99.5),
    orientation="RAS",
)
