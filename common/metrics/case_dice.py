# SPDX-License-Identifier: Apache-2.0
"""Validation Dice on stored slices, gathered by case."""

from collections.abc import Sequence

import numpy as np
import torch
from ignite.engine import Engine
from ignite.exceptions import NotComputableError
from ignite.metrics import Metric

from .gather import gather


class CaseDice(Metric):
    """Mean Dice a case and class, from the counts of all slices of the case.

    `Dice(case, k) = 2 |P n T| / (|P| + |T|)`, each size summed over the slices of the case and over all ranks; the
    value is the mean over all pairs (case, class) in which the case has class k in its truth. A mean of per-slice Dice
    would instead depend on how many empty slices were stored.

    Reads `engine.state.batch["case"]` (a list of str, one a sample) and, from `engine.state.output`, `pred`: logits
    (B, K+1, H, W[, D]), background first, and `label`: class indices (B, 1, H, W[, D]). The evaluator must run with
    `decollate: false`. Under data-parallel evaluation the sampler must not pad (`even_divisible=False`), or the padded
    slices count twice.

    Raises ValueError where shapes or cases do not match, and where no case holds any class in its truth.
    """

    def __init__(self, classes: Sequence[str]) -> None:
        if not classes:
            raise ValueError("CaseDice needs the foreground classes, e.g. classes: [tumour]; got none")
        self.classes = tuple(classes)
        super().__init__()

    def reset(self) -> None:
        self._counts: dict[str, np.ndarray] = {}

    def iteration_completed(self, engine: Engine) -> None:
        """Overrides ignite's, which sees `state.output` only: the case ids are in `state.batch`."""
        batch, output = engine.state.batch, engine.state.output
        if not isinstance(batch, dict) or not isinstance(output, dict):
            raise ValueError("CaseDice reads the collated batch: set `decollate: false` on the evaluator")
        if "case" not in batch:
            raise ValueError(f"CaseDice needs the key 'case' in every validation sample; got {sorted(batch)}")
        self.update((output["pred"], output["label"], batch["case"]))

    def update(self, output: tuple[torch.Tensor, torch.Tensor, Sequence[str]]) -> None:
        pred, label, cases = output
        if pred.shape[1] != len(self.classes) + 1:
            raise ValueError(
                f"CaseDice: the network has {pred.shape[1]} output channels but the {len(self.classes)} classes "
                f"{list(self.classes)} need {len(self.classes) + 1} (background first)"
            )
        if len(cases) != len(pred) or label.shape != (len(pred), 1, *pred.shape[2:]):
            raise ValueError(
                f"CaseDice: pred {tuple(pred.shape)}, label {tuple(label.shape)} and {len(cases)} cases do not match"
            )
        with torch.no_grad():
            counts = _counts(torch.as_tensor(pred).argmax(1), torch.as_tensor(label)[:, 0].long(), len(self.classes))
        for case, count in zip(cases, counts, strict=True):
            self._counts[case] = self._counts.get(case, 0) + count

    def compute(self) -> float:
        total: dict[str, np.ndarray] = {}
        for counts in gather(self._counts):
            for case, count in counts.items():
                total[case] = total.get(case, 0) + count
        if not total:
            raise NotComputableError("CaseDice: no validation slice was seen")
        # sorted: the sum must not depend on the order in which ranks or workers delivered the cases
        stacked = np.stack([total[case] for case in sorted(total)])
        both, predicted, true = np.moveaxis(stacked, -1, 0)
        present = true > 0
        if not present.any():
            raise ValueError(
                f"CaseDice: none of the {len(total)} validation cases contains any of the classes "
                f"{list(self.classes)}; choose a validation fold with foreground"
            )
        return float((2 * both[present] / (predicted + true)[present]).mean())


def _counts(pred: torch.Tensor, label: torch.Tensor, classes: int) -> np.ndarray:
    """(B, K, 3) counts |P n T|, |P|, |T| of index maps (B, ...); one transfer from the device."""
    rows = []
    for index in range(1, classes + 1):
        p, t = (pred == index).flatten(1), (label == index).flatten(1)
        rows.append(torch.stack([(p & t).sum(1), p.sum(1), t.sum(1)], dim=1))
    return torch.stack(rows, dim=1).cpu().numpy()
