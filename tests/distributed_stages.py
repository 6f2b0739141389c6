# SPDX-License-Identifier: Apache-2.0
"""Under torchrun: run jobs of `monai.bundle.run`, in turn, each in a process group of its own: FILE.json."""

import json
import os
import sys
from pathlib import Path

import monai.bundle
import torch
import torch.distributed as dist

if __name__ == "__main__":
    torch.set_num_threads(1)
    init = dist.init_process_group
    ranks = {"rank": int(os.environ["RANK"]), "world_size": int(os.environ["WORLD_SIZE"])}
    agent = dist.TCPStore(os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]), is_master=False)
    for number, job in enumerate(json.loads(Path(sys.argv[1]).read_text())):
        # One command is one group for torchrun, whose store keeps the last group's addresses: each job gets a prefix.
        store = dist.PrefixStore(str(number), agent)
        dist.init_process_group = lambda backend, store=store: init(backend, store=store, **ranks)
        monai.bundle.run(**job)
