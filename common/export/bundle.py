# SPDX-License-Identifier: Apache-2.0
"""Writes an exported bundle, whole or not at all."""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from pathlib import Path
from typing import Any

import torch

from ..bundle_card import LOGGING
from .card import data_licence, full_metadata, readme
from .configs import configs
from .formats import build, bundled_code, carry, check_agreement, write_onnx, write_torchscript
from .manifest import NAME, manifest
from .source import Source, read_source, real_slice

__all__ = ["export_bundle"]

# MONAI Label takes a bundle with one of these words in its name for another kind of model.
WORDS = ("deepedit", "deepgrow", "detection", "classification")
LICENSE = Path(__file__).parents[2] / "LICENSE"


def export_bundle(
    run_dir: str | Path,
    out: str | Path,
    *,
    dataset: str | None = None,
    data_dir: str | None = None,
    version: str = "1.0.0",
    changelog: str = "first version",
    authors: str = "Medistill",
) -> float:
    """Write the bundle folder `out` from a run; its name is the bundle's.

    The formats are compared on a real slice of a test patient before anything is put in place.

    Args:
        run_dir: a finished and evaluated run, `runs/<bundle>/<variant>/<seed>`.
        out: a folder that does not exist.
        dataset: for networks with several heads, whose head; the run's own dataset if left out.
        data_dir: folder of the datasets, if it is not where it was during training.
        version: three numbers of one digit, because clients compare versions as text.
        changelog: what is new in this version.
        authors: who trained it.

    Returns the largest difference between the formats' logits.

    Raises:
        FileExistsError, FileNotFoundError, ValueError, OSError: `out` exists, its name or the version would be mangled by a
            client, the run cannot be exported (see `read_source`), or the formats disagree. Nothing is left behind.
    """
    folder = Path(out)
    _check_name(folder, version)
    source = read_source(run_dir, dataset=dataset)
    image = real_slice(source, data_dir=data_dir)
    scratch: Path | None = None
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=".export-", dir=folder.parent)) / folder.name
        scratch.mkdir()
        meta = full_metadata(source, folder.name, version=version, changelog=changelog, authors=authors)
        gap = _write(source, scratch, meta, image)
        scratch.rename(folder)
    except OSError as error:
        raise OSError(f"cannot write the bundle {folder} ({error.strerror or error}); nothing was exported.") from error
    finally:
        if scratch is not None:
            shutil.rmtree(scratch.parent, ignore_errors=True)
    return gap


def _check_name(folder: Path, version: str) -> None:
    name = folder.name
    if folder.exists() or folder.is_symlink():
        raise FileExistsError(f"{folder} exists; give --out a new folder, or remove it first.")
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", name):
        raise ValueError(f"bundle name {name!r} (the last part of --out): use letters, digits and underscores.")
    if "_v" in name.lower():
        raise ValueError(
            f"bundle name {name!r}: clients take '_v' for the start of a version and cut the name there; rename it."
        )
    for word in WORDS:
        if word in name.lower():
            raise ValueError(f"bundle name {name!r}: MONAI Label takes '{word}' for another kind of model; rename it.")
    parent = folder.parent
    clash = [p.name for p in parent.iterdir() if p.name.lower() == name.lower()] if parent.is_dir() else []
    if clash:
        raise ValueError(f"bundle name {name!r}: {clash[0]} lies beside it, and clients lower-case names; rename it.")
    if not re.fullmatch(r"\d\.\d\.\d", version):
        raise ValueError(f"--version {version}: give three single digits, such as 1.0.0; clients sort versions as text.")


def _write(source: Source, folder: Path, meta: dict[str, Any], image: torch.Tensor) -> float:
    for part in ("configs", "models", "docs"):
        (folder / part).mkdir()
    written = configs(source)
    _check_labels(meta)
    for name, value in (written | {"metadata": meta}).items():
        (folder / "configs" / f"{name}.json").write_text(_json(value))
    (folder / "configs" / "logging.conf").write_text(LOGGING)
    (folder / "docs" / "README.md").write_text(readme(source, folder.name, meta))
    (folder / "docs" / "data_license.txt").write_text(data_licence(source))
    shutil.copyfile(LICENSE, folder / "LICENSE")
    carry(source.network, folder)
    models = folder / "models"
    weights = {key: value.contiguous() for key, value in source.network.state_dict().items()}
    torch.save(weights, models / "model.pt")
    with bundled_code(folder):
        network = build(written["inference"]["network_def"], models / "model.pt")
        network.to(memory_format=torch.channels_last)  # much faster on a CPU; in TorchScript the weights keep it
        write_torchscript(network, models / "model.ts", meta, _json(written["inference"]))
        write_onnx(source.network, models / "model.onnx", image)
        gap = check_agreement(source.network, folder, image)
    (folder / NAME).write_text(_json(manifest(folder)))
    return gap


def _check_labels(meta: dict[str, Any]) -> None:
    names = [name.lower() for name in meta["network_data_format"]["outputs"]["pred"]["channel_def"].values()]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"classes named {', '.join(twice)} differ in case only; clients lower-case them: rename the classes.")


def _json(value: Any) -> str:
    return json.dumps(value, indent=4, allow_nan=False) + "\n"
