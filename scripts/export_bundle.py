# SPDX-License-Identifier: Apache-2.0
"""Export a trained run as a self-contained MONAI bundle.

python scripts/export_bundle.py runs/student_lits/distill/0 --out exported/NAME
"""

from __future__ import annotations

import sys
from pathlib import Path

import fire

sys.path.insert(0, str(Path(__file__).parents[1]))
from common.export import export_bundle

LARGE = 25_000_000  # bytes; the zoo wants bigger files hosted elsewhere


def export(
    run: str,
    *,
    out: str,
    dataset: str | None = None,
    data: str | None = None,
    version: str = "1.0.0",
    changelog: str = "first version",
    authors: str = "Medistill",
) -> None:
    """Write the bundle `out` from a finished and evaluated run.

    Args:
        run: runs/<bundle>/<variant>/<seed>.
        out: new folder; its last part is the bundle's name.
        dataset: for networks with several heads, whose head.
        data: folder of the datasets, if it moved since training; one test slice is read to compare the formats.
        version: three single digits.
        changelog: what is new in this version.
        authors: who trained it.
    """
    gap = export_bundle(run, out, dataset=dataset, data_dir=data, version=str(version), changelog=changelog, authors=authors)
    print(f"{out}: model.pt, model.ts and model.onnx agree to {gap:.1e} on a slice of a test patient")
    for file in sorted(Path(out).rglob("*")):
        if file.is_file() and file.stat().st_size > LARGE:
            size = file.stat().st_size / 1e6
            print(f"{file} has {size:.0f} MB: for the model zoo, host it and list it in large_files.yml (path, url, hash_val)")


if __name__ == "__main__":
    try:
        fire.Fire(export)
    except (ValueError, OSError) as error:
        raise SystemExit(f"error: {error}") from error
