# SPDX-License-Identifier: Apache-2.0
"""What the benchmarks share: a training step, arms timed in turn, and a table of their ratios."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn


@dataclass(frozen=True)
class Row:
    """One line of the result: a ratio with its quartiles over repetitions, and what it is a ratio of."""

    name: str
    ratio: float
    low: float
    high: float
    target: str  # "at most 1.05"; empty: for information
    met: bool | None
    ours: str
    other: str


def row(name: str, ratios: Sequence[float], target: tuple[str, float] | None, ours: str, other: str) -> Row:
    """The median of `ratios` against a target ("at most" or "at least", value)."""
    ratio = statistics.median(ratios)
    low, _, high = statistics.quantiles(ratios, n=4, method="inclusive") if len(ratios) > 1 else [ratio] * 3
    if target is None:
        return Row(name, ratio, low, high, "", None, ours, other)
    bound, value = target
    met = ratio <= value if bound == "at most" else ratio >= value
    return Row(name, ratio, low, high, f"{bound} {value:g}", met, ours, other)


def alternate(arms: Mapping[str, Callable[[], Any]], repeats: int) -> dict[str, list[float]]:
    """Processor seconds of each arm, once each in turn (A B C A B C ...) after one round to warm up.

    Processor time, not the clock, and in turn, so that other work on the machine touches all arms alike.
    """
    seconds: dict[str, list[float]] = {name: [] for name in arms}
    for number in range(repeats + 1):
        for name, run in arms.items():
            start = time.process_time()
            run()
            if number:
                seconds[name].append(time.process_time() - start)
    return seconds


def divide(first: Sequence[float], second: Sequence[float]) -> list[float]:
    return [a / b for a, b in zip(first, second, strict=True)]


def took(seconds: Sequence[float]) -> str:
    return f"{statistics.median(seconds):.3f} s"


def stepper(
    module: nn.Module, loss: Callable[..., torch.Tensor], image: torch.Tensor, label: torch.Tensor
) -> Callable[[], None]:
    """One training step of `module`: forward, loss, backward, Adam."""
    module.train()
    optimizer = torch.optim.Adam([p for p in module.parameters() if p.requires_grad], lr=1e-3)

    def step() -> None:
        optimizer.zero_grad()
        loss(module(image), label).backward()
        optimizer.step()

    return step


def table(rows: Sequence[Row]) -> str:
    """The rows in Markdown."""
    lines = ["| benchmark | ratio | quartiles | target | ours | compared with |", "|---|---|---|---|---|---|"]
    for r in rows:
        spread = f"{r.low:.3g} to {r.high:.3g}" if r.low < r.high else ""
        verdict = f"{r.target}: {'met' if r.met else '**missed**'}" if r.target else ""
        lines.append(f"| {r.name} | {r.ratio:.3g} | {spread} | {verdict} | {r.ours} | {r.other} |")
    return "\n".join(lines)
