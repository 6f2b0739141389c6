# SPDX-License-Identifier: Apache-2.0
"""A killed run, started again, ends with the same bits as one that was never interrupted."""

from __future__ import annotations

import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from ignite.engine import Engine, Events
from monai.engines import SupervisedTrainer
from torch import nn

from common.handlers import RunKeeper

# Where each stage is killed: before or after the n-th time that a file is put in place.
KILLS: dict[str, tuple[str, str, int | None]] = {
    "alone": ("after", "last.pt", None),  # None: right after the best epoch
    "adapt": ("before", "last.pt", 3),  # while it saves: the new checkpoint is written, but not yet in place
    "joint": ("after", "best_*.pt", 1),  # the best weights are one epoch ahead of the checkpoint
    "distill": ("after", "last.pt", None),
    "distill_wide": ("after", "history.json", 1),  # training is complete, model.pt is not published
    "multi_head": ("after", "last.pt", 1),
}


def history(run: Path) -> dict[str, Any]:
    value = json.loads((run / "history.json").read_text())
    del value["seconds"]
    return value


def assert_same(run: Path, other: Path) -> None:
    """Same history but for the seconds, and bit-equal model, best weights and last checkpoint (optimizer and all)."""
    assert history(run) == history(other)
    best = f"checkpoints/best_{history(run)['best_epoch']}.pt"
    assert {str(path.relative_to(run)) for path in run.rglob("*.pt")} == {"model.pt", "checkpoints/last.pt", best}
    for file in ("model.pt", best, "checkpoints/last.pt"):
        mine, theirs = (flat(torch.load(r / file, weights_only=True)) for r in (run, other))
        assert mine.keys() == theirs.keys()
        for key, value in mine.items():
            assert torch.equal(value, theirs[key]) if isinstance(value, torch.Tensor) else value == theirs[key], key


def flat(value: Any, name: str = "") -> dict[str, Any]:
    """Leaves of nested dicts and lists by path, without the seconds."""
    if isinstance(value, (dict, list, tuple)):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        return {k: v for key, item in items if key != "seconds" for k, v in flat(item, f"{name}/{key}").items()}
    return {name: value}


@pytest.fixture(scope="module", params=["tiny_stages", "tiny_classifiers"], ids=["segmentation", "classification"])
def stages(request) -> Any:
    """The stages of a task, see tests/conftest.py."""
    return request.getfixturevalue(request.param)


