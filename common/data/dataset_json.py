# SPDX-License-Identifier: Apache-2.0
"""Any folder with a dataset.json: the Medical Segmentation Decathlon's (also nnU-Net v1's) and nnU-Net v2's."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from .facts import Item
from .layout import check_root, item

_LAYOUTS = (
    'MSD: {"training": [{"image": ..., "label": ...}]}; nnU-Net v2: {"channel_names", "labels", "file_ending"} with '
    "imagesTr/CASE_0000.nii.gz and labelsTr/CASE.nii.gz"
)
_ENDINGS = (".nii.gz", ".nii", ".png")


def cases(root: str | Path, *, name: str, channel: int | None = None, fix: str = "") -> list[Item]:
    """List the training cases of `root`/dataset.json as items of the dataset `name`; a case is a file's name.

    `channel` picks the image channel of a multi-channel dataset (nnU-Net keeps one file a channel); None is allowed
    where there is only one. Test images (imagesTs) are left out. 2-D PNG cases get volume "".

    Raises FileNotFoundError for a missing root, dataset.json, image or mask; ValueError for a dataset.json that cannot
    be read, a channel that is not there and a file in imagesTr or labelsTr that belongs to no pair.
    """
    root = check_root(root, dataset=name, fix=fix)
    content = read(root, name=name, fix=fix)
    index = _channel(content, channel, root, name)
    pairs = _listed(content, root, index, name) if "training" in content else _paired(content, root, index, name)
    if not pairs:
        raise FileNotFoundError(f"{name}: {root / 'dataset.json'} lists no training case. {fix}".rstrip())
    for image, label in pairs.values():
        for path, what in ((image, "image"), (label, "mask")):
            if not path.is_file():
                raise FileNotFoundError(f"{name}: the {what} {path} is missing; add it or take its case out. {fix}".rstrip())
    return [
        item(name, case, "" if image.suffix == ".png" else case, image, label) for case, (image, label) in sorted(pairs.items())
    ]


def classes(root: str | Path, *, name: str) -> dict[str, tuple[int, ...]]:
    """The classes of `root`/dataset.json: name -> label values, background and nnU-Net's "ignore" left out.

    Reads {"0": "background", "1": "cancer"} (MSD), {"background": 0, "cancer": 1} and regions {"whole": [1, 2]} (v2).
    """
    found: dict[str, tuple[int, ...]] = {}
    for key, value in read(Path(root), name=name)["labels"].items():
        title, values = (value, key) if isinstance(value, str) else (key, value)
        if title.lower() in ("background", "ignore"):
            continue
        try:
            found[title] = tuple(int(v) for v in (values if isinstance(values, list) else [values]))
        except (TypeError, ValueError) as error:
            where = f"'labels' in {Path(root) / 'dataset.json'}"
            raise ValueError(f"{name}: {where}: {title!r} is to have a whole number, or several, not {values!r}") from error
    if not found:
        raise ValueError(f"{name}: 'labels' in {Path(root) / 'dataset.json'} names no class beside the background")
    return dict(sorted(found.items(), key=lambda pair: pair[1]))


def ignored(root: str | Path, *, name: str) -> int | None:
    """The value of nnU-Net's label "ignore" (voxels that nobody annotated) in `root`/dataset.json, if it has one."""
    labels = read(Path(root), name=name)["labels"]
    return next((int(value) for key, value in labels.items() if key.lower() == "ignore"), None)


def read(root: Path, *, name: str, fix: str = "") -> dict[str, Any]:
    """Read and check `root`/dataset.json."""
    path = root / "dataset.json"
    if not path.is_file():
        raise FileNotFoundError(f"{name}: {path} is missing; expected {_LAYOUTS}. {fix}".rstrip())
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except ValueError as error:
        raise ValueError(f"{name}: {path} is not valid JSON ({error}); unpack it again") from error
    for keys in (("labels",), ("channel_names", "modality"), ("training", "file_ending")):
        if not isinstance(content, dict) or not any(key in content for key in keys):
            raise ValueError(f"{name}: {path} lacks the key {' or '.join(map(repr, keys))}; expected {_LAYOUTS}")
    if not isinstance(content["labels"], dict):
        raise ValueError(f"{name}: 'labels' in {path} is to be an object of names and values, not {content['labels']!r}")
    if isinstance(content.get("modality"), str):  # one channel, such as "CT"
        content["modality"] = {"0": content["modality"]}
    return content


