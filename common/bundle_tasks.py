# SPDX-License-Identifier: Apache-2.0
"""The facts of a bundle that depend on its task: networks, training, distillation, deployment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .data.facts import Facts
from .networks import EfficientNet, UNet
from .presets import CLASSIFIER

__all__ = ["Classification", "Segmentation", "deployed"]


class Segmentation:
    """Facts of segmentation bundles at a preset's sizes."""

    def __init__(self, preset: Mapping[str, Any]) -> None:
        self.preset = preset

    def training(self, role: str, dataset: str) -> dict[str, Any]:
        return dict(self.preset["training"])

    def networks(self, role: str, facts: Facts) -> dict[str, Any]:
        """Both architectures' facts; `architecture` chooses."""
        channels = {"out_channels": facts.out_channels}
        sizes = self.preset[role]
        return {
            "unet": {"_target_": "common.networks.UNet", **channels, "features": sizes["features"]},
            "transresunet": {"_target_": "common.networks.TransResUNet", **channels, "width": sizes["width"]},
        }

    def joint(self, dataset: str) -> dict[str, Any]:
        return {}

    def distillation(self, dataset: str) -> dict[str, Any]:
        return {}

    def stock(self, facts: Facts) -> dict[str, Any] | None:
        """The library's class that runs the student's weights."""
        return UNet(out_channels=facts.out_channels, features=self.preset["student"]["features"]).stock


class Classification:
    """Facts of classification bundles: a preset's sizes, and what the group file's `settings` say of a dataset.

    Raises:
        ValueError: `settings` names an unknown key; see `presets.CLASSIFIER`.
    """

    def __init__(self, preset: Mapping[str, Any], settings: Mapping[str, Mapping[str, Any]]) -> None:
        self.preset, self.settings = preset, settings
        for dataset, own in settings.items():
            if set(own) - set(CLASSIFIER):
                raise ValueError(
                    f"settings of {dataset}: unknown {sorted(set(own) - set(CLASSIFIER))}; known {list(CLASSIFIER)}."
                )

    def of(self, dataset: str) -> dict[str, Any]:
        own = CLASSIFIER | dict(self.settings.get(dataset) or {})
        for key in ("learning_rate", "weight_decay"):
            if own[f"baseline_{key}"] is None:
                own[f"baseline_{key}"] = own[f"student_{key}"]
        return own

    def training(self, role: str, dataset: str) -> dict[str, Any]:
        """Sizes and rates; `role` is teacher, student, joint, or baseline (the student's network, not distilled)."""
        own, prefix = self.of(dataset), "" if role == "teacher" else f"{role}_"
        training = dict(self.preset["training"])
        rate = own[f"{prefix}learning_rate"]
        training |= {} if rate is None else {"learning_rate": rate}
        training |= {"weight_decay": own[f"{prefix}weight_decay"], "upright": own["upright"]}
        return training

    def networks(self, role: str, facts: Facts) -> dict[str, Any]:
        """The architectures' facts; `architecture` chooses, the others are not built."""
        own = self.of(facts.name)
        return {
            "architecture": own[role],
            "networks": {name: self._network(name, own, facts) for name in ("EfficientNet", "MedViT")},
        }

    def _network(self, name: str, own: Mapping[str, Any], facts: Facts) -> dict[str, Any]:
        network: dict[str, Any] = {"_target_": f"common.networks.{name}", "_disabled_": f"$@architecture != '{name}'"}
        network |= {"out_channels": facts.out_channels, "dropout": own["dropout"]}
        if name == "MedViT":
            return network | {"variant": own["medvit"], "attention_dropout": own["attention_dropout"]}
        return network | {"variant": self.preset["variants"][name]}

    def hybrid(self, name: str, branches: Sequence[str], facts: Facts) -> dict[str, Any]:
        """The facts of a teacher of several networks side by side, each with as many outputs as there are classes."""
        sizes: dict[str, dict[str, Any]] = {"VGG19": {}, "ViT": {"image_size": "@image_size"}}
        if unknown := [branch for branch in branches if branch not in sizes]:
            raise ValueError(f"teachers: {name} is made of {', '.join(unknown)}; choose of {', '.join(sizes)}.")
        outputs = {"out_channels": facts.out_channels}
        parts = [{"_target_": f"common.networks.{branch}", **outputs, **sizes[branch]} for branch in branches]
        return {"architecture": name, "networks": {name: {"_target_": "common.networks.Hybrid", "branches": parts, **outputs}}}

    def joint(self, dataset: str) -> dict[str, Any]:
        own = self.of(dataset)
        return {key: own[key] for key in ("joint_ch", "fa_blocks", "dropout", "attention_dropout")}

    def distillation(self, dataset: str) -> dict[str, Any]:
        own = self.of(dataset)
        keys = ("class_weights", "alpha", "temperature", "warmup", "ramp", "ceiling", "gamma", "delta", "kappa", "geometric")
        return {key: own[key] for key in keys}

    def stock(self, facts: Facts) -> dict[str, Any] | None:
        own = self.of(facts.name)
        if own["student"] != "EfficientNet":
            return None
        variant = self.preset["variants"]["EfficientNet"]
        return EfficientNet(out_channels=facts.out_channels, variant=variant, dropout=own["dropout"]).stock


def deployed(facts: Facts, size: int | str) -> dict[str, Any]:
    """The preprocessing facts that an inference configuration states in stock transforms, for images of `size` pixels."""
    spatial: list[int | str] = [size, size] if facts.classification and facts.dims == 2 else [size, size, size]
    if len(spatial) == 3:
        spatial[facts.slice_axis] = -1
    if facts.window is not None:
        scale: dict[str, Any] = {"_target_": "monai.transforms.ScaleIntensityRanged", "keys": "image"}
        scale |= {"a_min": facts.window[0], "a_max": facts.window[1]}
    else:
        assert facts.percentiles is not None
        scale = {"_target_": "monai.transforms.ScaleIntensityRangePercentilesd", "keys": "image"}
        scale |= {"lower": facts.percentiles[0], "upper": facts.percentiles[1]}
    scale |= {"b_min": 0.0, "b_max": 1.0, "clip": True}
    if facts.dims == 2 and not facts.classification and facts.percentiles is not None:
        scale = _each_slice(scale, facts.slice_axis)
    slices = facts.slice_axis if len(spatial) == 3 else None
    out: dict[str, Any] = {"orientation": facts.orientation, "slice_axis": slices, "spatial_size": spatial, "intensity": scale}
    if facts.classification:
        out |= {"classes": list(facts.classes), "middle": _middle(facts)}
    return out


def _each_slice(scale: Mapping[str, Any], slice_axis: int) -> dict[str, Any]:
    """`scale` for every slice of a volume on its own, as it was when each image was an item.

    The channel and the slices change places and back, so a prediction of any number of channels passes `Invertd` as it is.
    """
    axes = list(range(4))
    axes[0], axes[1 + slice_axis] = axes[1 + slice_axis], axes[0]
    swap, back = ({"_target_": "monai.transforms.Transposed", "keys": "image", "indices": list(axes)} for _ in range(2))
    steps = [swap, {**scale, "channel_wise": True}, back]
    return {"_target_": "monai.transforms.Compose", "transforms": steps}


def _middle(facts: Facts) -> list[float] | None:
    """Shares of each axis that are kept, or None."""
    if facts.middle_share == 1:
        return None
    return [facts.middle_share if axis == facts.slice_axis else 1.0 for axis in range(3)]
