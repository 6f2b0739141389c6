# SPDX-License-Identifier: Apache-2.0
"""ISLES 2022: ischaemic stroke lesions in diffusion-weighted MR (250 cases with masks), a BIDS folder."""

from __future__ import annotations

from pathlib import Path

from .facts import Facts, Item
from .layout import NIFTI, pair

_SCAN = r"(?P<case>sub-strokecase\d{4})/(?P<volume>ses-\d{4})/(?:dwi/)?(?P=case)_(?P=volume)"


def cases(root: str | Path) -> list[Item]:
    """List the DWI of every case; a case is a subject, a volume a session.

    The release on Zenodo has `sub-*/ses-*/dwi/`, the challenge's own had `rawdata/sub-*/ses-*/`: both are read. The
    masks lie under `derivatives/`. ADC and FLAIR are left out (paper 000 uses DWI).
    """
    return pair(
        root,
        dataset="isles22",
        image=_SCAN + "_dwi" + NIFTI,
        label=r"derivatives/" + _SCAN + "_msk" + NIFTI,
        ignore=r"sub-strokecase\d{4}_ses-\d{4}_(?:adc|flair|FLAIR)" + NIFTI,
        layout="sub-strokecaseXXXX/ses-0001/dwi/sub-strokecaseXXXX_ses-0001_dwi.nii.gz and "
        "derivatives/sub-strokecaseXXXX/ses-0001/sub-strokecaseXXXX_ses-0001_msk.nii.gz",
        fix="Download ISLES-2022.zip from https://zenodo.org/records/7960856 and unpack it there.",
    )


FACTS = Facts(
    name="isles22",
    reader=cases,
    classes={"lesion": (1,)},
    label_values=(0, 1),
    window=None,
    percentiles=(0.5, 99.5),
    orientation="RAS",
)
