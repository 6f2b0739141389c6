# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from common.data.facts import Facts
from common.data.table import cases


def write_images(
    folder: Path, *, patients: int = 6, images: int = 3, size: int = 16, seed: int = 0, unlabelled: int = 0
) -> None:
    """A table of PNG images: noise with a box of raw value 7, which a patient's first image lacks.

    The last `unlabelled` patients have no masks.
    """
    folder.mkdir(parents=True)
    rng = np.random.default_rng([seed, zlib.crc32(folder.name.encode())])
    rows = ["image,mask,case_id"]
    for patient in range(patients):
        for number in range(images):
            label = np.zeros((size, size), np.uint8)
            if number:
                top, left = rng.integers(1, size // 2, 2)
                label[top : top + 4, left : left + 5] = 7
            name = f"p{patient:02d}_{number}.png"
            Image.fromarray(rng.integers(0, 256, (size, size), np.uint8)).save(folder / name)
            mask = "" if patient >= patients - unlabelled else f"mask_{name}"
            if mask:
                Image.fromarray(label).save(folder / mask)
            rows.append(f"{name},{mask},p{patient:02d}")
    (folder / "index.csv").write_text("\n".join(rows) + "\n")


@pytest.fixture
def toy(tmp_path: Path) -> Callable[..., Facts]:
    """`toy(name, **options of write_images)` writes `tmp_path`/data/`name` and returns its facts."""

    def toy(name: str = "toy", **options: int) -> Facts:
        write_images(tmp_path / "data" / name, **options)
        return Facts(
            name=name,
            reader=lambda root: cases(root, name),
            classes={"lv": (7,)},
            label_values=(0, 7),
            percentiles=(1.0, 99.0),
            dims=2,
            spacing_known=False,
        )

    return toy
