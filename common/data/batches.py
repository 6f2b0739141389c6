# SPDX-License-Identifier: Apache-2.0
"""`prepare_batch` functions of the stages: from a batch of streams to one call of the trained module."""

from __future__ import annotations

from typing import Any

import torch

__all__ = ["adversarial_batch", "labelled_first", "per_dataset"]

Batch = dict[str, dict[str, Any]]
Prepared = tuple[Any, Any, tuple[Any, ...], dict[str, Any]]


def _to(value: torch.Tensor, device: torch.device, non_blocking: bool) -> torch.Tensor:
    return value.to(device=device, non_blocking=non_blocking)


def labelled_first(batch: Batch, device: torch.device, non_blocking: bool = False) -> tuple[torch.Tensor, torch.Tensor]:
    """All streams in one batch, the labelled ones first; the label is shorter where streams carry none."""
    streams = sorted(batch.values(), key=lambda stream: "label" not in stream)
    image = torch.cat([stream["image"] for stream in streams])
    label = torch.cat([stream["label"] for stream in streams if "label" in stream])
    return _to(image, device, non_blocking), _to(label, device, non_blocking)


def adversarial_batch(batch: Batch, device: torch.device, non_blocking: bool = False) -> Prepared:
    """(source, target) streams as one image batch, source first; the target's label is None where it must not be read."""
    source, target = batch.values()
    image = _to(torch.cat([source["image"], target["image"]]), device, non_blocking)
    labels = [_to(s["label"], device, non_blocking) if "label" in s else None for s in (source, target)]
    return image, tuple(labels), (len(source["image"]),), {}


def per_dataset(batch: Batch, device: torch.device, non_blocking: bool = False) -> tuple[Any, Any]:
    """Images and labels by dataset, for the multi-head baseline."""
    images = {name: _to(stream["image"], device, non_blocking) for name, stream in batch.items()}
    labels = {name: _to(stream["label"], device, non_blocking) for name, stream in batch.items()}
    return images, labels
