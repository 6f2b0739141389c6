# SPDX-License-Identifier: Apache-2.0
"""Draws synthetic cases: a body with organs and lesions, or a short-axis heart."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from .domains import Domain

Volume = NDArray[np.float32]
Mask = NDArray[np.bool_]
Labels = NDArray[np.uint8]
Grid = tuple[Volume, Volume, Volume]

MIN_SIZE, MIN_SLICES = 16, 4


class Scene(NamedTuple):
    """One scan in RAS axes: intensities and labels (X, Y, Z), voxel size in mm."""

    image: Volume
    label: Labels
    spacing: tuple[float, float, float]


def body_scene(domain: Domain, rng: np.random.Generator, *, size: int, slices: int) -> Scene:
    """A body with organs (label 1) and lesions (label 2); `size` pixels a side, lesions not on every slice.

    A brain is its own body. Bright vessels a pixel or two wide run through the organs and are not lesions; dark
    ventricles lie in a brain.
    """
    check_shape(size, slices)
    grid = _grid(size, slices)
    body = _ellipsoid(grid, (0, 0, 0), (0.84, 0.72, 3.0))
    organ, dark = _organs(domain, rng, grid)
    organ &= body
    lesion = _lesions(domain, rng, organ, size, slices)
    jitter = rng.uniform(0.95, 1.05)
    air = -1000.0 if domain.scanner == "ct" else 0.0
    # no body intensity between the organs of a brain: it ends where the organ ends (skull-stripped)
    image = np.where(body & (domain.body != domain.organ), np.float32(domain.body), np.float32(air))
    image[organ] = domain.organ * jitter
    contrast = domain.lesion - domain.organ
    image[organ & _vessels(rng, grid)] += 0.7 * contrast
    image[dark & organ & ~lesion] = 0.35 * domain.organ
    image[lesion] = domain.organ * jitter + contrast * rng.uniform(0.85, 1.15)
    label = organ.astype(np.uint8) + lesion.astype(np.uint8)
    return Scene(_acquire(image, image > air, domain, rng), label, _spacing(domain, rng))


def heart_scenes(domain: Domain, rng: np.random.Generator, *, size: int, slices: int) -> tuple[Scene, Scene]:
    """A short-axis heart at end diastole and end systole: right ventricle 1, myocardium 2, left ventricle 3.

    The ventricles taper from base to apex and are missing on the last slice.
    """
    check_shape(size, slices)
    grid = _grid(size, slices)
    centre = rng.uniform(-0.15, 0.15, size=2)
    angle, radius = rng.uniform(-0.5, 0.5), 2 * rng.uniform(*domain.radius)
    blobs = _smooth(rng, (size, size, slices), size / 16) > 0.8
    spacing = _spacing(domain, rng)
    scenes = []
    for squeeze in (1.0, rng.uniform(0.6, 0.8)):
        label = _heart(grid, centre, angle, radius, squeeze)
        body = _ellipsoid(grid, (0, 0, 0), (0.95, 0.85, 3.0))
        image = np.where(body, np.float32(domain.body), np.float32(0.1 * domain.body))
        image[blobs & body] = 0.6 * domain.lesion + 0.4 * domain.body
        for value, mean in ((1, 0.95 * domain.lesion), (2, domain.organ), (3, domain.lesion)):
            image[label == value] = mean
        scenes.append(Scene(_acquire(image, np.ones_like(body), domain, rng), label, spacing))
    return scenes[0], scenes[1]


def check_shape(size: int, slices: int) -> None:
    """Raise ValueError for an image too small to hold the drawn anatomy."""
    if size < MIN_SIZE or slices < MIN_SLICES:
        raise ValueError(f"phantoms need size >= {MIN_SIZE} and slices >= {MIN_SLICES}, not {size} and {slices}")


def _grid(size: int, slices: int) -> Grid:
    """Coordinates -1..1 on each axis, broadcastable to (size, size, slices)."""
    plane = np.linspace(-1, 1, size, dtype=np.float32)
    return plane[:, None, None], plane[None, :, None], np.linspace(-1, 1, slices, dtype=np.float32)[None, None, :]


def _ellipsoid(grid: Grid, centre: tuple[float, float, float], radii: tuple[float, float, float]) -> Mask:
    (x, y, z), (cx, cy, cz), (rx, ry, rz) = grid, centre, radii
    return ((x - cx) / rx) ** 2 + ((y - cy) / ry) ** 2 + ((z - cz) / rz) ** 2 <= 1


def _smooth(rng: np.random.Generator, shape: tuple[int, ...], sigma: float) -> Volume:
    """Gaussian noise of standard deviation 1, correlated over `sigma` pixels in the plane and a slice across."""
    noise = gaussian_filter(rng.standard_normal(shape, dtype=np.float32), (sigma, sigma, 1.0))
    return noise / max(float(noise.std()), 1e-6)


def _organs(domain: Domain, rng: np.random.Generator, grid: Grid) -> tuple[Mask, Mask]:
    """The organs, and the dark ventricles of a brain (else nothing)."""
    shift = rng.uniform(-0.05, 0.05, size=2)
    scale = rng.uniform(0.9, 1.05)
    nothing = np.zeros(np.broadcast_shapes(*(g.shape for g in grid)), dtype=bool)
    if domain.organs == 2:
        radii = (0.31 * scale, 0.48 * scale, 1.15)
        left, right = (_ellipsoid(grid, (side + shift[0], shift[1], 0.0), radii) for side in (-0.42, 0.42))
        return left | right, nothing
    if domain.scanner == "ct":
        return _ellipsoid(grid, (0.15 + shift[0], shift[1], 0.0), (0.56 * scale, 0.52 * scale, 1.15)), nothing
    ventricles = [_ellipsoid(grid, (side, 0.05, 0.0), (0.07, 0.22, 0.6)) for side in (-0.12, 0.12)]
    return _ellipsoid(grid, (shift[0], shift[1], 0.0), (0.74 * scale, 0.62 * scale, 1.2)), ventricles[0] | ventricles[1]


def _lesions(domain: Domain, rng: np.random.Generator, organ: Mask, size: int, slices: int) -> Mask:
    """Ellipsoids with uneven borders inside the organ; none on the first and the last slice."""
    found = np.zeros_like(organ)
    inside = organ.copy()
    inside[..., [0, -1]] = False
    depth = gaussian_filter(inside.astype(np.float32), (size / 16, size / 16, 0.5))
    seeds = np.argwhere(inside & (depth > 0.9 * depth.max()))  # off the border, which would cut a lesion to a sliver
    index = np.meshgrid(*(np.arange(n, dtype=np.float32) for n in organ.shape), indexing="ij", sparse=True)
    for _ in range(rng.integers(domain.lesions[0], domain.lesions[1] + 1)):
        centre = seeds[rng.integers(len(seeds))]
        radius = size * rng.uniform(*domain.radius)
        radii = (radius, radius * rng.uniform(0.75, 1.25), max(1.2, slices * rng.uniform(0.12, 0.22)))
        distance = sum(((g - c) / r) ** 2 for g, c, r in zip(index, centre, radii, strict=True))
        uneven = np.clip(0.25 * _smooth(rng, organ.shape, radius / 2), -0.5, 0.5)
        found |= (distance + uneven <= 1) & inside
    return found


def _vessels(rng: np.random.Generator, grid: Grid) -> Mask:
    """Three thin tubes across the slices."""
    x, y, z = grid
    found = np.zeros(np.broadcast_shapes(x.shape, y.shape, z.shape), dtype=bool)
    for _ in range(3):
        (cx, cy), (dx, dy) = rng.uniform(-0.5, 0.5, size=2), rng.uniform(-0.2, 0.2, size=2)
        found |= (x - cx - dx * z) ** 2 + (y - cy - dy * z) ** 2 <= 0.04**2
    return found


def _heart(grid: Grid, centre: NDArray[np.float64], angle: float, radius: float, squeeze: float) -> Labels:
    x, y, z = grid
    cos, sin = np.cos(angle), np.sin(angle)
    u, v = cos * (x - centre[0]) + sin * (y - centre[1]), cos * (y - centre[1]) - sin * (x - centre[0])
    taper = np.sqrt(np.clip(1 - ((z + 1) / 2) ** 2, 0, 1))  # 1 at the base, 0 on the last slice
    wall = radius * taper * (1.45 + 0.15 * (1 - squeeze))  # the wall thickens as the cavity shrinks
    cavity = radius * taper * squeeze
    left = np.sqrt(u**2 + v**2)
    right = np.sqrt((u + 1.5 * radius * taper) ** 2 + (0.75 * v) ** 2)
    label = np.zeros(np.broadcast_shapes(x.shape, y.shape, z.shape), dtype=np.uint8)
    label[right < 1.15 * radius * taper * squeeze] = 1
    label[left < wall] = 2
    label[left < cavity] = 3
    return label


def _acquire(image: Volume, tissue: Mask, domain: Domain, rng: np.random.Generator) -> Volume:
    """What the scanner makes of the drawn intensities: texture, blur, bias and noise."""
    image = image + tissue * domain.texture * _smooth(rng, image.shape, 2.0)
    image = gaussian_filter(image, (domain.blur, domain.blur, 0.0))
    if domain.scanner == "ct":
        return np.clip(image + rng.normal(0, domain.noise, image.shape), -1024, 3071).astype(np.float32)
    image = image * (1 + 0.08 * _smooth(rng, image.shape, image.shape[0] / 3))
    real, imaginary = rng.normal(0, domain.noise, (2, *image.shape))
    rician = np.sqrt((image + real) ** 2 + imaginary**2)
    return np.where(tissue, rician, 0).astype(np.float32)


def _spacing(domain: Domain, rng: np.random.Generator) -> tuple[float, float, float]:
    pixel = round(float(rng.uniform(*domain.spacing)), 4)
    return pixel, pixel, round(float(rng.uniform(*domain.thickness)), 4)
