# SPDX-License-Identifier: Apache-2.0
"""Validation accuracy of an image classifier, gathered over ranks."""

from collections.abc import Sequence

import numpy as np
import torch
from ignite.exceptions import NotComputableError
from ignite.metrics import Metric
from monai.handlers import from_engine

from .gather import gather


class ImageAccuracy(Metric):
    """Share of stored images whose highest logit is their class; balanced: the mean of that share over the true classes.

    `balanced = 1/|C| sum_{k in C} right_k / n_k`, C the classes that the validation images have; `accuracy = sum_k right_k /
    sum_k n_k`. Counts are summed over batches and ranks, so the value depends on neither.

    Decision: the monitor is accuracy, which the papers report, at equal class frequencies. Where classes are unequal, plain
    accuracy (`balanced=False`) prefers an epoch that predicts the commoner class only; balanced, a constant prediction has 1/K
    whichever class it is, which is also what a teacher must beat. AUROC does not see where the argmax lies, which is what
    is deployed, and has no value on a validation fold without one of the classes.

    Reads, from `engine.state.output`, `pred`: logits (B, K), and `label`: class indices (B,). Under data-parallel evaluation
    the sampler must not pad (`even_divisible=False`), or the padded images count twice.

    Raises ValueError where shapes or classes do not match.
    """

    def __init__(self, classes: Sequence[str], *, balanced: bool = True) -> None:
        if len(classes) < 2:
            raise ValueError(
                f"ImageAccuracy needs at least two classes, e.g. classes: [normal, pneumonia]; got {list(classes)}"
            )
        self.classes, self.balanced = tuple(classes), balanced
        super().__init__(output_transform=from_engine(["pred", "label"]))

    def reset(self) -> None:
        self._counts = np.zeros((2, len(self.classes)), dtype=np.int64)  # right, all

    def update(self, output: tuple[torch.Tensor, torch.Tensor]) -> None:
        pred, label = (torch.as_tensor(item).detach() for item in output)
        size = len(self.classes)
        if pred.ndim != 2 or pred.shape[1] != size or label.shape != pred.shape[:1]:
            raise ValueError(
                f"ImageAccuracy: pred {tuple(pred.shape)} and label {tuple(label.shape)} are not (B, {size}) and (B,)"
                f" for the classes {list(self.classes)}"
            )
        label = label.long()
        if len(label) and not 0 <= int(label.min()) <= int(label.max()) < size:
            raise ValueError(f"ImageAccuracy: labels {label.unique().tolist()} but the classes are {list(self.classes)}")
        right = pred.argmax(1) == label
        counts = torch.stack([torch.bincount(part, minlength=size) for part in (label[right], label)])
        self._counts += counts.cpu().numpy()

    def compute(self) -> float:
        right, every = np.sum(gather(self._counts), axis=0)
        if not every.any():
            raise NotComputableError("ImageAccuracy: no validation image was seen")
        seen = every > 0
        return float((right[seen] / every[seen]).mean() if self.balanced else right.sum() / every.sum())
