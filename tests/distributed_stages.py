# SPDX-License-Identifier: Apache-2.0
"""Under torchrun: run jobs of `monai.bundle.run`, in turn, each in a process group of its own: FILE.json."""

import json
import os
import sys
from pathlib import Path

import monai.bundle
import torch

if __name__ == "__main__":
    torch.set_num_threads(1)
    for number, job in enumerate(json.loads(Path(sys.argv[1]).read_text())):
        os.environ["TORCHELASTIC_RESTART_COUNT"] = str(number)  # names the group's keys in torchrun's store: no clash
        monai.bundle.run(**job)
