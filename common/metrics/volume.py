# SPDX-License-Identifier: Apache-2.0
"""Whole-volume metrics in the original geometry, written as metrics.json."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from ignite.engine import Events
from monai.data import MetaTensor
from monai.data.utils import affine_to_spacing
from monai.engines import SupervisedEvaluator
from monai.metrics.utils import get_mask_edges, get_surface_distance

from .gather import gather
from .metrics_file import MetricsFile, measured

METRICS = ("dice", "iou", "recall", "precision", "hd95")


@dataclass
class _Unit:
    """What is pooled over the images of one (case, volume, class): counts and surface distances in both directions."""

    counts: np.ndarray = field(default_factory=lambda: np.zeros(3, dtype=np.int64))
    distances: tuple[list[np.ndarray], list[np.ndarray]] = field(default_factory=lambda: ([], []))


class CaseMetrics:
    """Dice, IoU, recall, precision and HD95 a unit (case, volume) and class; as a handler, writes metrics.json.

    With tp, |P|, |T| pooled over the images of the unit: Dice = 2 tp / (|P| + |T|), IoU = tp / (|P| + |T| - tp),
    recall = tp / |T|, precision = tp / |P|. HD95 is the larger of the two directed 95th percentiles of the surface
    distances, pooled over the images of the unit; a 3-D volume is a unit of one image. In mm where the spacing is
    known, else in pixels.

    Decision: empty truth gives a row without metrics (`empty_truth`, out of the means); in an image where one side is
    empty, the other side's surface points count with the image diagonal, so an empty prediction on a non-empty truth
    has HD95 = the diagonal (extent x spacing) and precision 0: dropping it would reward failure.

    Attached to a MONAI SupervisedEvaluator (after postprocessing and decollation): `state.output` items carry `pred`
    and `label`, class indices (1, H, W[, D]) in the original geometry; `state.batch` items carry `case` and `volume`.
    The spacing is that of the label's affine unless `spacing_known` is false. `output` is written by `MetricsFile`.
    """

    def __init__(
        self,
        classes: Sequence[str],
        *,
        output: str | os.PathLike[str],
        run: str,
        dataset: str,
        spacing_known: bool = True,
    ) -> None:
        if not classes:
            raise ValueError("CaseMetrics needs the foreground classes, e.g. classes: [tumour]; got none")
        self.classes = tuple(classes)
        self.dataset = dataset
        self.file = MetricsFile(self.compute, output=output, run=run, dataset=dataset)
        self.spacing_known = spacing_known
        self.reset()

    def reset(self) -> None:
        self._units: dict[tuple[str, str], list[_Unit]] = {}
        self._unit_names: set[str] = set()  # "mm", "px"

    def update(self, pred: np.ndarray, label: np.ndarray, case: str, volume: str, spacing: Sequence[float] | None) -> None:
        """Add one image: index arrays (H, W[, D]) of equal shape; `spacing` in mm an axis, None where unknown."""
        if pred.shape != label.shape or (spacing is not None and len(spacing) != label.ndim):
            raise ValueError(
                f"{case} {volume}: prediction {pred.shape}, label {label.shape} and spacing {spacing} do not match; "
                "both must be in the original geometry of the image"
            )
        highest = max(int(pred.max()), int(label.max()))
        if highest > len(self.classes):
            raise ValueError(f"{case} {volume}: class index {highest} but the classes are {list(self.classes)}")
        key = (case, volume)
        if label.ndim == 3 and key in self._units:
            raise ValueError(f"volume {key} was seen twice; each scan of a case needs its own `volume` id")
        self._unit_names.add("px" if spacing is None else "mm")
        if len(self._unit_names) > 1:
            raise ValueError(f"{case} {volume}: some images of {self.dataset} have a known spacing and some do not")
        for index, unit in enumerate(self._units.setdefault(key, [_Unit() for _ in self.classes]), start=1):
            p, t = pred == index, label == index
            unit.counts += [int((p & t).sum()), int(p.sum()), int(t.sum())]
            for pooled, new in zip(unit.distances, surface_distances(p, t, spacing), strict=True):
                pooled.append(new)

    def compute(self) -> dict[str, Any]:
        """Rows and means over all ranks, in the order of (case, volume, class)."""
        units: dict[tuple[str, str], list[_Unit]] = {}
        for part, names in gather((self._units, self._unit_names)):
            self._unit_names |= names
            for key, new in part.items():
                old = units.setdefault(key, [_Unit() for _ in self.classes])
                for a, b in zip(old, new, strict=True):
                    a.counts += b.counts
                    a.distances[0].extend(b.distances[0])
                    a.distances[1].extend(b.distances[1])
        if not units:
            raise ValueError(f"{self.dataset}: no case was evaluated; the test fold is empty")
        if len(self._unit_names) > 1:
            raise ValueError(f"some images of {self.dataset} have a known spacing and some do not")
        rows = [
            {"case": case, "volume": volume, "class": name} | _row(unit)
            for (case, volume), by_class in sorted(units.items())
            for name, unit in zip(self.classes, by_class, strict=True)
        ]
        seen = [row for row in rows if not row["empty_truth"]]
        mean = {metric: float(np.mean([row[metric] for row in seen])) if seen else None for metric in METRICS}
        return {"units": rows, "hd95_unit": next(iter(self._unit_names)), "mean": mean}

    def attach(self, engine: SupervisedEvaluator) -> None:
        engine.add_event_handler(Events.STARTED, lambda _: self.reset())
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._iteration)
        self.file.attach(engine)

    def _iteration(self, engine: SupervisedEvaluator) -> None:
        for source, result in measured(engine, "CaseMetrics", self.dataset, ("case", "volume"), ("pred", "label")):
            pred, label = result["pred"], result["label"]
            name = f"{source['case']} {source['volume']}"
            for key, item in (("pred", pred), ("label", label)):
                if item.ndim not in (3, 4) or item.shape[0] != 1:
                    shape = tuple(item.shape)
                    raise ValueError(f"{name}: {key} must be class indices (1, H, W[, D]), not {shape}; add an argmax")
            spacing = _spacing(label, name) if self.spacing_known else None
            self.update(_array(pred), _array(label), source["case"], source["volume"], spacing)


def surface_distances(pred: np.ndarray, label: np.ndarray, spacing: Sequence[float] | None) -> tuple[np.ndarray, np.ndarray]:
    """Distances of each surface point of `pred` to the surface of `label`, and of `label` to `pred`.

    Boolean arrays (H, W[, D]); a surface point is a mask pixel with a face neighbour outside the mask or the image.
    Where one side is empty, the other's points are at the image diagonal; an empty side has no points.
    """
    edge_p, edge_t = get_mask_edges(pred, label)
    diagonal = float(np.linalg.norm(np.multiply(label.shape, 1.0 if spacing is None else spacing)))
    if edge_p.any() and edge_t.any():
        forward = get_surface_distance(edge_p, edge_t, spacing=spacing)
        return np.asarray(forward), np.asarray(get_surface_distance(edge_t, edge_p, spacing=spacing))
    return np.full(int(edge_p.sum()), diagonal), np.full(int(edge_t.sum()), diagonal)


def _row(unit: _Unit) -> dict[str, Any]:
    both, predicted, true = (int(count) for count in unit.counts)
    flags = {"empty_truth": true == 0, "empty_prediction": predicted == 0}
    if true == 0:
        return dict.fromkeys(METRICS) | flags
    directed = [np.concatenate(parts) for parts in unit.distances]
    return {
        "dice": 2 * both / (predicted + true),
        "iou": both / (predicted + true - both),
        "recall": both / true,
        "precision": both / predicted if predicted else 0.0,
        "hd95": max(float(np.percentile(d, 95)) for d in directed if d.size),
    } | flags


def _array(item: Any) -> np.ndarray:
    return torch.as_tensor(item)[0].round().to(torch.int16).cpu().numpy()


def _spacing(label: Any, name: str) -> tuple[float, ...]:
    if not isinstance(label, MetaTensor):
        raise ValueError(f"{name}: the label has lost its affine, so its spacing; set spacing_known: false for pixels")
    return tuple(float(s) for s in affine_to_spacing(label.affine, r=label.ndim - 1))
