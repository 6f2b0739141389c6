# SPDX-License-Identifier: Apache-2.0
"""What a study finds in its folder of runs: refused where it would stand beside new runs and is not comparable with them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from fire.parser import DefaultParseValue

from common.data.facts import load_facts
from common.study import Job
from common.study_checks import FREE

ROOT = Path(__file__).resolve().parents[1]


def check_settings(runs: Path, settings: dict[str, str]) -> None:
    """Refuse to mix runs of different `--set` in one folder, whose arms and seeds would then be compared with each other."""
    for record in sorted((runs / ".study" / "jobs").glob("train__*.json")):
        status = json.loads(record.read_text())
        run, before = runs / status["name"].removeprefix("train "), status["settings"]
        begun = (run / "model.pt").is_file() or (run / "checkpoints" / "last.pt").is_file()  # else it has nothing to keep
        if begun and _parsed(before) != _parsed(settings):
            told = ",".join(f"{key}={value}" for key, value in before.items()) or "nothing"
            raise ValueError(f"{run} was trained with --set {told}: give the same, another --runs, or delete it")


def _parsed(settings: dict[str, str]) -> dict[str, Any]:
    """What the command line makes of settings, without those that change no result."""
    return {key: DefaultParseValue(value) for key, value in settings.items() if key not in FREE}


def check_records(jobs: Sequence[Job], runs: Path) -> None:
    """Refuse to train again what is there as a record without weights: what it taught was measured with those weights."""
    for job in jobs:
        run = runs / job.run_id
        recorded = job.kind == "train" and (run / "history.json").exists() and not (run / "checkpoints").exists()
        if recorded and not all(Path(output).exists() for output in job.outputs):
            raise ValueError(
                f"{run} is a record without weights, and training it again would replace its figures: leave its seed or arm"
                " out, give another --runs, or delete it"
            )


def check_complete(jobs: Sequence[Job], runs: Path, group_file: Path, data: Path) -> None:
    """Refuse complete runs of other sources, teachers or sizes than the same job has now, or of other facts or patients.

    Compared are the flags of the job and the facts at the head of its configuration; of the patients, those of the test part,
    which no label budget changes.

    Raises:
        ValueError: names the run and what differs.
    """
    complete = [job for job in jobs if job.kind == "train" and all(Path(output).exists() for output in job.outputs)]
    if not complete:
        return
    from common.bundle_files import split_recipe  # these import torch, for which a study that begins need not wait
    from common.data.fold import list_items, split_items
    from common.runs import check_facts, check_same, read_json

    @cache
    def tests(dataset: str, fold: int) -> set[str]:
        facts = load_facts(group_file, dataset)
        return set(split_items(facts, list_items(facts, data), fold=fold).test)

    for job in complete:
        run = runs / job.run_id
        config = read_json(run, "config.json")
        now = yaml.safe_load(split_recipe((ROOT / job.config).read_text())[0])
        for key, value in job.overrides.items():
            part, (*places, last) = now, key.split("::")
            for place in places:
                part = part.get(place) if isinstance(part, dict) else None
            if isinstance(part, dict):  # else it is a key of the recipe
                part[last] = DefaultParseValue(value)  # as the command line does
        check_same(config, json.loads(json.dumps(now, default=str)), run / "config.json")
        for dataset in config.get("facts", {}):
            check_facts(run, load_facts(group_file, dataset), group_file)
        for dataset, split in read_json(run, "folds.json", "datasets")["datasets"].items():
            if (data / dataset).is_dir() and set(split["test"]) != tests(dataset, job.seed):
                raise ValueError(
                    f"{run} was trained when dataset {dataset} had other patients: its fold {job.seed} tests others than now;"
                    " undo that, give another --runs, or delete it"
                )
