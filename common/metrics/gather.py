# SPDX-License-Identifier: Apache-2.0
"""Gather a Python object from every rank."""

from typing import TypeVar

import torch.distributed as dist

T = TypeVar("T")


def gather(item: T) -> list[T]:
    """The `item` of every rank in rank order, on every rank; `[item]` in a single process."""
    if not (dist.is_available() and dist.is_initialized()):
        return [item]
    items: list[T | None] = [None] * dist.get_world_size()
    dist.all_gather_object(items, item)
    return items  # type: ignore[return-value]  # every slot was filled by the call above


def is_main_rank() -> bool:
    """True on rank 0 and in a single process."""
    return not (dist.is_available() and dist.is_initialized()) or dist.get_rank() == 0
