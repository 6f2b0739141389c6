# SPDX-License-Identifier: Apache-2.0
"""Write small synthetic datasets in their official layouts: python scripts/make_phantoms.py --out DIR [--group ct]."""

from __future__ import annotations

import sys
from pathlib import Path

from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from common.command_line import command
from common.phantoms.domains import GROUPS
from common.phantoms.layouts import check_empty, write_dataset


def make_phantoms(*, out: str, group: str = "all", cases: int = 10, size: int = 48, slices: int = 12, seed: int = 0) -> None:
    """Write DIR/<dataset>/... for every dataset of a group.

    Args:
        out: the folder to write to; a dataset's folder in it must be missing or empty.
        group: ct (msd_lung, lits, kits), mri (brainmetshare, isles22, brats20), cardiac (acdc and sunnybrook as tables
            of PNG images, acdc_official), table (acdc_volumes, PNG slices of volumes, and lits_dicom, DICOM series); of
            classification cxr (covidx_cxr3, covid_collection, covid_qu_ex), dementia (oasis, adni), figshare, pneumonia
            (kermany and nih as tables); or all.
        cases: patients a dataset; classification takes about 15 for every class to be in each of five folds.
        size: pixels a side of a slice, at least 16.
        slices: slices a volume, at least 4.
        seed: the same seed writes the same images.
    """
    if group != "all" and group not in GROUPS:
        raise ValueError(f"unknown group {group!r}; choose one of {', '.join(GROUPS)} or all")
    names = [name for key, members in GROUPS.items() if group in ("all", key) for name in members]
    for name in names:
        check_empty(Path(out, name))  # before anything is written
    with tqdm(total=cases * len(names), unit="case") as bar:
        for name in names:
            bar.set_description(name)
            write_dataset(name, out, cases=cases, size=size, slices=slices, seed=seed, on_case=bar.update)


if __name__ == "__main__":
    try:
        command(make_phantoms)
    except (ValueError, OSError) as error:
        sys.exit(f"make_phantoms: {error}")