def _channel(content: dict[str, Any], channel: int | None, root: Path, name: str) -> int:
    key = "channel_names" if "channel_names" in content else "modality"
    listed = content[key]
    if not isinstance(listed, dict) or not listed or not all(index.isdecimal() for index in listed):
        fix = 'write it as {"0": "CT"}, with the image\'s modality'
        raise ValueError(f"{name}: {key!r} in {root / 'dataset.json'} is {listed!r}, which numbers no channel; {fix}")
    names = {int(index): title for index, title in listed.items()}
    if channel is None and len(names) > 1:
        raise ValueError(
            f"{name}: {root / 'dataset.json'} has {len(names)} channels {names}; say which: `channel: N` in the group file's"
            f" entry, --dataset {name}=DIR:channel=N for new_group.py"
        )
    if channel is not None and channel not in names:
        raise ValueError(f"{name}: channel {channel} is not among {names} of {root / 'dataset.json'}")
    return 0 if channel is None else channel


def _listed(content: dict[str, Any], root: Path, channel: int, name: str) -> dict[str, tuple[Path, Path]]:
    """The pairs of an MSD list; nnU-Net v1 lists imagesTr/CASE.nii.gz and keeps imagesTr/CASE_0000.nii.gz."""
    pairs: dict[str, tuple[Path, Path]] = {}
    for entry in content["training"]:
        if not isinstance(entry, dict) or set(entry) != {"image", "label"}:
            raise ValueError(f"{name}: {root / 'dataset.json'}: 'training' needs {{image, label}} entries, not {entry!r}")
        image, label = root / entry["image"], root / entry["label"]
        case, ending = _split(label, name)
        by_channel = image.with_name(f"{case}_{channel:04d}{ending}")
        if by_channel.is_file():
            image = by_channel
        elif channel or len(content.get("modality", [0])) > 1:
            raise ValueError(f"{name}: {image} holds its channels in one 4-D file; save one file a channel: {by_channel}")
        if case in pairs:
            raise ValueError(f"{name}: {root / 'dataset.json'} lists the mask {label} twice; remove one entry")
        pairs[case] = (image, label)
    _nothing_left(root, {path for pair in pairs.values() for path in pair}, name, set(pairs))
    return pairs


def _paired(content: dict[str, Any], root: Path, channel: int, name: str) -> dict[str, tuple[Path, Path]]:
    """The pairs of an nnU-Net v2 folder, which lists no files: every mask in labelsTr with its image in imagesTr."""
    ending = content["file_ending"]
    if ending not in _ENDINGS:
        raise ValueError(f"{name}: file_ending {ending!r} in {root / 'dataset.json'} is not read; save as .nii.gz or .png")
    masks = sorted(path for path in (root / "labelsTr").glob("[!.]*") if path.name.endswith(ending))
    pairs = {
        case: (root / "imagesTr" / f"{case}_{channel:04d}{ending}", mask)
        for case, mask in ((_split(mask, name)[0], mask) for mask in masks)
    }
    _nothing_left(root, {path for pair in pairs.values() for path in pair}, name, set(pairs))
    return pairs


def _nothing_left(root: Path, used: set[Path], name: str, known: set[str]) -> None:
    """Refuse an image or mask beside the listed ones: it would be left out silently."""
    read_files = {path.resolve() for path in used}
    for folder, lack in (("imagesTr", "mask"), ("labelsTr", "image")):
        for path in sorted((root / folder).glob("[!.]*")):
            if path.name.endswith(_ENDINGS) and path.resolve() not in read_files:
                case = _split(path, name)[0]
                channel_of = re.sub(r"_\d{4}$", "", case)
                if folder == "labelsTr" or channel_of == case or channel_of not in known:
                    raise ValueError(f"{name}: {path} has no {lack} (by dataset.json and the names); add it or remove the file")


def _split(path: Path, name: str) -> tuple[str, str]:
    for ending in _ENDINGS:
        if path.name.endswith(ending):
            return path.name.removesuffix(ending), ending
    raise ValueError(f"{name}: {path} is not a NIfTI or PNG file; save it as one of {', '.join(_ENDINGS)}")
