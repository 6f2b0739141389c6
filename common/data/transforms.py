# SPDX-License-Identifier: Apache-2.0
"""Loading with checks, the preprocessing that training and deployment share, and the augmentation of every arm."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from monai.inferers import Inferer, SimpleInferer, SliceInferer
from monai.transforms import (
    Activationsd,
    AsDiscreted,
    CenterScaleCropd,
    Compose,
    Invertd,
    LoadImage,
    MapLabelValued,
    MapTransform,
    Orientationd,
    RandAdjustContrastd,
    RandFlipd,
    RandGaussianNoised,
    RandGaussianSmoothd,
    RandRotate90d,
    RandZoomd,
    Resized,
    ScaleIntensityRanged,
    ScaleIntensityRangePercentilesd,
    ThresholdIntensityd,
)
from PIL import Image

from ..errors import brief
from .facts import Facts
from .matlab import MatReader
from .series import check_series

__all__ = ["PICTURES", "SliceMean", "augmentation", "evaluation", "inferer", "preprocessing", "restore"]

PICTURES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")
MODES = ("1", "L", "I", "I;16", "F", "RGB", "RGBA")  # grey, or grey three times; see LoadItemd


class LoadItemd(MapTransform):
    """Load images and masks channel-first, and refuse by name what cannot be trained on.

    A path is read by MONAI's `LoadImage` (NIfTI, PNG, JPEG, DICOM folder, the `.mat` files of Figshare); a list of 2-D files
    becomes one volume, slices on the last axis; the channels of an RGB picture are averaged, those of a mask must be equal.
    Shapes: (1, H, W) for `dims=2`, (1, X, Y, Z) for `dims=3`. `label: None` is passed over. With `masks_by_index` a
    mask whose affine has unit steps takes that of its image.

    Raises:
        ValueError: a file is unreadable, empty, not finite, of other dimensions, an image in a mode whose numbers are no
            intensities (a palette's, CMYK), a mask in colours, or image and mask differ in shape or affine; the message
            names the file.
    """

    def __init__(self, keys: Sequence[str], *, dims: int, masks_by_index: bool = False) -> None:
        super().__init__(keys)
        self.dims, self.masks_by_index = dims, masks_by_index
        self.load = LoadImage(image_only=True, ensure_channel_first=True)
        self.load.register(MatReader())

    def _read(self, path: str, key: Hashable) -> MetaTensor:
        if not Path(path).exists():
            raise FileNotFoundError(f"{path} does not exist; check the dataset folder or the table's row.")
        check_series(path)
        try:
            if key == "image" and path.lower().endswith(PICTURES):
                with Image.open(path) as picture:  # reads the header only
                    mode = picture.mode
            else:
                mode = "L"  # a mask may be a palette's numbers
            image = self.load(path)
        except Exception as error:  # each reader raises types of its own for a damaged file
            message = f"{path} cannot be read ({brief(error)}); is the file complete? Copy it again, or take its case out."
            raise ValueError(message) from error
        if mode not in MODES:
            raise ValueError(f"{path} has the mode {mode}; intensities are expected: save it as an 8 or 16 bit grey image.")
        if image.shape[0] in (3, 4) and path.lower().endswith(PICTURES):  # an RGB or RGBA picture of a grey image
            if key == "label" and not bool((image[:3] == image[:1]).all()):
                raise ValueError(f"{path} is a mask in colours; save it as one channel of class values.")
            image = image[:3].float().mean(0, keepdim=True)
        if image.shape[0] != 1:
            raise ValueError(f"{path} has {image.shape[0]} channels; one is expected: save that one as a file of its own.")
        return image

    def _stack(self, paths: Sequence[str], key: Hashable) -> MetaTensor:
        slices = [self._read(path, key) for path in paths]
        shapes = {tuple(s.shape) for s in slices}
        if len(shapes) > 1:
            raise ValueError(f"{paths[0]} and the other slices of its volume differ in size: {sorted(shapes)}.")
        return MetaTensor(torch.stack([s.as_tensor() for s in slices], dim=-1), meta={"filename_or_obj": str(paths[0])})

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        out = dict(data)
        first: tuple[str, MetaTensor] | None = None
        for key in self.key_iterator(out):
            source = out[key]
            if source is None:  # unlabelled
                del out[key]
                continue
            name = source if isinstance(source, str) else source[0]
            dims = 2 if isinstance(source, list) else self.dims
            image = self._read(source, key) if isinstance(source, str) else self._stack(source, key)
            if image.ndim - 1 != (self.dims if dims == self.dims else 3):
                fix = "save it so, or correct the dataset's `dims`"
                raise ValueError(f"{name} has {image.ndim - 1} dimensions; {self.dims} are expected: {fix}.")
            if image.numel() == 0:
                raise ValueError(f"{name} is empty (shape {tuple(image.shape[1:])}); export it again, or take its case out.")
            if not bool(torch.isfinite(image).all()):
                raise ValueError(f"{name} holds values that are not finite; mask or replace them first.")
            # A NIfTI file or a DICOM series says it itself; of files that are slices nothing but the pixels is kept.
            says = isinstance(source, str) and (source.endswith((".nii", ".nii.gz")) or Path(source).is_dir())
            if out.get("spacing") is not None and not says:
                if len(out["spacing"]) < self.dims:
                    raise ValueError(f"{name} has 3 dimensions but a spacing of 2 numbers; give x, y and z.")
                image.affine = torch.diag(torch.tensor([*out["spacing"], *[1.0] * (4 - len(out["spacing"]))]).double())
            if first is not None:
                other, reference = first
                if image.shape != reference.shape:
                    raise ValueError(
                        f"{name} has shape {tuple(image.shape[1:])} but its image {other} has {tuple(reference.shape[1:])};"
                        " resample one onto the other's grid."
                    )
                if self.masks_by_index and np.allclose(image.affine[:3, :3], np.eye(3)):
                    image.affine = reference.affine.clone()
                if self.dims == 3 and not np.allclose(image.affine, reference.affine, atol=1e-2):
                    raise ValueError(f"{name} has another affine than its image {other}; resample one onto the other's grid.")
            else:
                first = (name, image)
            out[key] = image
        return out


class LabelValuesd(MapTransform):
    """Refuse a mask that holds a raw value its dataset does not define, naming file and values."""

    def __init__(self, keys: Sequence[str], *, values: Sequence[int]) -> None:
        super().__init__(keys, allow_missing_keys=True)
        self.values = torch.tensor(sorted(values), dtype=torch.float32)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        out = dict(data)
        for key in self.key_iterator(out):
            present = torch.unique(out[key].as_tensor()).float()
            unknown = [f"{value:g}" for value in present[~torch.isin(present, self.values)].tolist()]
            if unknown:
                name = out[key].meta.get("filename_or_obj", key)
                raise ValueError(
                    f"{name} holds label values {', '.join(unknown[:8])}; its dataset knows {self.values.int().tolist()}:"
                    " correct the mask, or the group file's label_values."
                )
        return out


class ClassIndexd(MapTransform):
    """The raw label string under `label` becomes its class's index, a 0-dim long tensor; None is passed over.

    Raises:
        ValueError: a label that the dataset does not know (see `Facts.class_of`) or that is in none of its classes.
    """

    def __init__(self, facts: Facts) -> None:
        super().__init__("label")
        self.facts = facts

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        out = dict(data)
        if out["label"] is None:
            del out["label"]
            return out
        index = self.facts.class_of(out)  # type: ignore[arg-type]  # an Item by now
        if index is None:
            raise ValueError(f"{out['image']} has the label {out['label']!r}, which is in no class; leave the image out.")
        return out | {"label": torch.tensor(index)}


class ContentHashd(MapTransform):
    """Put a SHA-256 of the image's values under `content`, empty for a constant image, which says nothing.

    Its place is before windows and sizes, by which datasets differ: a copy of an image in another dataset has the same one.
    """

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        image = data[self.first_key(dict(data))].as_tensor().float().contiguous()
        told = hashlib.sha256(str(tuple(image.shape)).encode() + image.numpy().tobytes()).hexdigest()
        return dict(data) | {"content": told if image.min() < image.max() else ""}


def label_map(facts: Facts) -> tuple[list[int], list[int]]:
    """Raw label values, and the class indices they become (0 = background)."""
    index = {value: channel for channel, values in enumerate(facts.classes.values(), start=1) for value in values}
    return list(facts.label_values), [index.get(v, 0) for v in facts.label_values]


def intensity(facts: Facts) -> Any:
    """Intensities of the image to [0, 1], clipped."""
    if facts.window is not None:
        return ScaleIntensityRanged("image", *facts.window, b_min=0.0, b_max=1.0, clip=True)
    assert facts.percentiles is not None
    return ScaleIntensityRangePercentilesd("image", *facts.percentiles, b_min=0.0, b_max=1.0, clip=True)


def preprocessing(facts: Facts, image_size: int) -> Compose:
    """From files to what the network sees: reoriented, intensities in [0, 1], resized in-plane to `image_size` pixels.

    Slices stay on `facts.slice_axis`; volumes keep their number of slices, or `facts.middle_share` of it. The label becomes
    class indices, voxel by voxel or one of the whole image. The inference bundles write the same steps in stock transforms (a
    test holds them equal).
    """
    if facts.classification:
        return Compose(
            [*_labelled_image(facts), ContentHashd("image"), *_middle(facts), *_to_network(facts, image_size, ["image"])]
        )
    keys = ["image", "label"]
    old, new = label_map(facts)
    steps: list[Any] = [
        LoadItemd(keys, dims=facts.dims, masks_by_index=facts.masks_by_index),
        LabelValuesd(["label"], values=facts.label_values),
        MapLabelValued("label", allow_missing_keys=True, orig_labels=old, target_labels=new),
    ]
    return Compose([*steps, *_turn(facts, keys), ContentHashd("image"), *_to_network(facts, image_size, keys)])


def _labelled_image(facts: Facts) -> list[Any]:
    return [ClassIndexd(facts), LoadItemd(["image"], dims=facts.dims), *_turn(facts, ["image"])]


def _middle(facts: Facts) -> list[Any]:
    if facts.middle_share == 1:
        return []
    scale = [1.0, 1.0, 1.0]
    scale[facts.slice_axis] = facts.middle_share
    return [CenterScaleCropd("image", roi_scale=scale)]


def _turn(facts: Facts, keys: Sequence[str]) -> list[Any]:
    if facts.orientation is None:
        return []
    return [Orientationd(keys, axcodes=facts.orientation, labels=None, allow_missing_keys=True)]


def _to_network(facts: Facts, image_size: int, keys: Sequence[str]) -> list[Any]:
    size = [image_size] * facts.dims
    if facts.dims == 3:
        size[facts.slice_axis] = -1
    smooth = "trilinear" if facts.dims == 3 else "bilinear"
    modes = [smooth if key == "image" else "nearest" for key in keys]
    # where both percentiles coincide (a nearly black image) the stock scaling shifts only, and does not clip
    clip = ThresholdIntensityd("image", threshold=1.0, above=False, cval=1.0)
    return [intensity(facts), clip, Resized(keys, spatial_size=size, mode=modes, allow_missing_keys=True)]


def evaluation(facts: Facts, image_size: int) -> Compose:
    """What is deployed, beside the truth.

    The image goes as in `preprocessing`, the label stays in the file's geometry, as class indices; a label of the whole image
    becomes its class's index.
    """
    if facts.classification:
        return Compose([*_labelled_image(facts), *_middle(facts), *_to_network(facts, image_size, ["image"])])
    old, new = label_map(facts)
    steps: list[Any] = [
        LoadItemd(["image", "label"], dims=facts.dims, masks_by_index=facts.masks_by_index),
        LabelValuesd(["label"], values=facts.label_values),
        MapLabelValued("label", orig_labels=old, target_labels=new),
    ]
    return Compose([*steps, *_turn(facts, ["image"]), *_to_network(facts, image_size, ["image"])])


def restore(transform: Compose) -> Compose:
    """From a network's output back to class indices in the file's geometry; `transform` is what the image went through."""
    return Compose(
        [
            Activationsd("pred", softmax=True),
            Invertd("pred", transform=transform, orig_keys="image", nearest_interp=False, to_tensor=True),
            AsDiscreted("pred", argmax=True),
        ]
    )


class SliceMean(Inferer):
    """Classifies a volume (B, C, X, Y, Z): the logarithm of its slices' mean softmax (B, K), of which softmax is that mean.

    Sixteen slices at a time, as a volume is segmented.
    """

    def __init__(self, slice_axis: int) -> None:
        super().__init__()
        self.slice_axis = slice_axis

    def __call__(self, inputs: torch.Tensor, network: Callable[..., Any]) -> torch.Tensor:  # type: ignore[override]
        slices = inputs.movedim(2 + self.slice_axis, 1)
        logits = torch.cat([network(part) for part in slices.flatten(0, 1).split(16)])
        mean = logits.float().log_softmax(1).unflatten(0, slices.shape[:2]).logsumexp(1)
        return mean - np.log(slices.shape[1])


def inferer(facts: Facts, image_size: int) -> Inferer:
    """Slice by slice along the slice axis for volumes, plain for images."""
    if facts.dims == 2:
        return SimpleInferer()
    if facts.classification:
        return SliceMean(facts.slice_axis)
    return SliceInferer(roi_size=[image_size, image_size], sw_batch_size=16, spatial_dim=facts.slice_axis)


def augmentation(*, task: str = "segmentation", upright: bool = False) -> Compose:
    """The augmentation of a training slice, the same in every arm: flips, quarter turns, scaling, gamma, noise, blur.

    Args:
        task: for classification the label is passed on as it is.
        upright: no quarter turns and no flips upside down, for images that always stand upright, such as chest radiographs:
            turned ones are never met, and where the diaphragm and the heart lie is part of what is learned.
    """
    keys = ("image", "label") if task == "segmentation" else ("image",)
    modes = ("bilinear", "nearest")[: len(keys)]
    turns = [RandFlipd(keys, prob=0.5, spatial_axis=1), RandRotate90d(keys, prob=0.5, max_k=3)]
    return Compose(
        [
            RandFlipd(keys, prob=0.5, spatial_axis=0),  # left and right: the axes are (x, y)
            *([] if upright else turns),
            RandZoomd(keys, prob=0.3, min_zoom=0.8, max_zoom=1.25, mode=modes, padding_mode="constant"),
            RandAdjustContrastd("image", prob=0.3, gamma=(0.7, 1.5)),
            RandGaussianNoised("image", prob=0.2, std=0.05),
            RandGaussianSmoothd("image", prob=0.2, sigma_x=(0.25, 1.0), sigma_y=(0.25, 1.0)),
        ]
    )
