# SPDX-License-Identifier: Apache-2.0
"""One of two ranks of test_contrastive.py, a script of its own so that it imports torch and the loss only."""

import os
import sys
from types import SimpleNamespace

import torch
from torch import nn

from common.losses import Contrastive


def values(rank: int, ranks: int) -> list[torch.Tensor]:
    """Loss and parameter gradients of one rank of `ranks` that share six images."""
    generator = torch.Generator().manual_seed(0)
    network = nn.Conv2d(2, 3, 1).double()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    image, teacher = (torch.randn(6, c, 2, 2, generator=generator, dtype=torch.float64) for c in (2, 4))
    own = slice(rank * 6 // ranks, (rank + 1) * 6 // ranks)
    pair = [SimpleNamespace(levels=[level]) for level in (network(image[own]), teacher[own])]
    loss = Contrastive(temperature=0.5)(*pair)
    loss.backward()
    gradients = [parameter.grad for parameter in network.parameters()]
    if ranks > 1:  # what DistributedDataParallel does, whose import costs a second
        for gradient in gradients:
            torch.distributed.all_reduce(gradient)
            gradient /= ranks
    return [loss.detach(), *gradients]


if __name__ == "__main__":
    rank, folder = int(sys.argv[1]), sys.argv[2]
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2)
    torch.save(values(rank, 2), f"{folder}/{rank}.pt")
    torch.distributed.destroy_process_group()
