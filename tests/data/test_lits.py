# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pytest
from monai.transforms import Compose

from common.data.facts import Facts
from common.data.lits import FACTS, ORGAN_CLASSES, cases
from common.data.transforms import evaluation, preprocessing
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


def test_a_mask_with_an_affine_of_its_own_lies_on_its_volume(tmp_path: Path) -> None:
    """As segmentation-53 of the download: unit steps and an offset, beside a volume that is mirrored and 2.5 mm thick."""
    items = cases(write_dataset("lits", tmp_path, cases=5, size=16, slices=4))
    item = next(i for i in items if nibabel.aff2axcodes(nibabel.load(i["image"]).affine) != ("R", "A", "S"))
    expected = {key: transform(dict(item)) for key, transform in both(FACTS).items()}
    mask = nibabel.load(item["label"])
    nonsense = np.eye(4)
    nonsense[:3, 3] = 1
    nibabel.save(nibabel.Nifti1Image(np.array(mask.dataobj), nonsense), item["label"])
    for key, transform in both(FACTS).items():
        found = transform(dict(item))
        for name in ("image", "label"):
            np.testing.assert_array_equal(found[name].numpy(), expected[key][name].numpy())
            np.testing.assert_allclose(found[name].affine, expected[key][name].affine)
    for transform in both(replace(FACTS, masks_by_index=False)).values():
        with pytest.raises(RuntimeError) as error:
            transform(dict(item))
        assert "has another affine than its image" in str(error.value.__cause__)


def both(facts: Facts) -> dict[str, Compose]:
    return {"training": preprocessing(facts, 16), "evaluation": evaluation(facts, 16)}


def test_phantoms_mix_orientations_mirrored_ones_included(tmp_path: Path) -> None:
    items = cases(write_dataset("lits", tmp_path, cases=5, size=16, slices=4))
    affines = [nibabel.load(item["image"]).affine for item in items]
    assert len({nibabel.aff2axcodes(affine) for affine in affines}) == 5
    assert len({np.sign(np.linalg.det(affine[:3, :3])) for affine in affines}) == 2
