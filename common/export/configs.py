# SPDX-License-Identifier: Apache-2.0
"""The configurations of an exported bundle: self-contained JSON in stock classes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from ..bundle_files import RECIPES
from ..bundle_tasks import deployed
from .formats import network_def
from .source import Source

__all__ = ["configs"]

OURS = "common."


def configs(source: Source) -> dict[str, dict[str, Any]]:
    """`{"inference": ..., "train": ..., "evaluate": ...}` for a run.

    Decision: `inference` is the bundle's own inference recipe with what names this project replaced, so that what is deployed
    is what was evaluated; `train` is fine-tuning on {image, label} volumes, as clients replace the list of cases and the
    teacher stays at home.
    """
    head = {"bundle_root": ".", "network_def": network_def(source.network), **deployed(source.facts, source.image_size)}
    inference = _inference(source.task)
    shared = {key: inference[key] for key in ("slice_mean", "inferer", "preprocessing") if key in inference}
    own = {"upright": source.config["upright"]} if source.facts.classification else {"out_channels": source.facts.out_channels}
    train = head | own | shared | _recipe(f"export/train_{source.task}")
    if source.network.stock is None:
        # `initialize` runs before a bundle's own code can be imported, and would fix that it cannot
        del train["initialize"]
    return {"inference": head | inference, "train": train, "evaluate": _recipe("export/evaluate")}


def _recipe(name: str) -> dict[str, Any]:
    return yaml.safe_load(Path(RECIPES / f"{name}.yaml").read_text())


def _inference(task: str) -> dict[str, Any]:
    recipe = _recipe(f"inference_{task}")
    recipe["imports"] = ["$import glob", *(line for line in recipe["imports"] if OURS not in line)]
    del recipe["image_size"]  # stated in `spatial_size`
    recipe["output_dir"] = "$@bundle_root + '/eval'"
    recipe["dataset_dir"] = "$@bundle_root + '/data/imagesTs'"
    pattern = "*.nii.gz" if task == "segmentation" else "*"
    recipe["dataset"]["data"] = f"$[{{'image': path}} for path in sorted(glob.glob(@dataset_dir + '/{pattern}'))]"
    for step in recipe["postprocessing"]["transforms"]:
        step.pop("data_root_dir", None)  # one folder, one name a volume
    loader = next(h for h in recipe["handlers"] if h["_target_"].endswith("CheckpointLoader"))
    loader["load_path"] = "$@bundle_root + '/models/model.pt'"
    recipe["run"] = recipe.pop("inferring")
    del recipe["initialize"]
    return recipe
