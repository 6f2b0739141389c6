# SPDX-License-Identifier: Apache-2.0
"""What the files of a user's dataset say of its facts, and the questions where they leave them open."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from tqdm import tqdm

from . import dataset_json
from .facts import Item, read_folder
from .folds import make_split
from .store import volumes
from .transforms import PICTURES, LoadItemd

__all__ = ["measure", "slice_axis"]

ANISOTROPIC = 1.5  # so many times coarser is the axis of the slices


def measure(name: str, place: Path, channel: int | None = None, *, task: str = "segmentation") -> dict[str, Any]:
    """Read every image of a table or folder once.

    Returns dimensions, intensity range, label values, what a dataset.json calls them, whether spacing is known, and of volumes
    that have an affine their axis codes, each with a volume and its spacing.

    Raises:
        ValueError, FileNotFoundError: the table or a file of it cannot be used, or the patients are too few for folds; names
            it.
    """
    root = place.parent if place.suffix == ".csv" else place
    items = read_folder(root, name, task=task, channel=channel)
    masks = task == "segmentation"
    dims = 2 if str(items[0]["image"]).lower().endswith(PICTURES) else 3
    labelled = [item["case"] for item in items if item["label"] is not None]
    if not labelled:
        what = "masks" if masks else "labels"
        raise ValueError(f"{place} has no {what} at all; fill the {what[:-1]} column of the labelled images.")
    volumes(items, dims=dims, task=task)
    make_split((item["case"] for item in items), fold=0, labelled=labelled)
    load = LoadItemd(["image", "label"] if masks else ["image"], dims=dims)
    values: Counter[Any] = Counter()
    low, high, sizes = np.inf, -np.inf, []
    axes: dict[str, tuple[str, tuple[float, ...]]] = {}
    listed = not (root / "index.csv").is_file()  # in a dataset.json
    ignored = dataset_json.ignored(root, name=name) if listed else None
    names = dataset_json.classes(root, name=name) if listed and masks else {}
    for item in tqdm(items, desc=f"reading {name}", unit="image"):
        data = load(dict(item))
        low, high = min(low, float(data["image"].min())), max(high, float(data["image"].max()))
        sizes.append(data["image"].shape[1:])
        if dims == 3 and isinstance(item["image"], str):
            affine = np.asarray(data["image"].affine)
            codes = "".join(map(str, nib.orientations.aff2axcodes(affine)))
            spacing = tuple(nib.affines.voxel_sizes(affine).tolist())
            if codes not in axes or max(spacing) / min(spacing) > max(axes[codes][1]) / min(axes[codes][1]):
                axes[codes] = item["image"], spacing  # the one that tells most of where its slices lie
        if item["label"] is not None:
            values.update(_mask_values(item, data["label"], ignored) if masks else [item["label"]])
    told = f"{len(labelled)} with masks" if masks else ", ".join(f"{n} {label!r}" for label, n in sorted(values.items()))
    print(
        f"{name}: {len({i['case'] for i in items})} cases, {len(items)} images ({told}), sizes {_range(sizes)},"
        f" intensities {low:g} to {high:g}" + (f", label values {sorted(values)}" if masks else "")
    )
    if listed:
        _tell_patients(place, [str(item["case"]).split("/", 1)[1] for item in items])
    found = {"dims": dims, "low": low, "high": high, "values": sorted(values), "axes": axes, "names": names}
    return found | {"spacing_known": _spacing_known(place, items, dims)}


def _tell_patients(place: Path, cases: Sequence[str]) -> None:
    """Say which files of a dataset.json, where each is a patient, look like one patient's."""
    beginnings = Counter(case.rpartition("_")[0] for case in cases)
    beginning, number = beginnings.most_common(1)[0]
    if number > 1 and len(beginnings) > 1:
        alike = [case for case in cases if case.rpartition("_")[0] == beginning]
        print(
            f"  each file of {place} counts as a patient. Are {alike[0]} and {alike[1]} of one? Then folds would tear them"
            " apart: write an index.csv with a case_id a patient beside the dataset.json"
        )


def _spacing_known(place: Path, items: Sequence[Item], dims: int) -> bool:
    """Whether volumes' files or the table say what a pixel measures, for all images or for none."""
    silent = [item for item in items if dims == 2 or isinstance(item["image"], list)]
    without = [item for item in silent if "spacing" not in item]
    if without and len(without) < len(silent):
        image = without[0]["image"]
        raise ValueError(
            f"{place} gives the spacing of {len(silent) - len(without)} images but not of {len(without)}, such as"
            f" {image if isinstance(image, str) else image[0]}; fill the column for all, or for none."
        )
    return not without


def slice_axis(measured: Mapping[str, Mapping[str, Any]], orientation: str | None, given: int | None) -> int:
    """The axis along which volumes are cut; asks where their axes differ, or their spacing speaks against the last axis.

    Args:
        measured: dataset -> what `measure` found in it.
        orientation: axis codes that volumes are brought to, if any.
        given: the axis, where the user names one.

    Raises:
        ValueError: the question, with the files that raise it.
    """
    axes = [(codes, key, *volume) for key, found in measured.items() for codes, volume in found["axes"].items()]
    if orientation is None and len({codes for codes, *_ in axes}) > 1:
        told = "; ".join(f"{path} of {key} has {codes}" for codes, key, path, _ in axes)
        raise ValueError(
            f"volumes differ in the order or direction of their axes: {told}. Give --orientation {axes[0][0]} to turn all"
            " alike by their affines, and the axis of the slices after that as --slice-axis, if it is not 2."
        )
    if given is not None:
        return given
    for codes, key, path, spacing in axes:
        if orientation is not None:
            ends = (nib.orientations.axcodes2ornt(end) for end in (codes, orientation))
            goes = nib.orientations.ornt_transform(*ends)[:, 0].tolist()
            spacing = tuple(spacing[goes.index(axis)] for axis in range(3))
        coarsest = int(np.argmax(spacing))
        if spacing[coarsest] > ANISOTROPIC * spacing[2]:
            told = " x ".join(f"{value:g}" for value in spacing)
            raise ValueError(
                f"{path} of {key} has a spacing of {told} mm: are its slices along axis {coarsest}? Answer with --slice-axis"
                f" {coarsest}, or with --slice-axis 2."
            )
    return 2


def _mask_values(item: Item, mask: Any, ignored: int | None) -> set[int]:
    found = np.unique(np.asarray(mask))
    if ignored is not None and ignored in found:
        raise ValueError(
            f"{item['label']} has voxels of the label 'ignore' ({ignored}), which would be taught as background; annotate"
            " them, or leave the case out."
        )
    if not np.array_equal(found, np.round(found)):
        raise ValueError(f"{item['label']} holds values that are no whole numbers; a mask holds class values.")
    return {int(v) for v in found}


def _range(sizes: list[Any]) -> str:
    lowest, highest = np.min(sizes, axis=0), np.max(sizes, axis=0)
    return " x ".join(str(a) if a == b else f"{a}-{b}" for a, b in zip(lowest, highest, strict=True))
