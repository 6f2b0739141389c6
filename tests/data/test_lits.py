# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np

from common.data.lits import FACTS, ORGAN_CLASSES, cases
from common.phantoms.layouts import write_dataset


def test_pairs_across_batch_folders_and_leaves_test_volumes_out(tmp_path: Path) -> None:
    for path in ("Training Batch 1/volume-0.nii", "masks/segmentation-0.nii", "Testing/test-volume-0.nii"):
        (tmp_path / path).parent.mkdir()
        (tmp_path / path).touch()
    (item,) = cases(tmp_path)
    assert (item["case"], item["volume"]) == ("lits/0", "0")


def test_the_organ_is_an_option() -> None:
    assert FACTS.classes == {"lesion": (2,)}
    assert ORGAN_CLASSES == {"liver": (1,), "lesion": (2,)}


def test_phantoms_mix_orientations_mirrored_ones_included(tmp_path: Path) -> None:
    items = cases(write_dataset("lits", tmp_path, cases=5, size=16, slices=4))
    affines = [nibabel.load(item["image"]).affine for item in items]
    assert len({nibabel.aff2axcodes(affine) for affine in affines}) == 5
    assert len({np.sign(np.linalg.det(affine[:3, :3])) for affine in affines}) == 2
