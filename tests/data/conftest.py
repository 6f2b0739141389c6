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


def write_labelled(
    folder: Path, *, patients: int = 12, images: int = 2, size: int = 16, seed: int = 0, unlabelled: int = 0, ill: int = 3
) -> None:
    """A table of JPEG images with a column `label`; every `ill`-th patient is ill, the first one in two images only.

    The last `unlabelled` patients have no labels.
    """
    folder.mkdir(parents=True)
    rng = np.random.default_rng([seed, zlib.crc32(folder.name.encode())])
    rows = ["image,age,label,case_id"]
    for patient in range(patients):
        for number in range(images):
            name = f"p{patient:02d}_{number}.jpg"
            Image.fromarray(rng.integers(0, 256, (size, size + 4), np.uint8)).save(folder / name)
            label = "ill" if patient % ill == 0 and (number < 2 or patient) else "well"
            rows.append(f"{name},{patient},{'' if patient >= patients - unlabelled else label},p{patient:02d}")
    (folder / "index.csv").write_text("\n".join(rows) + "\n")


@pytest.fixture
def toy_classes(tmp_path: Path) -> Callable[..., Facts]:
    """`toy_classes(name, **options of write_labelled)` writes `tmp_path`/data/`name` and returns its facts."""

    def toy_classes(name: str = "toy", **options: int) -> Facts:
        write_labelled(tmp_path / "data" / name, **options)
        return Facts(
            name=name,
            task="classification",
            reader=lambda root: cases(root, name, task="classification"),
            classes={"healthy": ("well",), "ill": ("ill",)},
            label_values=("ill", "well"),
            percentiles=(1.0, 99.0),
            dims=2,
            spacing_known=False,
        )

    return toy_classes
