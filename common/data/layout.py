# SPDX-License-Identifier: Apache-2.0
"""Pairs the images and masks of a downloaded dataset by their names, and says what is wrong with which file."""

from __future__ import annotations

import os
import re
from pathlib import Path

from .facts import Item

NIFTI = r"\.nii(?:\.gz)?"


def pair(
    root: str | Path,
    *,
    dataset: str,
    image: str,
    label: str,
    layout: str,
    fix: str,
    ignore: str | None = None,
    unlabelled: str | None = None,
) -> list[Item]:
    """Walk `root` (links followed, hidden files and folders skipped) and pair its NIfTI files into items.

    `image`, `label`, `ignore` and `unlabelled` are regular expressions for the END of a path below `root` (with "/"):
    the folders above differ between mirrors and do not matter. `image` and `label` hold a group `case` (the patient)
    and may hold a group `volume` (the scan; without it the case's own name): a file is matched to its mask by both.
    `ignore` names files that belong to the dataset and are not read; an image that matches `unlabelled` may lack a mask
    and is then left out. `layout` shows the expected layout and `fix` says where the data come from; errors quote them.

    Returns items sorted by case, then volume. Raises FileNotFoundError for a missing or empty root, an image without a
    mask and a mask without an image, ValueError for a file that fits no name and for two files of one scan.
    """
    images: dict[tuple[str, str], Path] = {}
    labels: dict[tuple[str, str], Path] = {}
    for path in nifti_files(root, dataset=dataset, fix=fix):
        if matches(ignore, path, root):
            continue
        for pattern, found in ((image, images), (label, labels)):
            match = matches(pattern, path, root)
            if match:
                case = match["case"]
                key = (case, match["volume"] if "volume" in match.re.groupindex else case)
                if key in found:
                    raise ValueError(f"{dataset}: {found[key]} and {path} are the same scan; remove one of them")
                found[key] = path
                break
        else:
            raise ValueError(f"{dataset}: {path} fits no name of this dataset; rename or remove it. Expected: {layout}")
    if not images and not labels:
        raise FileNotFoundError(f"{dataset}: {root} holds no images. Expected: {layout}. {fix}")
    check_pairs(images, labels, dataset=dataset, layout=layout, fix=fix, root=root, unlabelled=unlabelled)
    return [item(dataset, case, volume, images[case, volume], labels[case, volume]) for case, volume in sorted(labels)]


def item(dataset: str, case: str, volume: str, image: Path, label: Path | None) -> Item:
    """One entry of a MONAI data list: the unit of folds is `case`, the unit of metrics is `case` with `volume`."""
    return {
        "image": str(image),
        "label": None if label is None else str(label),
        "case": f"{dataset}/{case}",
        "volume": volume,
    }


def check_root(root: str | Path, *, dataset: str, fix: str) -> Path:
    """Return `root` as a path, or raise FileNotFoundError / NotADirectoryError naming it."""
    root = Path(root)
    if not root.exists():
        raise FileNotFoundError(f"{dataset}: the folder {root} does not exist. {fix}")
    if not root.is_dir():
        raise NotADirectoryError(f"{dataset}: {root} is a file; give the folder the dataset was unpacked into")
    return root


def nifti_files(root: str | Path, *, dataset: str, fix: str, ending: str = NIFTI) -> list[Path]:
    """All NIfTI files below `root` (or those whose names end as the regular expression `ending` says), sorted.

    `._name` files (left by macOS archives) and hidden folders are skipped.
    """
    found = []
    # os.walk, because Path.rglob does not follow linked folders before Python 3.13 and datasets are often links
    for folder, folders, files in os.walk(check_root(root, dataset=dataset, fix=fix), followlinks=True):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [Path(folder, name) for name in files if re.search(f"(?:{ending})$", name) and not name.startswith(".")]
    return sorted(found)


def matches(pattern: str | None, path: Path, root: str | Path) -> re.Match[str] | None:
    """Match `pattern` against the end of `path` below `root`, from the start of a folder's or file's name."""
    if pattern is None:
        return None
    return re.search(rf"(?:^|/)(?:{pattern})$", path.relative_to(root).as_posix())


def check_pairs(
    images: dict[tuple[str, str], Path],
    labels: dict[tuple[str, str], Path],
    *,
    dataset: str,
    layout: str,
    fix: str,
    root: str | Path,
    unlabelled: str | None,
) -> None:
    """Raise FileNotFoundError for a mask without image, or an image without mask that `unlabelled` does not fit."""
    for key, path in sorted(labels.items()):
        if key not in images:
            raise FileNotFoundError(f"{dataset}: the mask {path} has no image. Expected: {layout}. {fix}")
    for key, path in sorted(images.items()):
        if key not in labels and not matches(unlabelled, path, root):
            raise FileNotFoundError(
                f"{dataset}: the image {path} has no mask. Add the mask or remove the image. Expected: {layout}. {fix}"
            )
    if not labels:
        raise FileNotFoundError(f"{dataset}: {root} holds images but no mask, only test images. {fix}")
