# SPDX-License-Identifier: Apache-2.0
"""Under torchrun: run jobs of `monai.bundle.run`, in turn, each in a process group of its own: FILE.json."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

import monai.bundle
import torch
import torch.distributed as dist
from torch.nn.modules.module import register_module_forward_pre_hook

from common.handlers import RunKeeper


@contextmanager
def double_precision() -> Iterator[None]:
    """Networks compute in float64, so that what a batch of another size rounds otherwise flips no ReLU and no maximum."""

    def widen(module: torch.nn.Module, inputs: tuple) -> tuple:
        return tuple(x.double() if isinstance(x, torch.Tensor) and x.dtype == torch.float32 else x for x in inputs)

    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    hook = register_module_forward_pre_hook(widen)
    try:
        yield
    finally:
        hook.remove()
        torch.set_default_dtype(before)


if __name__ == "__main__":
    torch.set_num_threads(1)
    init = dist.init_process_group
    ranks = {"rank": int(os.environ["RANK"]), "world_size": int(os.environ["WORLD_SIZE"])}
    agent = dist.TCPStore(os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]), is_master=False)
    for number, job in enumerate(json.loads(Path(sys.argv[1]).read_text())):
        # One command is one group for torchrun, whose store keeps the last group's addresses: each job gets a prefix.
        store = dist.PrefixStore(str(number), agent)
        dist.init_process_group = lambda backend, store=store: init(backend, store=store, **ranks)
        with double_precision(), mock.patch.object(RunKeeper, "drop_checkpoints"):  # they hold all that is trained
            monai.bundle.run(**job)
