# SPDX-License-Identifier: Apache-2.0
"""The plan of a study: which runs the arms need, for every target, seed, label budget and varied key, each run once.

Pure: nothing here reads files or starts processes. `plan` returns every job after the jobs that it needs. A job is
identified by its output, so arms share runs (the target teacher of `joint` also teaches `distill_target_only`).
"""

from __future__ import annotations

import itertools
import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from .study_checks import ARMS, KEYS, ONE_HEAD, check, one_head_sources

_JOINT_KEYS = ("r", "levels", "sources", "network")
_STUDENT_KEYS = (*_JOINT_KEYS, "pairing", "k")
_DOUBLE = {
    "train::dataset::length": "$2 * @epoch_length * @batch_size",
    "train::dataloader::batch_size": "$2 * @batch_size",
}


@dataclass(frozen=True)
class Job:
    """One command of the study. `outputs` identifies it; `overrides` holds every flag of the command, in order."""

    name: str
    kind: str  # train | evaluate
    bundle: str
    config: str  # path of the bundle's config file
    run_id: str  # <bundle>/<variant>/<seed>
    variant: str
    seed: int
    overrides: Mapping[str, str]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]

    @property
    def argv(self) -> list[str]:
        """The stock MONAI command, an argument an item."""
        verb = "training" if self.kind == "train" else "evaluating"
        flags = [part for key, value in self.overrides.items() for part in (f"--{key}", value)]
        return ["python", "-m", "monai.bundle", "run", verb, "--config_file", self.config, *flags]

    @property
    def command(self) -> str:
        """The command as one would type it at the repository's root."""
        return shlex.join(self.argv)


class Endpoint(NamedTuple):
    """Where an arm's figure comes from: one row of the study's table."""

    arm: str
    target: str
    seed: int
    target_cases: int | None  # None: all
    vary: dict[str, str]
    run_id: str
    metrics: str


class Plan(NamedTuple):
    """The jobs, dependencies first, and the figures that they yield."""

    jobs: list[Job]
    endpoints: list[Endpoint]


@dataclass(frozen=True)
class _Cell:
    """One point of the study: what every arm is asked for."""

    target: str
    sources: tuple[str, ...]
    seed: int
    cases: int | None
    vary: Mapping[str, str]

    def flags(self, *keys: str) -> dict[str, str]:
        """The varied ones among `keys`, as command-line flags (levels are written a+b and passed as a list)."""
        values = {key: self.vary[key] for key in keys if key in self.vary}
        return {key: _list(value.split("+")) if key == "levels" else value for key, value in values.items()}


def _list(items: Sequence[str]) -> str:
    return json.dumps(list(items))


