# SPDX-License-Identifier: Apache-2.0
"""A study is one command: train and evaluate what its arms need and is missing, side by side, then write the report.

    python scripts/study.py --group cardiac --targets acdc,sunnybrook --seeds 0,1,2,3,4 --arms alone,joint,distill \\
        --data DIR --runs DIR [--vary r=0,1] [--target-cases 5,10,all] [--cores 2] [--dry-run]

Start it again after Ctrl-C, after a crash or with more arms: it goes on where it was. Snakemake runs the jobs, so
`--profile` (such as scripts/profiles/slurm) sends them to a cluster. State, beside the runs: `<runs>/.study/`.
"""

from __future__ import annotations

import os
import re
import sys
import tempfile
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "scripts")]  # also when imported from elsewhere
from study_engine import execute, preview  # noqa: E402
from study_runs import check_complete, check_records, check_settings  # noqa: E402

from common.command_line import command  # noqa: E402
from common.data.facts import load_facts, load_group  # noqa: E402
from common.study import Job, Plan, plan  # noqa: E402


def study(
    *,
    group: str,
    targets: str,
    arms: str,
    data: str,
    runs: str,
    seeds: str = "0,1,2,3,4",
    vary: str = "",
    target_cases: str = "all",
    set: str = "",
    cores: int | None = None,
    threads: int = 1,
    profile: str | None = None,
    group_file: str | None = None,
    dry_run: bool = False,
    report: bool = True,
) -> int:
    """Train and evaluate what is missing, then write <runs>/report. Lists are separated by commas.

    Args:
        group: cardiac, mri, ct, cxr, dementia, pneumonia, figshare or one of your own; its members are read from
            bundles/<group>.yaml.
        targets: the datasets that get a student.
        arms: what is compared; a wrong name prints the choices.
        data: the folder of the datasets.
        runs: where the runs go, and the report.
        seeds: whole numbers; the seed is also the fold.
        vary: r=0,1 or levels=a,b+c or sources=a,a+b or network=UNet,TransResUNet-UNet (teachers-student) or (classification)
            pairing=late,early or k=1,2,3; or several of them. For figshare teacher=hybrid,dual_vgg,dual_vit (all of them
            unless given) and geometric=0,1.
        target_cases: numbers of labelled target patients, or all.
        set: key=value,... for every training command, such as max_epochs=3. A key that only some configurations have, such as
            kappa, goes to those; what makes an arm (gamma=0 of distill_soft) stays.
        cores: how many cores to use, `threads` a job; default: all.
        threads: cores a job.
        profile: the folder of a Snakemake profile, for a cluster.
        group_file: the group's file, where it is not bundles/<group>.yaml.
        dry_run: print the jobs and their commands; run nothing.
        report: False leaves the report out.
    """
    runs_dir, data_dir = Path(runs).resolve(), Path(data).resolve()
    group_path = Path(group_file).resolve() if group_file else ROOT / "bundles" / f"{group}.yaml"
    settings = {key: _one(key, values) for key, values in parse_pairs(set, "--set").items()}
    told = read_group(group_path, group)
    members = list(told["datasets"])
    planned = plan(
        group=group,
        datasets=members,
        targets=split(targets),
        seeds=[_number(seed) for seed in split(seeds)],  # type: ignore[misc]  # plan names what is not a number
        arms=split(arms),
        target_cases=[_number(cases) for cases in split(target_cases)],
        vary=parse_pairs(vary, "--vary"),
        settings=settings,
        data=str(data_dir),
        runs=str(runs_dir),
        task=told["task"],
        teachers=told.get("teachers"),
        classes={name: tuple(load_facts(group_path, name).classes) for name in members},
        bundles=os.path.relpath(group_path.parent, ROOT) if group_path.is_relative_to(ROOT) else str(group_path.parent),
    )
    check_files(planned.jobs, data_dir)
    planned = planned._replace(jobs=fit_settings(planned.jobs, settings))
    check_settings(runs_dir, settings)
    check_records(planned.jobs, runs_dir)
    check_complete(planned.jobs, runs_dir, group_path, data_dir)
    if profile and not (Path(profile) / "config.yaml").is_file():
        raise ValueError(f"--profile {profile}: there is no file {Path(profile) / 'config.yaml'}")
    state = runs_dir / ".study"
    content = describe(planned, runs_dir) | {"group": group, "settings": settings, "threads": threads}
    if dry_run:
        with tempfile.TemporaryDirectory() as folder:
            return preview(content | {"state": folder}, cores=cores, profile=profile)
    maker = [sys.executable, str(ROOT / "scripts" / "report.py"), "--runs", str(runs_dir), "--group", group]
    maker += ["--targets", ",".join(split(targets)), "--data", str(data_dir), "--out", str(runs_dir / "report")]
    return execute(content | {"state": str(state)}, cores=cores, profile=profile, report=maker if report else None)


