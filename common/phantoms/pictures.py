# SPDX-License-Identifier: Apache-2.0
"""Draws synthetic images with a class: chest radiographs, brains that shrink, brain tumours. Arrays are (X, Y) or (X, Y, Z)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from .looks import Look

Image = NDArray[np.float32]
Mask = NDArray[np.bool_]

FINDINGS = ("normal", "pneumonia", "covid")
TUMOURS = ("meningioma", "glioma", "pituitary")


def chest(look: Look, rng: np.random.Generator, *, finding: str, size: int) -> tuple[Image, Mask]:
    """A radiograph of `size` pixels and the mask of its lungs; y runs down.

    Pneumonia is one dense opacity in one lung; COVID-19 (`finding="covid"`) is faint small ones on the outer rim of both.
    """
    x, y = _plane(size)
    (dx, dy), scale = rng.uniform(-0.06, 0.06, 2), rng.uniform(0.92, 1.08)
    centres = {side: (side * 0.42 + dx, dy - 0.02) for side in (-1, 1)}
    lungs = np.zeros((size, size), bool)
    for cx, cy in centres.values():
        lungs |= ((x - cx) / (0.31 * scale)) ** 2 + ((y - cy) / (0.6 * scale)) ** 2 <= 1
    lungs &= ((x - 0.16 - dx) / 0.3) ** 2 + ((y - 0.32 - dy) / 0.3) ** 2 > 1  # the heart
    image = np.where((x / 0.97) ** 4 + (y / 1.3) ** 4 <= 1, look.soft, 0.25 * look.soft).astype(np.float32)
    image[lungs] = look.dark
    ribs = np.cos(11 * (y + 0.25 * np.abs(x - dx)) + rng.uniform(0, 6)) > 0.5
    image += look.ribs * (look.soft - look.dark) * (ribs & (np.abs(x - dx) > 0.12)) * (np.abs(x) < 0.9)
    opacity = np.zeros_like(image)
    for cx, cy, radius, strength in _opacities(rng, finding, centres):
        opacity += strength * np.exp(-0.5 * (((x - cx) / radius) ** 2 + ((y - cy) / radius) ** 2))
    image += np.clip(opacity, 0, 1) * lungs * (look.bright - look.dark)
    image = _acquire(image, look, rng)
    edge = round(look.frame * size)
    if edge:
        image[:edge], image[-edge:], image[:, :edge], image[:, -edge:] = 0, 0, 0, 0
    return image, lungs


def _opacities(
    rng: np.random.Generator, finding: str, centres: dict[int, tuple[float, float]]
) -> list[tuple[float, float, float, float]]:
    """Centre x, y, radius, strength of each opacity."""
    if finding == "normal":
        return []
    if finding == "pneumonia":
        side = int(rng.choice((-1, 1)))
        (cx, cy), offset = centres[side], rng.uniform((-0.06, -0.35), (0.06, 0.3))
        return [(cx + offset[0], cy + offset[1], rng.uniform(0.15, 0.2), rng.uniform(0.9, 1.1))]
    if finding != "covid":
        raise ValueError(f"unknown finding {finding!r}; choose one of {', '.join(FINDINGS)}")
    found = []
    for side, (cx, cy) in centres.items():
        for height in (-0.3, 0.0, 0.3):
            offset = rng.uniform((0.17, -0.08), (0.23, 0.08))
            found.append((cx + side * offset[0], cy + height + offset[1], rng.uniform(0.07, 0.1), rng.uniform(0.6, 0.8)))
    return found


def brain(
    look: Look, rng: np.random.Generator, *, severity: float, size: int, slices: int, extent: float
) -> NDArray[np.float32]:
    """A head (X, Y, Z) in RAS axes from `-extent` to `extent` of its height, 1 being all of it.

    With `severity` (0 healthy .. 1) the ventricles grow and the brain draws back from the skull.
    """
    if not 0 <= severity <= 1:
        raise ValueError(f"severity is a share from 0 to 1, not {severity}")
    x, y = (axis[..., None] for axis in _plane(size))
    z = np.linspace(-extent, extent, slices, dtype=np.float32)
    severity = severity + rng.uniform(-0.1, 0.1)
    width = rng.uniform(0.95, 1.03)
    head = (x / (0.8 * width)) ** 2 + (y / 0.94) ** 2 + z**2
    image = np.where(head <= 1, look.bright, 0).astype(np.float32)
    image[head <= 0.86] = look.dark
    depth = 0.8 - 0.26 * severity
    folds = 1 + 0.06 * np.cos(14 * np.arctan2(y, x) + rng.uniform(0, 6))
    image[head * folds <= depth] = look.soft
    grow = 0.06 + 0.12 * severity
    for side in (-1, 1):
        ventricle = ((x - side * (0.07 + grow)) / grow) ** 2 + (y / (0.2 + grow)) ** 2 + (z / 0.6) ** 2
        image[ventricle <= 1] = look.dark
    return _acquire(image, look, rng, tissue=head <= 1)


def tumour(look: Look, rng: np.random.Generator, *, kind: str, size: int) -> tuple[Image, Mask]:
    """A slice of a brain and the mask of its tumour.

    A meningioma is round and even, at the skull; a glioma large with a dark core, inside; a pituitary tumour small, at the
    midline in front.
    """
    x, y = _plane(size)
    head = (x / 0.84) ** 2 + (y / 0.95) ** 2
    image = np.where(head <= 1, 0.8 * look.bright, 0).astype(np.float32)
    image[head <= 0.88] = look.soft
    for side in (-1, 1):
        image[((x - side * 0.1) / 0.06) ** 2 + (y / 0.22) ** 2 <= 1] = look.dark
    angle, side = rng.uniform(0, 2 * np.pi), rng.choice((-1, 1))
    if kind == "meningioma":
        (cx, cy), radius = (0.62 * np.cos(angle), 0.7 * np.sin(angle)), rng.uniform(0.16, 0.22)
    elif kind == "glioma":
        (cx, cy), radius = (side * rng.uniform(0.32, 0.38), rng.uniform(-0.3, 0.3)), rng.uniform(0.27, 0.34)
    elif kind == "pituitary":
        (cx, cy), radius = rng.uniform((-0.04, -0.5), (0.04, -0.42)), rng.uniform(0.1, 0.14)
    else:
        raise ValueError(f"unknown tumour {kind!r}; choose one of {', '.join(TUMOURS)}")
    distance = np.hypot(x - cx, y - cy) / radius
    uneven = 0.1 * np.cos(5 * np.arctan2(y - cy, x - cx) + angle) if kind == "glioma" else 0.0
    mask = (distance + uneven <= 1) & (head <= 0.95)
    image[mask] = look.bright * rng.uniform(0.9, 1.1)
    if kind == "glioma":
        image[distance <= 0.6] = look.dark
    return _acquire(image, look, rng, tissue=head <= 1), mask


def _plane(size: int) -> tuple[Image, Image]:
    axis = np.linspace(-1, 1, size, dtype=np.float32)
    return axis[:, None], axis[None, :]


def _acquire(image: NDArray[np.float32], look: Look, rng: np.random.Generator, tissue: Any = True) -> NDArray[np.float32]:
    """Texture, an uneven field, blur and noise; air outside `tissue` stays free of texture."""
    size = image.shape[0]
    wide = (size / 3, size / 3, 0)[: image.ndim]
    fine = (size / 24, size / 24, 1)[: image.ndim]
    texture, field = (gaussian_filter(rng.standard_normal(image.shape, dtype=np.float32), sigma) for sigma in (fine, wide))
    image = image + tissue * look.texture * texture / max(float(texture.std()), 1e-6)
    image = image * (1 + 0.03 * field / max(float(field.std()), 1e-6))
    image = gaussian_filter(image, (look.blur * size, look.blur * size, 0)[: image.ndim])
    return np.maximum(image + rng.normal(0, look.noise, image.shape), 0).astype(np.float32)
