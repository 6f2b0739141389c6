# SPDX-License-Identifier: Apache-2.0
"""What an export is made from: a finished and evaluated run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from monai.bundle import ConfigParser

from ..data.facts import Facts, load_facts, load_group
from ..handlers import digest
from ..networks import FeatureNet
from ..runs import check_facts, from_run, learned_from, read_json, test_slices

__all__ = ["Source", "read_source"]

UNSTATED = {
    "modality": "n/a",
    "source": "private data of the institution that trained this model",
    "licence": "the data are not distributed and no right to them is granted; ask the institution that trained this model",
}

CONFIG = ("group_file", "bundle_root", "image_size", "max_epochs", "epoch_length", "batch_size", "learning_rate", "seed")
METRICS = ("dataset", "weights", "mean", "units", "parameters")


@dataclass(frozen=True)
class Source:
    """A run as the exporter sees it.

    `datasets` are all that the run or its teachers learned from, the deployed one first, each with what the group file's
    `about` says of it (modality, source, licence).
    """

    run: Path
    network: FeatureNet
    facts: Facts
    config: dict[str, Any]
    metrics: dict[str, Any]
    task: str
    image_size: int
    datasets: dict[str, dict[str, str]]
    test_cases: int


def read_source(run_dir: str | Path, *, dataset: str | None = None) -> Source:
    """Read a run and check that it can be exported.

    Args:
        run_dir: `runs/<bundle>/<variant>/<seed>`.
        dataset: whose head and metrics are exported; the run's own dataset if left out.

    Raises:
        FileNotFoundError, ValueError: the run is missing, not trained to its end, damaged, or was not evaluated on `dataset`;
            names the file and the command that is missing. Or a run that taught it is missing.
    """
    run = Path(run_dir)
    if (run / "configs").is_dir():
        raise ValueError(f"{run} is a bundle, not a run of one; give the folder of a run, such as runs/{run.name}/distill/0.")
    network = from_run(run)  # refuses what is missing, unfinished or damaged
    config = read_json(run, "config.json", *CONFIG)
    parser = ConfigParser(config)
    config |= {key: parser.get_parsed_content(key) for key in ("learning_rate", "upright") if key in config}  # of its target
    name = dataset or config.get("dataset") or config["target"]
    group = load_group(config["group_file"])
    facts = load_facts(config["group_file"], name)
    check_facts(run, facts, config["group_file"])
    file = run / "test" / name / "metrics.json"
    if not file.is_file():
        evaluate = f"{config['bundle_root']}/configs/evaluate.yaml"
        raise FileNotFoundError(
            f"{file} does not exist: a model leaves the house with its figures. Evaluate the run first: python -m monai.bundle"
            f" run evaluating --config_file {evaluate} --run_dir {run} --dataset {name} --data_dir DATA"
        )
    metrics = read_json(run, f"test/{name}/metrics.json", *METRICS, remedy="evaluate the run again")
    if metrics["dataset"] != name:
        raise ValueError(f"{file} has the figures of dataset {metrics['dataset']}; evaluate the run on {name} again.")
    if metrics["weights"] != digest(run / "model.pt"):
        raise ValueError(f"{file} has the figures of other weights than {run / 'model.pt'}; evaluate the run again.")
    cases = {unit["case"] for unit in metrics["units"]}
    about = group.get("about") or {}
    datasets = {d: UNSTATED | (about.get(d) or {}) for d in dict.fromkeys([name, *learned_from(run)])}
    if "target" in network.spec:
        network = from_run(run, head=name)
    size = int(config["image_size"])
    return Source(run, network, facts, config, metrics, group["task"], size, datasets, len(cases))


def real_slice(source: Source, *, data_dir: str | None = None) -> torch.Tensor:
    """A slice `(1, 1, H, W)` with foreground of a test patient, as the network sees it."""
    found = test_slices(source.run, source.facts.name, 1, data_dir=data_dir)
    if not found:
        raise ValueError(f"no slice of {source.facts.name}'s test patients has a label: the formats cannot be compared.")
    return found[0][0][None]
