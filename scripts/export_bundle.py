# SPDX-License-Identifier: Apache-2.0
"""Export a trained and evaluated run as a self-contained MONAI bundle."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
from common.export import export_bundle  # noqa: E402

LARGE = 25_000_000  # bytes; the zoo wants bigger files hosted elsewhere


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog="example: python scripts/export_bundle.py runs/student_lits/distill/0 --out exported/liver"
    )
    parser.add_argument("run", type=Path, help="runs/<bundle>/<variant>/<seed>")
    parser.add_argument("--out", type=Path, required=True, help="new folder; its last part is the bundle's name")
    parser.add_argument("--dataset", help="for networks with several heads, whose head")
    parser.add_argument(
        "--data_dir", type=Path, help="folder of the datasets, if it moved since training: a test slice is read"
    )
    parser.add_argument("--version", default="1.0.0", help="three single digits (default 1.0.0)")
    parser.add_argument("--changelog", default="first version", help="what is new in this version")
    parser.add_argument("--authors", default="Medistill", help="who trained it")
    return parser.parse_args()


def main() -> None:
    given = arguments()
    run, out = given.run.resolve(), given.out.absolute()
    data = str(given.data_dir.resolve()) if given.data_dir else None
    os.chdir(ROOT)  # a run names its group file from here
    card = {"version": given.version, "changelog": given.changelog, "authors": given.authors}
    gap = export_bundle(run, out, dataset=given.dataset, data_dir=data, **card)
    print(f"{given.out}: model.pt, model.ts and model.onnx agree to {gap:.1e} on a slice of a test patient")
    for file in sorted(out.rglob("*")):
        if file.is_file() and file.stat().st_size > LARGE:
            size = file.stat().st_size / 1e6
            print(f"{file} has {size:.0f} MB: for the model zoo, host it and list it in large_files.yml (path, url, hash_val)")


if __name__ == "__main__":
    try:
        main()
    except ModuleNotFoundError as error:
        raise SystemExit(f"error: export needs {error.name}; install it with pip install -e '.[export]'") from error
    except (ValueError, OSError) as error:
        raise SystemExit(f"error: {error}") from error
