# SPDX-License-Identifier: Apache-2.0
"""What a study can be asked for, and the message for each thing it cannot: the culprit and the choices."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

ARMS = {
    "alone": "the student's network trained on the target only: the baseline",
    "alone_double": "the baseline with twice the images a step, as many as distill_wide and distill_soft see",
    "pooled": "the student's network trained on the target and the sources together",
    "multi_head": "one shared encoder, one head a dataset",
    "source_only": "the student's network trained on a source, tested on the target",
    "teacher": "the target teacher",
    "source_teacher": "the source teachers, adapted to the target",
    "joint": "the joint teacher",
    "joint_wide": "the joint teacher, its head warm-started and trained on target and sources",
    "joint_target_only": "a joint teacher of as many teachers, all of the target",
    "equal_volume": "the joint teacher, target and sources cut to the target's own size in all",
    "distill": "the student of the joint teacher",
    "distill_wide": "the student of joint_wide, which also sees unlabelled target and source images",
    "distill_soft": "the student of joint_wide by task and soft output alone, on the target's images, labelled or not",
    "distill_target_only": "the student of the target teacher",
    "distill_soft_target_only": "distill_soft, but the student of the target teacher",
    "distill_equal_volume": "the student of equal_volume",
}
NEED_SOURCES = frozenset(ARMS) - {"alone", "alone_double", "teacher", "distill_target_only", "distill_soft_target_only"}
ONE_HEAD = ("pooled", "source_only")  # the target's labels and a source's share a head, so that both need the same classes
NETWORKS = {  # a-b: teachers - student
    "segmentation": ("UNet", "TransResUNet", "TransResUNet-UNet"),
    "classification": ("EfficientNet", "MedViT", "MedViT-EfficientNet"),
}
# What can be varied, in the order of the variant's suffixes; study.py says at each run which of them touch it.
KEYS = ("r", "levels", "sources", "network", "pairing", "k", "teacher", "geometric")
NAMED = ("teacher", "geometric")  # those of a group of one dataset with named teachers, which has no others
OTHER_TASK = {"segmentation": ("pairing", "k", *NAMED), "classification": ("levels", *NAMED)}
# Keys that the study itself sets; `--set` may not touch them, or two runs would share a folder.
RESERVED = (
    *(
        "data_dir",
        "runs_dir",
        "run_dir",
        "dataset",
        "seed",
        "init_seed",
        "variant",
        "target",
        "target_cases",
        "source_cases",
    ),
    *("teachers", "wide", "equal_volume", *KEYS),
)

# Keys that may change between the start and the resume of a run without changing its result.
# (max_epochs is not among them: learning-rate and adversarial schedules end with it, so a run cannot be made longer exactly.)
FREE = ("data_dir", "store_dir", "runs_dir", "device", "workers", "quiet", "teacher_floor")


def check(
    group: str,
    datasets: Sequence[str],
    targets: Sequence[str],
    seeds: Sequence[int],
    arms: Sequence[str],
    target_cases: Sequence[int | str],
    vary: Mapping[str, Sequence[str]],
    settings: Mapping[str, str],
    task: str,
    teachers: Sequence[str],
) -> None:
    """Raise ValueError for the first thing asked that cannot be planned."""
    _check_lists(datasets, targets, seeds, arms, target_cases, settings)
    _check_vary(datasets, targets, vary, task, teachers)
    _check_sources(group, datasets, arms)


def _choose(what: str, values: Sequence[str], choices: Sequence[str]) -> None:
    if not values:
        raise ValueError(f"no {what} given; choose from {', '.join(choices)}")
    for value in values:
        if value not in choices:
            raise ValueError(f"unknown {what} {value!r}; choose from {', '.join(choices)}")


def _check_lists(
    datasets: Sequence[str],
    targets: Sequence[str],
    seeds: Sequence[int],
    arms: Sequence[str],
    target_cases: Sequence[int | str],
    settings: Mapping[str, str],
) -> None:
    _choose("arm", arms, list(ARMS))
    _choose("target", targets, datasets)
    if not seeds:
        raise ValueError("no seed given; seeds are whole numbers from 0, such as 0,1,2,3,4")
    for seed in seeds:
        if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
            raise ValueError(
                f"bad seed {seed!r}; seeds are whole numbers from 0, such as 0,1,2,3,4 (the seed is also the fold)"
            )
    if not target_cases:
        raise ValueError("no target_cases given; write numbers of labelled patients and all, such as 5,10,all")
    for cases in target_cases:
        if cases != "all" and (isinstance(cases, bool) or not isinstance(cases, int) or cases < 2):
            raise ValueError(
                f"bad target_cases {cases!r}; write numbers from 2 (one is for validation) or all, such as 5,10,all"
            )
    for key in settings:
        if key in RESERVED:
            hint = "vary it instead, so that its runs keep apart" if key in KEYS else "the study sets it itself"
            raise ValueError(f"--set must not set {key!r}: {hint}")


def _check_vary(
    datasets: Sequence[str],
    targets: Sequence[str],
    vary: Mapping[str, Sequence[str]],
    task: str,
    teachers: Sequence[str],
) -> None:
    keys = NAMED if teachers else [key for key in KEYS if key not in OTHER_TASK[task]]
    _choose("key to vary", list(vary) or keys[:1], keys)
    for key, values in vary.items():
        if not values or len(set(values)) < len(values):
            raise ValueError(f"vary {key}: give one or more different values, not {', '.join(values) or 'none'}")
    _choose("value of r", vary.get("r", ["1"]), ("0", "1"))
    _choose("value of network", vary.get("network", NETWORKS[task]), NETWORKS[task])
    _choose("value of pairing", vary.get("pairing", ["late"]), ("early", "late"))
    _choose("value of k", vary.get("k", ["1"]), ("1", "2", "3"))
    _choose("teacher", vary.get("teacher", teachers) or ["none"], teachers or ["none"])
    for value in vary.get("geometric", ()):
        if not re.fullmatch(r"\d+(\.\d+)?", value):
            raise ValueError(f"bad geometric {value!r}; give weights of the geometric term, such as 0,1")
    for value in vary.get("levels", ()):
        if not re.fullmatch(r"\w+(\+\w+)*", value):
            raise ValueError(f"bad levels {value!r}; join the names of the levels by +, such as down_3+down_4")
    for value in vary.get("sources", ()):
        _choose("source", value.split("+"), datasets)
        for target in targets:
            others = [name for name in datasets if name != target]
            if target in value.split("+"):
                raise ValueError(
                    f"target {target!r} equals a source (vary sources={value}); its sources can be "
                    f"{', '.join(others) or 'none: the group has no other dataset'}"
                )


def _check_sources(group: str, datasets: Sequence[str], arms: Sequence[str]) -> None:
    needy = [arm for arm in arms if arm in NEED_SOURCES]
    if needy and len(datasets) < 2:
        others = ", ".join(arm for arm in ARMS if arm not in NEED_SOURCES)
        raise ValueError(f"arm {needy[0]!r} needs a source, and {group!r} has one dataset; add one or choose from {others}")


def one_head_sources(arm: str, target: str, sources: Sequence[str], classes: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
    """The sources of an arm of `ONE_HEAD`: for source_only those whose classes are the target's, in its order.

    Raises ValueError where there is none, or, for pooled, where one has others: a pool without it would be another arm.
    """
    same = tuple(name for name in sources if list(classes[name]) == list(classes[target]))
    if same == tuple(sources) or (same and arm == "source_only"):
        return same
    others = [name for name in sources if name not in same]
    lists = ", ".join(f"{name} ({', '.join(classes[name])})" for name in others)
    fix = f"give --vary sources={'+'.join(same)}, " if same else ""
    raise ValueError(
        f"arm {arm!r} has one head for target {target!r} ({', '.join(classes[target])}) and its sources, of which "
        f"{lists} differ in classes: {fix}leave the arm out for this target, or give them the same classes in the group file"
    )
