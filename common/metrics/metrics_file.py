# SPDX-License-Identifier: Apache-2.0
"""Writes what an evaluator measured as metrics.json, with what the network costs."""

import json
import logging
import os
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from ignite.engine import Events
from monai.engines import IterationEvents, SupervisedEvaluator

from ..handlers import digest, save_atomic
from .gather import gather, is_main_rank

logger = logging.getLogger(__name__)


def measured(
    engine: SupervisedEvaluator, name: str, dataset: str, source_keys: Sequence[str], result_keys: Sequence[str]
) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """The decollated items of an iteration, (source, result) each, for the metric `name`.

    Raises:
        ValueError: the evaluator does not decollate, or an item lacks a key.
    """
    batch, output = engine.state.batch, engine.state.output
    if not isinstance(batch, list) or not isinstance(output, list):
        raise ValueError(f"{name} reads decollated items: leave `decollate` true on the evaluator")
    for source, result in zip(batch, output, strict=True):
        missing = [key for key in source_keys if key not in source] + [key for key in result_keys if result.get(key) is None]
        if missing:
            raise ValueError(f"{name} needs the keys {missing} in every test item of {dataset}")
        yield source, result


class MetricsFile:
    """At COMPLETED, puts `{dataset, run, weights} | compute() | {parameters, seconds_per_case}` in place atomically.

    `run` is told as `<bundle>/<variant>/<seed>`, so that the file can be passed on without a path of this machine.
    `compute` is called on every rank and gives at least `units` (rows with `case`) and `mean`. `seconds_per_case` counts
    network and inferer, not reading nor metrics.
    """

    def __init__(
        self, compute: Callable[[], dict[str, Any]], *, output: str | os.PathLike[str], run: str, dataset: str
    ) -> None:
        self.compute, self.output, self.run, self.dataset = compute, Path(output), run, dataset
        self._seconds = 0.0

    def attach(self, engine: SupervisedEvaluator) -> None:
        engine.add_event_handler(Events.STARTED, self._reset)
        engine.add_event_handler(Events.ITERATION_STARTED, self._start_clock)
        engine.add_event_handler(IterationEvents.FORWARD_COMPLETED, self._stop_clock)
        engine.add_event_handler(Events.COMPLETED, self._write)

    def _reset(self, engine: SupervisedEvaluator) -> None:
        self._seconds = 0.0

    def _start_clock(self, engine: SupervisedEvaluator) -> None:
        self._started = time.perf_counter()

    def _stop_clock(self, engine: SupervisedEvaluator) -> None:
        if torch.device(engine.state.device).type == "cuda":
            torch.cuda.synchronize(engine.state.device)  # the forward may only be queued
        self._seconds += time.perf_counter() - self._started

    def _write(self, engine: SupervisedEvaluator) -> None:
        result = self.compute()
        seconds = sum(gather(self._seconds))
        if not is_main_rank():
            return
        weights = Path(self.run) / "model.pt"  # what the figures are of, so that an export can tell
        run = "/".join(Path(self.run).parts[-3:])
        told = {"dataset": self.dataset, "run": run, "weights": digest(weights) if weights.is_file() else None}
        result = told | result
        result["parameters"] = sum(p.numel() for p in engine.network.parameters())
        result["seconds_per_case"] = seconds / len({row["case"] for row in result["units"]})
        save_atomic(json.dumps(result, indent=1, allow_nan=False) + "\n", self.output)
        logger.info("%s on %s: %s", self.run, self.dataset, result["mean"])