@dataclass
class _Planner:
    group: str
    datasets: Sequence[str]
    data: str
    runs: str
    bundles: str
    settings: Mapping[str, str]
    task: str
    classes: Mapping[str, Sequence[str]]
    jobs: dict[tuple[str, ...], Job] = field(default_factory=dict)

    def add(self, job: Job) -> Job:
        known = self.jobs.setdefault(job.outputs, job)
        if known != job:
            raise ValueError(f"two different commands would write {job.outputs[0]}:\n{known.command}\n{job.command}")
        return known

    def train(
        self,
        cell: _Cell,
        bundle: str,
        base: str,
        *,
        config: str = "train",
        keys: Sequence[str] = ("network",),
        flags: Mapping[str, str] | None = None,
        needs: Sequence[Job] = (),
    ) -> Job:
        """A training run. `keys` are the varied keys that touch it, through its own flags or through what it needs."""
        vary, architecture = dict(cell.vary), {}
        if "network" in vary:
            vary["network"], own = _networks(vary["network"], bundle, config)
            if not bundle.startswith("joint_teacher_"):  # a joint teacher is what its teachers are
                architecture["architecture"] = own
        suffix = "".join(f"_{key}={vary[key]}" for key in KEYS if key in keys and key in vary)
        variant = base + suffix + (f"_cases={cell.cases}" if cell.cases else "")
        run_id = f"{bundle}/{variant}/{cell.seed}"
        overrides = {"data_dir": self.data, "runs_dir": self.runs, "seed": str(cell.seed), "variant": variant}
        overrides |= {**(flags or {}), **architecture}
        overrides |= {"target_cases": str(cell.cases)} if cell.cases else {}
        overrides |= {key: value for key, value in self.settings.items() if key not in overrides}
        return self.add(
            Job(
                name=f"train {run_id}",
                kind="train",
                bundle=bundle,
                config=f"{self.bundles}/{bundle}/configs/{config}.yaml",
                run_id=run_id,
                variant=variant,
                seed=cell.seed,
                overrides=overrides,
                inputs=tuple(output for need in needs for output in need.outputs),
                outputs=(f"{self.runs}/{run_id}/model.pt",),
            )
        )

    def evaluate(self, run: Job, dataset: str) -> Job:
        """Whole-volume evaluation of a run on the test fold of `dataset`."""
        run_dir = f"{self.runs}/{run.run_id}"
        return self.add(
            Job(
                name=f"evaluate {run.run_id} on {dataset}",
                kind="evaluate",
                bundle=run.bundle,
                config=f"{self.bundles}/{run.bundle}/configs/evaluate.yaml",
                run_id=run.run_id,
                variant=run.variant,
                seed=run.seed,
                overrides={"data_dir": self.data, "run_dir": run_dir, "dataset": dataset},
                inputs=run.outputs,
                outputs=(f"{run_dir}/test/{dataset}/metrics.json",),
            )
        )

    def trained(self, cell: _Cell, job: Job) -> Job:
        """Evaluate on the target whatever was trained for it: teachers too, to tell why a student is good or bad."""
        self.evaluate(job, cell.target)
        return job

    def path(self, job: Job) -> str:
        return f"{self.runs}/{job.run_id}"

    def alone(self, cell: _Cell) -> Job:
        return self.trained(cell, self.train(cell, f"student_{cell.target}", "alone"))

    def alone_double(self, cell: _Cell) -> Job:
        return self.trained(cell, self.train(cell, f"student_{cell.target}", "alone_double", flags=_DOUBLE))

    def pooled(self, cell: _Cell) -> Job:
        flags = {"sources": _list(cell.sources)}
        return self.trained(
            cell, self.train(cell, f"student_{cell.target}", "pooled", keys=("sources", "network"), flags=flags)
        )

    def multi_head(self, cell: _Cell) -> Job:
        """A run a target: its head is the one validated and tested, so that model selection is the baseline's own."""
        others = [name for name in self.datasets if name != cell.target]
        flags = {"target": cell.target, "sources": _list(others)}
        return self.trained(cell, self.train(cell, f"multi_head_{self.group}", f"for_{cell.target}", flags=flags))

    def source_only(self, cell: _Cell) -> list[Job]:
        """The sources' own baselines: they read no label of the target, so a label budget does not touch them."""
        vary = {key: value for key, value in cell.vary.items() if key == "network"}
        cells = [_Cell(source, (), cell.seed, None, vary) for source in cell.sources]
        return [self.trained(cell, self.train(own, f"student_{own.target}", "alone")) for own in cells]

    def teacher(self, cell: _Cell, *, init: int = 0, volume: int = 0) -> Job:
        """The target teacher; `init` > 0: another initialisation on the same fold; `volume`: see `_volume`."""
        base, flags = _volume("alone", volume)
        if init:
            base, flags = f"{base}_init={init}", {**flags, "init_seed": str(100 + init)}
        bundle = "_".join(["teacher", cell.target, *([cell.vary["teacher"]] if "teacher" in cell.vary else [])])
        return self.trained(cell, self.train(cell, bundle, base, flags=flags))

    def source_teachers(self, cell: _Cell, *, volume: int = 0) -> list[Job]:
        """The adapted source teachers; a label budget holds at r = 0 too, so that r alone differs."""
        base, flags = _volume(f"for_{cell.target}", volume)
        flags = {"target": cell.target, **cell.flags("r"), **flags}
        jobs = []
        for source in cell.sources:
            job = self.train(cell, f"teacher_{source}", base, config="adapt", keys=("r", "network"), flags=flags)
            jobs.append(self.trained(cell, job) if self.predicts(source, cell) else job)
        return jobs

    def predicts(self, source: str, cell: _Cell) -> bool:
        """Whether a source's teacher has an output for the target: with r = 0 and other classes it has none to test."""
        return cell.vary.get("r") != "0" or self.classes.get(source) == self.classes.get(cell.target)

    def joint(self, cell: _Cell, *, wide: bool = False, volume: int = 0) -> Job:
        base, flags = _volume(f"{'wide_' if wide else ''}for_{cell.target}", volume)
        teachers = [self.teacher(cell, volume=volume), *self.source_teachers(cell, volume=volume)]
        if wide:  # trains on the sources' images too, so it must know which
            flags = {**flags, "wide": "True", "sources": _list(cell.sources)}
        return self._joint(cell, base, teachers, flags, _JOINT_KEYS)

    def joint_target_only(self, cell: _Cell) -> Job:
        teachers = [self.teacher(cell, init=i) for i in range(1 + len(cell.sources))]
        return self._joint(cell, f"target_only_for_{cell.target}", teachers, {}, ("levels", "sources", "network"))

    def _joint(self, cell: _Cell, base: str, teachers: list[Job], flags: Mapping[str, str], keys: Sequence[str]) -> Job:
        flags = {"target": cell.target, "teachers": _list([self.path(t) for t in teachers]), **flags}
        flags |= cell.flags("levels")
        bundle = f"joint_teacher_{self.group}"
        return self.trained(cell, self.train(cell, bundle, base, keys=keys, flags=flags, needs=teachers))

    def distill(
        self, cell: _Cell, base: str, teacher: Job, *, keys: Sequence[str], flags: Mapping[str, str] | None = None
    ) -> Job:
        varied = [key for key in ("pairing", "k", "geometric") if key in keys]
        flags = {"teacher": self.path(teacher), **cell.flags(*varied), **(flags or {})}
        bundle = f"student_{cell.target}"
        return self.trained(cell, self.train(cell, bundle, base, config="distill", keys=keys, flags=flags, needs=[teacher]))

    def arm(self, arm: str, cell: _Cell) -> list[Job]:
        """Plan an arm and return the runs whose figures are the arm's."""
        volume = 1 + len(cell.sources)
        match arm:
            case "alone" | "alone_double" | "pooled" | "multi_head" | "teacher" | "joint_target_only":
                return [getattr(self, arm)(cell)]
            case "source_only":
                return self.source_only(cell)
            case "source_teacher":
                jobs = zip(cell.sources, self.source_teachers(cell), strict=True)
                return [job for source, job in jobs if self.predicts(source, cell)]
            case "joint":
                return [self.joint(cell)]
            case "joint_wide":
                return [self.joint(cell, wide=True)]
            case "equal_volume":
                return [self.joint(cell, volume=volume)]
            case "distill":
                return [self.distill(cell, "distill", self.joint(cell), keys=_STUDENT_KEYS)]
            case "distill_wide":
                flags = {"wide": "True", "sources": _list(cell.sources)}
                return [self.distill(cell, arm, self.joint(cell, wide=True), keys=_STUDENT_KEYS, flags=flags)]
            case "distill_soft" | "distill_soft_target_only":
                flags = {"wide": "True", "sources": "[]", "gamma": "0", "delta": "0"}
                flags |= {"beta": "[0, 0]"} if self.task == "segmentation" else {}
                if arm == "distill_soft":
                    return [self.distill(cell, arm, self.joint(cell, wide=True), keys=_JOINT_KEYS, flags=flags)]
                own = ("network", "teacher", "geometric")
                return [self.distill(cell, arm, self.teacher(cell), keys=own, flags=flags)]
            case "distill_target_only":
                keys = ("network", "pairing", "k", "teacher", "geometric")
                return [self.distill(cell, "distill_target_only", self.teacher(cell), keys=keys)]
            case "distill_equal_volume":
                base = f"distill_equal_volume={volume}"
                flags = {"equal_volume": str(volume)}
                return [self.distill(cell, base, self.joint(cell, volume=volume), keys=_STUDENT_KEYS, flags=flags)]
        raise ValueError(f"unknown arm {arm!r}; choose from {', '.join(ARMS)}")


