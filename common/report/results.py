# SPDX-License-Identifier: Apache-2.0
"""Finds the evaluated runs of a group and names their arms."""

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..runs import teacher_runs

# the order of arms in tables and legends; others follow in alphabetical order
ORDER = (
    "source_only", "alone", "alone_double", "pooled", "multi_head", "teacher", "source_teacher", "joint_target_only",
    "equal_volume", "joint", "joint_wide", "distill_target_only", "distill_soft_target_only", "distill_equal_volume", "distill",
    "distill_wide", "distill_soft",
)  # fmt: skip
Key = tuple[str, str, tuple[tuple[str, str], ...]]  # arm, source, options
ALL = "all"  # the label budget of runs without the key `cases`
STUDENT = "distill"  # arms whose name starts so are distilled students
TEACHERS = ("teacher", "source_teacher", "joint", "equal_volume")  # and so, teachers


@dataclass(frozen=True)
class Result:
    """One run evaluated on the test fold of one dataset."""

    path: Path  # the run: runs/<bundle>/<variant>/<seed>
    arm: str
    source: str  # the other dataset, for arms trained on one: source_only, source_teacher; a named teacher's name; else ""
    target: str
    budget: str  # labelled target patients: "all" or a number
    options: tuple[tuple[str, str], ...]  # what else the study varied, sorted: (("r", "0"),)
    seed: str
    metrics: dict[str, Any]
    history: dict[str, Any] | None
    folds: dict[str, Any] | None

    @property
    def key(self) -> Key:
        return self.arm, self.source, self.options

    @property
    def task(self) -> str:
        return self.metrics.get("task", "segmentation")

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The rows of metrics.json with the seed, as `paired_difference` and `paired_scores` take them."""
        return [row | {"seed": self.seed} for row in self.metrics["units"]]

    def total_seconds(self) -> float | None:
        """Training time of the run and of every run that it learned from, directly or not, each once.

        None if one of them is not there or has not recorded its time.
        """
        needed, seconds = [self.path], dict[Path, float]()
        while needed:
            run = needed.pop()
            history, config = run / "history.json", run / "config.json"
            if run in seconds:
                continue
            if not (history.exists() and config.exists()):
                return None
            seconds[run] = _json(history, ("seconds",))["seconds"]
            needed += teacher_runs(run)
        return sum(seconds.values())

    def labelled(self) -> int | None:
        """Labelled target patients that training and validation saw."""
        if self.folds is None:
            return None if self.budget == ALL else int(self.budget)
        # the run's own dataset, which is among those that it read wherever these are known
        splits = self.folds.get("datasets", {}).values() or [self.folds]
        cases = {case for split in splits if split.get("labelled", True) for case in split["train"] + split["val"]}
        return sum(case.startswith(f"{self.target}/") for case in cases)


def label(key: Key) -> str:
    """What tables and legends call an arm: `distill`, `source_only (acdc)`, `distill, r=0`."""
    arm, source, options = key
    return ", ".join([f"{arm} ({source})" if source else arm, *(f"{k}={v}" for k, v in options)])


def order(key: Key) -> tuple[Any, ...]:
    arm, source, options = key
    return (ORDER.index(arm) if arm in ORDER else len(ORDER), arm, source, len(options), options)


def compares(student: Key, baseline: Key) -> bool:
    """Whether the baseline has no option that the student lacks.

    Of a student's pair of networks, teachers-student, a teacher has the first and any other arm the last.
    """
    teachers, _, own = dict(student[2]).get("network", "").partition("-")
    network = teachers if baseline[0].startswith(TEACHERS) else own
    return set(baseline[2]) <= {*student[2], ("network", network)}


def baseline_for(student: Key, arms: Iterable[Key], baseline: str) -> Key | None:
    """The arm `baseline` that shares most options with the student and has none that the student lacks."""
    same = [key for key in arms if key[:2] == (baseline, "") and compares(student, key)]
    return max(same, key=lambda key: (len(key[2]), key[2]), default=None)


def budget_order(budget: str) -> tuple[int, int]:
    """All labels first, then from many to few."""
    return (0, 0) if budget == ALL else (1, -int(budget))


def seed_order(seed: str) -> tuple[int, int, str]:
    return (0, int(seed), "") if seed.isdigit() else (1, 0, seed)


def parse_variant(variant: str) -> tuple[str, dict[str, str]]:
    """`distill_levels=conv_0+down_1_cases=5` -> ("distill", {"levels": "conv_0+down_1", "cases": "5"}).

    Values may hold underscores, keys may not, but for `equal_volume`.
    """
    base, *pairs = re.split(r"_(?=equal_volume=|(?!volume=)[A-Za-z]+=)", variant)
    return base, dict(pair.split("=", 1) for pair in pairs)


def name_arm(bundle: str, base: str, dataset: str, group: str) -> tuple[str, str] | None:
    """(arm, source) of a run evaluated on `dataset`; None where the pair is not an arm of this group."""
    for_target = re.fullmatch(rf"(?:(.+)_)?for_{re.escape(dataset)}", base)
    if bundle == f"multi_head_{group}" and (base == "alone" or for_target):
        return "multi_head", ""
    if bundle == f"joint_teacher_{group}" and for_target:
        return ("joint" if for_target[1] is None else f"joint_{for_target[1]}"), ""
    if bundle.startswith("teacher_"):
        owner = bundle.removeprefix("teacher_")
        if for_target and owner != dataset:
            return ("source_teacher" if for_target[1] is None else f"source_teacher_{for_target[1]}"), owner
        if base == "alone" and owner.startswith(f"{dataset}_"):  # one of several teachers of a dataset: its name
            return "teacher", owner.removeprefix(f"{dataset}_")
        return ("teacher" if base == "alone" else f"teacher_{base}", "") if owner == dataset else None
    if bundle.startswith("student_"):
        owner = bundle.removeprefix("student_")
        if owner == dataset:
            return base, ""
        return ("source_only", owner) if base == "alone" else None
    return None


def find_results(runs: Path, group: str, targets: Sequence[str] | None) -> list[Result]:
    """Every evaluated run of the group, sorted; raises where there is none.

    Without `targets`, the datasets are those of the group's joint teachers and multi-head runs.
    """
    if not runs.is_dir():
        raise FileNotFoundError(f"--runs {runs}: no such folder; it is what study.py was given as --runs")
    paths = sorted(runs.glob("*/*/*/test/*/metrics.json"))
    chosen = set(targets) if targets else _group_datasets(paths, group)
    found = [result for path in paths if path.parent.name in chosen and (result := _read(path, group))]
    if not found:
        where = f"{runs}/<bundle>/<variant>/<seed>/test/<dataset>/metrics.json"
        what = f"datasets {sorted(chosen)}" if chosen else "datasets (name them with --targets a,b)"
        raise ValueError(f"no results of group {group}, {what}, in {where}: evaluate a run first (study.py does)")
    if len(tasks := {result.task: result.path for result in found}) > 1:
        where = " and ".join(str(path) for path in tasks.values())
        raise ValueError(f"{where} were evaluated on the tasks {' and '.join(tasks)}; a report is of one")
    found.sort(key=lambda r: (r.target, budget_order(r.budget), order(r.key), seed_order(r.seed)))
    return found


def _group_datasets(paths: Sequence[Path], group: str) -> set[str]:
    names = set()
    for path in paths:
        bundle, dataset = path.parents[4].name, path.parent.name
        if bundle in (f"multi_head_{group}", f"joint_teacher_{group}"):
            names.add(dataset)
    return names


def _read(path: Path, group: str) -> Result | None:
    run = path.parents[2]
    base, settings = parse_variant(run.parent.name)
    named = name_arm(run.parents[1].name, base, path.parent.name, group)
    if named is None:
        return None
    arm, source = named
    if settings.pop("equal_volume", None):  # another arm than the full data, not an ablation of it
        arm = "equal_volume" if arm == "joint" else f"{arm}_equal_volume"
    budget = settings.pop("cases", ALL)
    if budget != ALL and not budget.isdigit():
        raise ValueError(f"{run}: cases={budget} in the variant's name is neither a number nor `all`")
    metrics = _json(path, ("units", "parameters", "seconds_per_case"))
    _need(metrics, ("classes", "mean", "confusion") if metrics.get("task") == "classification" else ("hd95_unit",), path)
    history, folds = run / "history.json", run / "folds.json"
    return Result(
        path=run,
        arm=arm,
        source=source,
        target=path.parent.name,
        budget=budget,
        options=tuple(sorted(settings.items())),
        seed=run.name,
        metrics=metrics,
        history=_json(history, ("epochs", "seconds")) if history.exists() else None,
        folds=_json(folds, ("train", "val")) if folds.exists() else None,
    )


def _json(path: Path, keys: Sequence[str]) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text())
    except ValueError as error:
        raise ValueError(f"{path} is not valid JSON ({error}); remove it and run the study again") from error
    _need(value, keys, path)
    return value


def _need(value: dict[str, Any], keys: Sequence[str], path: Path) -> None:
    if missing := [key for key in keys if key not in value]:
        raise ValueError(f"{path} lacks the keys {missing}; remove it and run the study again")
