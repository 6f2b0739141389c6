# SPDX-License-Identifier: Apache-2.0
"""Run jobs of `monai.bundle.run`, each in a process of its own that dies of SIGKILL at a chosen moment: FILE.json.

A job is {"kill": [moment, name, n], "run": arguments}: the n-th time (from 1) that a file `name` (a glob) is put in place,
the process dies before ("before") or right after ("after") it. Forked, so that the imports are paid for once; prints
the signals, a JSON list.
"""

import json
import os
import signal
import sys
from fnmatch import fnmatch
from pathlib import Path

import monai.bundle
import torch

import common.runs  # noqa: F401  # with all that a stage imports, once


def arm(moment: str, name: str, n: int) -> None:
    """Let this process die at the `n`-th `os.replace` to a file named like `name`."""
    replace, left = os.replace, n

    def deadly(source, target) -> None:
        nonlocal left
        named = fnmatch(Path(target).name, name)
        left -= named
        last = named and left == 0
        if last and moment == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        replace(source, target)
        if last:
            os.kill(os.getpid(), signal.SIGKILL)

    os.replace = deadly


if __name__ == "__main__":
    torch.set_num_threads(1)
    ends = []
    for job in json.loads(Path(sys.argv[1]).read_text()):
        child = os.fork()
        if child == 0:
            arm(*job["kill"])
            monai.bundle.run(**job["run"])
            os._exit(0)
        ends.append(os.WTERMSIG(os.waitpid(child, 0)[1]))
    print(json.dumps(ends))