def split(value: str) -> list[str]:
    """The items of a list from the command line; commas inside brackets do not separate."""
    return [item.strip() for item in re.split(r"[,\s]+(?![^\[({]*[\])}])", value) if item.strip()]


def parse_pairs(value: str, option: str) -> dict[str, list[str]]:
    """`a=1,2,b=3` as {"a": ["1", "2"], "b": ["3"]}."""
    pairs: dict[str, list[str]] = {}
    for item in split(value):
        key, equals, first = item.partition("=")
        if equals and key in pairs:
            raise ValueError(f"{option} names {key!r} twice")
        if equals and key and first:
            pairs[key] = [first]
        elif equals or not pairs:
            raise ValueError(f"{option} {item!r}: write key=value, such as {option} key=1,2")
        else:
            pairs[list(pairs)[-1]].append(item)
    return pairs


def _one(key: str, values: Sequence[str]) -> str:
    if len(values) > 1:
        raise ValueError(f"--set {key}: one value expected, not {', '.join(values)}; write a list as {key}=[a,b]")
    return values[0]


def _number(text: str) -> int | str:
    return int(text) if text.isdecimal() else text


def read_group(path: Path, group: str) -> dict[str, Any]:
    """A group's file, which must be that group's."""
    if not path.is_file():
        known = sorted(other.stem for other in path.parent.glob("*.yaml") if "\ndatasets:" in other.read_text())
        raise ValueError(f"unknown group {group!r}: no file {path}; choose from {', '.join(known) or 'none yet'}, or make it")
    content = load_group(path)
    if content["group"] != group:
        raise ValueError(f"{path}: is the file of group {content['group']!r}, not of {group!r}")
    return content


def check_files(jobs: Sequence[Job], data: Path) -> None:
    """Find what is missing now rather than in hours."""
    if not data.is_dir():
        raise ValueError(f"--data {data}: no such folder")
    missing = [name for name in dict.fromkeys(job.config for job in jobs) if not (ROOT / name).is_file()]
    if missing:
        raise ValueError(f"the study needs configs that do not exist: {', '.join(missing)}; `make sync` writes them")


def fit_settings(jobs: Sequence[Job], settings: Collection[str]) -> list[Job]:
    """Leave a setting that some configurations have out of the trainings by others, which would refuse it.

    One that no configuration has goes to all: an argument of `monai.bundle run`, or a mistake, which the first job names.
    """
    configs = {job.config for job in jobs if job.kind == "train"}
    keys = {config: yaml.safe_load((ROOT / config).read_text()) or {} for config in configs}
    partial = {key for key in settings if any(key.partition("::")[0] in known for known in keys.values())}
    return [
        replace(job, overrides={k: v for k, v in job.overrides.items() if k not in partial or k.partition("::")[0] in own})
        for job in jobs
        for own in [keys.get(job.config, {})]
    ]


def slug(job: Job) -> str:
    """A file name for the job."""
    return re.sub(r"[^\w=+.-]+", "__", job.name)


def describe(planned: Plan, runs: Path) -> dict[str, Any]:
    """The plan as JSON: what the Snakefile and the job runner read."""
    jobs = []
    for index, job in enumerate(planned.jobs):
        fields = {name: getattr(job, name) for name in job.__dataclass_fields__} | {"command": job.command}
        fields |= {"slug": slug(job), "rule": re.sub(r"\W+", "_", f"{job.kind}_{index}_{job.run_id}")}
        fields |= {"log": str((runs / job.run_id if job.kind == "train" else Path(job.outputs[0]).parent) / "log.txt")}
        jobs.append(fields)
    return {"root": str(ROOT), "runs": str(runs), "jobs": jobs, "endpoints": [e._asdict() for e in planned.endpoints]}


def main() -> int:
    """The command line; 0 done, 1 something failed, 2 a bad argument, 130 stopped by Ctrl-C."""
    try:
        return command(study)
    except (ValueError, OSError) as error:
        print(f"study: {error}", file=sys.stderr)
        return 2
    except RuntimeError as error:
        print(f"study: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