def _volume(base: str, volume: int) -> tuple[str, dict[str, str]]:
    """Variant and flags of a run whose data are cut to target size / `volume` (the number of teachers); 0: not cut."""
    return (f"{base}_equal_volume={volume}", {"equal_volume": str(volume)}) if volume else (base, {})


def _networks(pair: str, bundle: str, config: str) -> tuple[str, str]:
    """What of a pair teachers-student a run is named for, so that pairs share their runs, and the network that it trains."""
    teachers, _, student = pair.partition("-")
    own = teachers if bundle.startswith(("teacher_", "joint_teacher_")) else student or teachers
    return (pair if config == "distill" else own), own


def _combinations(vary: Mapping[str, Sequence[str]], teachers: Mapping[str, Sequence[str]]) -> list[dict[str, str]]:
    """Every combination of the varied values, once; `geometric` is 0 with a teacher whose first network is no VGG19.

    The term compares that network's last convolution, which other teachers do not have.
    """
    keys = [key for key in KEYS if key in vary]
    chosen = [dict(zip(keys, values, strict=True)) for values in itertools.product(*(vary[key] for key in keys))]
    for one in chosen:
        if "teacher" in one and teachers[one["teacher"]][0] != "VGG19":
            one["geometric"] = "0"
    return [one for place, one in enumerate(chosen) if one not in chosen[:place]]


