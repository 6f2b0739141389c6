# SPDX-License-Identifier: Apache-2.0
"""Test metrics of an image classifier, written as metrics.json."""

import os
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ignite.engine import Events
from monai.data import MetaTensor
from monai.engines import SupervisedEvaluator
from sklearn.metrics import confusion_matrix

from .classification import scores
from .gather import gather
from .metrics_file import MetricsFile, measured


class ImageMetrics:
    """Accuracy, balanced accuracy, macro F1, AUROC and ECE over the test images; as a handler, writes metrics.json.

    See `scores` for the formulas. A row of `units` is one image, or one volume: its case, its file (relative to `root`), its
    class index, and its class probabilities. `confusion[i][j]` counts images of class i predicted as j. `parameters` and
    `seconds_per_case` are those of `MetricsFile`.

    Decision: AUROC is null where a class has no test image, and `undefined` says which: a mean over the classes left would be
    another metric under the same name. Metrics are over images, as published; intervals over patients are the report's.

    Attached to a MONAI SupervisedEvaluator (after postprocessing and decollation): `state.output` items carry `pred`, class
    probabilities (K,), and `label`, a class index; `state.batch` items carry `case` and the loaded `image`.

    Raises ValueError where shapes do not match, probabilities do not sum to 1, an image comes twice, or there is none.
    """

    def __init__(
        self, classes: Sequence[str], *, output: str | os.PathLike[str], run: str, dataset: str, root: str | os.PathLike[str]
    ) -> None:
        if len(classes) < 2:
            raise ValueError(f"ImageMetrics needs at least two classes, e.g. classes: [normal, pneumonia]; got {list(classes)}")
        self.classes, self.dataset, self.root = tuple(classes), dataset, Path(root)
        self.file = MetricsFile(self.compute, output=output, run=run, dataset=dataset)
        self.reset()

    def reset(self) -> None:
        self._rows: list[dict[str, Any]] = []

    def update(self, probabilities: np.ndarray, label: int, case: str, image: str) -> None:
        """Add one image: probabilities (K,) and its class index."""
        size = len(self.classes)
        if probabilities.shape != (size,) or not np.isclose(probabilities.sum(), 1, atol=1e-4) or (probabilities < 0).any():
            raise ValueError(
                f"{case} {image}: pred {probabilities.round(4).tolist()} is not the probabilities of the classes"
                f" {list(self.classes)}; add a softmax, or evaluate a network of {size} outputs"
            )
        if not 0 <= label < size:
            raise ValueError(f"{case} {image}: class index {label} but the classes are {list(self.classes)}")
        self._rows.append({"case": case, "image": image, "label": label, "probabilities": probabilities.tolist()})

    def compute(self) -> dict[str, Any]:
        """Rows of all ranks in the order of (case, image), their metrics, and the confusion matrix."""
        rows = sorted((row for part in gather(self._rows) for row in part), key=lambda row: (row["case"], row["image"]))
        if not rows:
            raise ValueError(f"{self.dataset}: no case was evaluated; the test fold is empty")
        keys = [(row["case"], row["image"]) for row in rows]
        if len(set(keys)) < len(keys):
            twice = next(a for a, b in pairwise(keys) if a == b)
            raise ValueError(f"image {twice} was seen twice; list every image of {self.dataset} once")
        labels = np.array([row["label"] for row in rows])
        probabilities = np.array([row["probabilities"] for row in rows])
        mean = {name: None if np.isnan(value) else value for name, value in scores(labels, probabilities).items()}
        absent = [name for k, name in enumerate(self.classes) if k not in labels]
        matrix = confusion_matrix(labels, probabilities.argmax(1), labels=range(len(self.classes)))
        result = {"task": "classification", "classes": list(self.classes), "units": rows, "mean": mean}
        reason = {"auroc": f"no test image of class {', '.join(absent)}"} if absent else {}
        return result | {"undefined": reason, "confusion": matrix.tolist()}

    def attach(self, engine: SupervisedEvaluator) -> None:
        engine.add_event_handler(Events.STARTED, lambda _: self.reset())
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._iteration)
        self.file.attach(engine)

    def _iteration(self, engine: SupervisedEvaluator) -> None:
        for source, result in measured(engine, "ImageMetrics", self.dataset, ("case", "image"), ("pred", "label")):
            probabilities = torch.as_tensor(result["pred"]).detach().double().cpu().numpy()
            self.update(probabilities, int(result["label"]), source["case"], self._name(source))

    def _name(self, source: dict[str, Any]) -> str:
        """The image's file, the same wherever the data lies, so that runs can be paired."""
        image = source["image"]
        if not isinstance(image, MetaTensor) or "filename_or_obj" not in image.meta:
            raise ValueError(f"{source['case']}: the image has lost the name of its file; load it with LoadImaged")
        path = Path(str(image.meta["filename_or_obj"]))
        return path.relative_to(self.root).as_posix() if path.is_relative_to(self.root) else path.as_posix()