@pytest.fixture(scope="module", autouse=True)
def checkpoints_stay() -> Iterator[None]:
    """Those of complete runs, for the comparison of all that was trained."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RunKeeper, "drop_checkpoints", lambda keeper: None)
        yield


@pytest.fixture(scope="module")
def whole(stages, tmp_path_factory) -> Path:
    """Every stage, never interrupted."""
    runs = tmp_path_factory.mktemp("whole")
    for stage in stages.stages:
        stages.train(stage, runs, teachers=runs)
    return runs


@pytest.fixture(scope="module")
def killed(stages, whole, tmp_path_factory) -> Path:
    """Every stage, killed once."""
    runs = tmp_path_factory.mktemp("killed")
    jobs = []
    for stage in stages.stages:
        moment, name, n = KILLS[stage]
        best = history(stages.run_dir(stage, whole))["best_epoch"]
        kill = [moment, name, best + 1 if n is None else n]
        jobs.append({"kill": kill, "run": stages.job(stage, runs, teachers=whole)})
    plan = runs / "jobs.json"
    plan.write_text(json.dumps(jobs))
    path = os.pathsep.join([str(Path.cwd()), *sys.path])
    done = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("killed_stages.py")), str(plan)],
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == [signal.SIGKILL] * len(jobs), done.stderr
    return runs


@pytest.mark.parametrize("stage", KILLS)
def test_killed_stage_ends_bit_equal(stages, whole, killed, stage):
    run = stages.run_dir(stage, killed)
    assert not (run / "model.pt").exists()  # a killed run never looks complete
    stages.train(stage, killed, teachers=whole)
    assert_same(run, stages.run_dir(stage, whole))
    assert not list(run.rglob("*.tmp"))  # what the killed process was writing is gone


@pytest.mark.parametrize("stages", ["tiny_stages"], indirect=True, ids=["segmentation"])
def test_killed_command_ends_bit_equal(stages, whole, tmp_path):
    """The real command line, killed from outside after its second epoch was saved."""
    job = stages.job("alone", tmp_path, teachers=whole)
    command = [sys.executable, "-m", "monai.bundle", "run", job.pop("run_id")]
    command += [word for key, value in job.items() for word in (f"--{key}", str(value))]
    last = stages.run_dir("alone", tmp_path) / "checkpoints" / "last.pt"
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(command, env=os.environ | {"OMP_NUM_THREADS": "1"}, stdout=log, stderr=log)
        saves, seen = 0, None
        while saves < 2 and process.poll() is None:
            time.sleep(0.002)
            stamp = last.stat().st_mtime_ns if last.exists() else None
            saves, seen = saves + (stamp != seen), stamp
        process.kill()
    assert process.wait() == -signal.SIGKILL, (tmp_path / "log").read_text()
    stages.train("alone", tmp_path, teachers=whole)
    assert_same(stages.run_dir("alone", tmp_path), stages.run_dir("alone", whole))


@pytest.mark.parametrize("stages", ["tiny_stages"], indirect=True, ids=["segmentation"])
def test_starting_a_complete_run_again_changes_nothing(stages, whole, tmp_path):
    run, before = stages.run_dir("distill", tmp_path), stages.run_dir("distill", whole)
    shutil.copytree(before, run)
    stages.train("distill", tmp_path, teachers=whole)
    assert_same(run, before)
    assert (run / "history.json").read_bytes() == (before / "history.json").read_bytes()


@pytest.mark.parametrize("stages", ["tiny_stages"], indirect=True, ids=["segmentation"])
def test_a_run_cannot_be_made_longer(stages, whole, tmp_path):
    """The schedules end with max_epochs, so a longer run is another run."""
    run = stages.run_dir("alone", tmp_path)
    shutil.copytree(stages.run_dir("alone", whole), run)
    with pytest.raises(Exception) as error:
        stages.train("alone", tmp_path, teachers=whole, max_epochs=6)
    chain, cause = [], error.value
    while cause is not None:
        chain.append(str(cause))
        cause = cause.__cause__
    assert f"{run} was begun with another max_epochs (config.json: 4, now 6)" in chain[-1]
    assert_same(run, stages.run_dir("alone", whole))


# One network, one handler and scores that are given: the states that a resume must not lose.


class Scores:
    """Stands for the evaluator: its metric at an epoch is given."""

    def __init__(self, values: list[float]) -> None:
        self.values = values
        self.state = SimpleNamespace(metrics={}, key_metric_name="score")


def train(run: Path, values: list[float], *, kill_after: int | None = None, patience: int | None = None) -> int:
    """Train a linear network with scripted scores, up to `kill_after` epochs; returns the epochs that ran."""
    torch.manual_seed(0)
    network = nn.Linear(3, 1)
    optimizer = torch.optim.Adam(network.parameters(), lr=0.1)
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, mode="max", patience=0, factor=0.5)
    scores = Scores(values)
    keeper = RunKeeper(
        run_dir=str(run),
        network=network,
        deployable=network,
        optimizer=optimizer,
        scheduler=scheduler,
        evaluator=scores,
        seed=0,
        patience=patience,
    )
    ran = 0

    def score(engine: Engine) -> None:
        nonlocal ran
        ran += 1
        scores.state.metrics["score"] = values[engine.state.epoch - 1]

    def kill(engine: Engine) -> None:
        if engine.state.epoch == kill_after:
            raise KeyboardInterrupt

    def each_epoch(call: Callable[[Engine], None]) -> SimpleNamespace:
        return SimpleNamespace(attach=lambda engine: engine.add_event_handler(Events.EPOCH_COMPLETED, call))

    noise = [{"image": torch.zeros(2, 3), "label": torch.zeros(2, 1)}] * 2
    trainer = SupervisedTrainer(
        device=torch.device("cpu"),
        max_epochs=len(values),
        train_data_loader=noise,
        network=network,
        optimizer=optimizer,
        loss_function=lambda pred, label: ((pred - torch.rand_like(pred)) ** 2).mean(),
        decollate=False,
        train_handlers=[each_epoch(score), keeper, each_epoch(kill)],
    )
    try:
        trainer.run()
    except KeyboardInterrupt:
        assert kill_after is not None
    return ran


@pytest.mark.parametrize("kill_after", [1, 2, 3, 4])
def test_best_weights_plateau_and_noise_survive(tmp_path, kill_after):
    """The best epoch is the second; resumed right after it, or later, it stays, as does the learning rate."""
    values = [0.1, 0.9, 0.3, 0.2, 0.4]
    train(tmp_path / "whole", values)
    train(tmp_path / "killed", values, kill_after=kill_after)
    assert train(tmp_path / "killed", values) == len(values) - kill_after
    assert_same(tmp_path / "killed", tmp_path / "whole")
    record = history(tmp_path / "killed")
    assert (record["best_epoch"], record["best_value"]) == (1, 0.9)
    assert math.isclose(record["epochs"][-1]["lr"], 0.1 / 4)


@pytest.mark.parametrize(("kill_after", "left"), [(2, 2), (3, 1), (4, 0)])
def test_patience_survives(tmp_path, kill_after, left):
    """Two epochs without a better one end training, however often it was interrupted."""
    values = [0.1, 0.9, 0.3, 0.2, 1.0, 1.0]
    assert train(tmp_path / "whole", values, patience=2) == 4
    train(tmp_path / "killed", values, kill_after=kill_after, patience=2)
    assert train(tmp_path / "killed", values, patience=2) == left
    assert_same(tmp_path / "killed", tmp_path / "whole")


def test_another_number_of_processes_is_refused(tmp_path):
    train(tmp_path, [0.1, 0.2], kill_after=1)
    last = tmp_path / "checkpoints" / "last.pt"
    checkpoint = torch.load(last, weights_only=True)
    checkpoint["state"]["processes"] = 2
    torch.save(checkpoint, last)
    with pytest.raises(ValueError, match=r"begun with 2 process.*now there are 1"):
        train(tmp_path, [0.1, 0.2])