def plan(
    *,
    group: str,
    datasets: Sequence[str],
    targets: Sequence[str],
    seeds: Sequence[int],
    arms: Sequence[str],
    data: str,
    runs: str,
    target_cases: Sequence[int | str] = ("all",),
    vary: Mapping[str, Sequence[str]] | None = None,
    settings: Mapping[str, str] | None = None,
    bundles: str = "bundles",
    task: str = "segmentation",
    teachers: Mapping[str, Sequence[str]] | None = None,
    classes: Mapping[str, Sequence[str]] | None = None,
) -> Plan:
    """Every job that the arms need, each once, dependencies first.

    `datasets` are the group's members; a target's sources are the other members, or those that `vary["sources"]`
    names. `target_cases`: labelled target patients, or "all". `settings`: flags added to every training command that has
    no such flag of its own (what makes an arm), but not to the variant: runs with other settings belong in another
    folder. `teachers`: the networks of each named teacher, of a group of one dataset; `vary["teacher"]` is all of them
    unless it names some. `classes`: each dataset's, in order; source_only leaves out the sources whose classes are not the
    target's, and pooled is refused with such a one. None: all datasets have the same. Decision: with r = 0 a source teacher
    of other classes is trained, but neither tested nor tabulated.
    Raises ValueError naming the first bad value and the choices.
    """
    vary = {key: [str(value) for value in values] for key, values in (vary or {}).items()}
    settings = {key: str(value) for key, value in (settings or {}).items()}
    teachers = teachers or {}
    vary = ({"teacher": list(teachers)} if teachers else {}) | vary
    check(group, datasets, targets, seeds, arms, target_cases, vary, settings, task, list(teachers))
    if "sources" in vary:  # in the group's order, so that a+b and b+a are one run
        subsets = ["+".join(d for d in datasets if d in value.split("+")) for value in vary["sources"]]
        vary["sources"] = list(dict.fromkeys(subsets))
    planner = _Planner(group, datasets, data, runs, bundles, settings, task, classes or {})
    endpoints = []
    cells = (dict.fromkeys(target_cases), _combinations(vary, teachers), dict.fromkeys(seeds), dict.fromkeys(targets))
    for cases, chosen, seed, target, arm in itertools.product(*cells, dict.fromkeys(arms)):
        members = chosen["sources"].split("+") if "sources" in chosen else datasets
        sources = tuple(name for name in datasets if name in members and name != target)
        cell = _Cell(target, sources, seed, None if cases == "all" else int(cases), chosen)
        if classes and arm in ONE_HEAD:
            cell = replace(cell, sources=one_head_sources(arm, target, sources, classes))
        for run in planner.arm(arm, cell):
            metrics = planner.evaluate(run, target).outputs[0]
            endpoints.append(Endpoint(arm, target, seed, cell.cases, chosen, run.run_id, metrics))
    return Plan(list(planner.jobs.values()), endpoints)
