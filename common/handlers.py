# SPDX-License-Identifier: Apache-2.0
"""Ignite handlers: a run's checkpoint and resume, its history, and the check that a teacher has something to teach."""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import shutil
import time
from pathlib import Path
from typing import Any

import ignite.distributed as idist
import numpy as np
import torch
import torch.distributed as dist
from ignite.engine import Events
from monai.engines import SupervisedEvaluator, SupervisedTrainer
from torch import nn

from .errors import brief

__all__ = ["RunKeeper", "TeacherFloor", "digest", "save_atomic"]


def digest(file: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def save_atomic(value: Any, path: Path) -> None:
    """`torch.save`, or text for a str, or JSON for a `.json`, put in place by `os.replace`; what was there stays whole if
    saving fails.

    Raises:
        OSError: the disk is full or the folder is not writable; names the file.
    """
    scratch = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with scratch.open("wb") as file:
            if isinstance(value, str):
                file.write(value.encode())
            elif path.suffix == ".json":
                file.write(json.dumps(value, indent=1).encode())
            else:
                torch.save(value, file)
            file.flush()
            os.fsync(file.fileno())
        scratch.replace(path)
    except (OSError, RuntimeError) as error:  # torch reports a failed write as RuntimeError
        fix = "earlier results are untouched: free space there or choose another folder, then start again"
        raise OSError(f"cannot save {path} ({brief(error)}); {fix}.") from error
    finally:
        with contextlib.suppress(OSError):  # where the folder is a file, there is nothing to remove
            scratch.unlink(missing_ok=True)


class RunKeeper:
    """Keeps a run: history, best model, learning-rate plateau, checkpoint each epoch, exact resume.

    MONAI's stock handlers lose the best metric and the plateau's state across a resume, so one state holds them all and is
    saved with network, optimizer and scheduler in one file. Put it after the ValidationHandler in the trainer's handlers.

    - The best epoch counts from `select_from` on: only there is the mechanism (curriculum, adversarial weight) fully on, and
      the same epoch holds for the baselines.
    - `model.pt` appears when training is complete, and `checkpoints/` goes (a complete run is never made longer, see `FREE`
      in `common.study_checks`). Until then the best weights lie there under their epoch's number: `last.pt`, which is written
      after them, tells which count, so that a run killed between the two publishes none of an epoch that it trains again (on
      a GPU not to the same bits).
    - Every epoch reseeds torch from (seed, epoch, rank): randomness is a function of those, so a killed run ends bit-equal
      on the CPU. With `amp` the gradient scaler is kept too.
    - Under torch.distributed rank 0 writes, and its buffers (batch-norm statistics) are what all ranks validate with.

    Args:
        run_dir: the run's folder.
        network: everything trained, adapters and discriminator included (unwrapped from DDP).
        deployable: the part that is saved as model.pt.
        optimizer, scheduler: as trained; the scheduler steps on the validation metric (a plateau) or each epoch.
        evaluator: the validation engine; its key metric is what is maximised.
        seed: the run's seed.
        select_from: first epoch, from 0, whose model may be kept; later than the last means the last.
        patience: epochs without a better model after which training ends; None never.

    Raises:
        ValueError: the loss is not finite (names epoch and iteration), or a run is resumed by another number of processes.
    """

    def __init__(
        self,
        *,
        run_dir: str,
        network: nn.Module,
        deployable: nn.Module,
        optimizer: torch.optim.Optimizer,
        scheduler: Any,
        evaluator: SupervisedEvaluator,
        seed: int,
        select_from: int = 0,
        patience: int | None = None,
    ) -> None:
        self.run_dir, self.last = Path(run_dir), Path(run_dir) / "checkpoints" / "last.pt"
        self.model = self.run_dir / "model.pt"
        self.parts = {"network": network, "optimizer": optimizer, "scheduler": scheduler}
        self.deployable, self.evaluator = deployable, evaluator
        self.seed, self.select_from, self.patience = seed, select_from, patience
        self.state: dict[str, Any] = {"epochs": [], "best_epoch": -1, "best_value": -math.inf, "seconds": 0.0}
        self.state["processes"] = idist.get_world_size()
        self._sums: dict[str, float] = {}

    @property
    def best(self) -> Path:
        """The weights of the best epoch so far."""
        return self.last.with_name(f"best_{self.state['best_epoch']}.pt")

    def attach(self, engine: SupervisedTrainer) -> None:
        engine.add_event_handler(Events.STARTED, self.resume)
        engine.add_event_handler(Events.EPOCH_STARTED, self.start_epoch)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self.add)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self.end_epoch)
        engine.add_event_handler(Events.COMPLETED, self.finish)

    def resume(self, engine: SupervisedTrainer) -> None:
        """Take up the last checkpoint, if there is one; of a complete run nothing is left to do."""
        if engine.state.rank == 0:
            for folder in (self.run_dir, self.last.parent):
                for scratch in folder.glob(".*.tmp"):  # of a process that was killed while it saved
                    scratch.unlink(missing_ok=True)
        if self.model.exists():
            engine.state.epoch = engine.state.max_epochs
            engine.state.iteration = engine.state.epoch * engine.state.epoch_length
            engine.logger.info(f"{self.run_dir} is complete.")
            return
        if not self.last.exists():
            return
        try:
            checkpoint = torch.load(self.last, map_location=engine.state.device, weights_only=True)
        except Exception as error:  # torch raises types of its own for a damaged file
            raise ValueError(f"{self.last} is damaged ({brief(error)}); remove it to train this run anew.") from error
        if checkpoint["state"]["processes"] != self.state["processes"]:
            raise ValueError(
                f"{self.run_dir} was begun with {checkpoint['state']['processes']} process(es), now there are"
                f" {self.state['processes']}, which changes the batch; start as many, or give the new run another variant."
            )
        for name, part in self.parts.items():
            part.load_state_dict(checkpoint[name])
        if checkpoint.get("scaler") and engine.scaler is not None:
            engine.scaler.load_state_dict(checkpoint["scaler"])
        self.state = checkpoint["state"]
        engine.state.epoch = len(self.state["epochs"])
        engine.state.iteration = engine.state.epoch * engine.state.epoch_length
        engine.logger.info(f"resuming {self.run_dir} after epoch {engine.state.epoch}.")
        if self._exhausted(engine.state.epoch - 1):
            engine.terminate()

    def start_epoch(self, engine: SupervisedTrainer) -> None:
        key = [self.seed, engine.state.epoch, engine.state.rank]
        torch.manual_seed(int(np.random.SeedSequence(key).generate_state(1)[0]))
        self._sums, self._start = {}, time.perf_counter()

    def add(self, engine: SupervisedTrainer) -> None:
        loss = float(engine.state.output["loss"].detach())
        if not math.isfinite(loss):
            raise ValueError(
                f"the loss is {loss} in epoch {engine.state.epoch}, iteration {engine.state.iteration}; lower the learning rate"
                " or check the images. The last checkpoint is untouched."
            )
        terms = getattr(engine.loss_function, "terms", {})
        for name, value in {"train_loss": loss, **terms}.items():
            self._sums[name] = self._sums.get(name, 0.0) + float(value)
        if self.state["processes"] > 1 and engine.state.iteration % engine.state.epoch_length == 0:
            for buffer in self.deployable.buffers():
                dist.broadcast(buffer, src=0)

    def end_epoch(self, engine: SupervisedTrainer) -> None:
        """Score, keep the best, step the scheduler, save."""
        epoch = engine.state.epoch - 1
        value = float(self.evaluator.state.metrics[self.evaluator.state.key_metric_name])
        steps = engine.state.epoch_length * self.state["processes"]
        means = {name: float(idist.all_reduce(total)) / steps for name, total in self._sums.items()}
        rate = float(self.parts["optimizer"].param_groups[0]["lr"])
        engine.state.metrics.update(means)
        first = min(self.select_from, engine.state.max_epochs - 1)
        better = epoch >= first and value > self.state["best_value"]
        plateau = isinstance(self.parts["scheduler"], torch.optim.lr_scheduler.ReduceLROnPlateau)
        if plateau and epoch >= first:
            self.parts["scheduler"].step(value)
        elif not plateau:
            self.parts["scheduler"].step()
        terms = {name: mean for name, mean in means.items() if name != "train_loss"}
        row = {"epoch": epoch, "train_loss": means["train_loss"], "val": value, "lr": rate, "terms": terms}
        self.state["epochs"].append(row)
        self.state["seconds"] += time.perf_counter() - self._start
        if better:
            self.state |= {"best_epoch": epoch, "best_value": value}
        if engine.state.rank == 0:
            if better:
                save_atomic(self.deployable.state_dict(), self.best)
            state = {name: part.state_dict() for name, part in self.parts.items()} | {"state": self.state}
            if engine.scaler is not None:
                state["scaler"] = engine.scaler.state_dict()
            save_atomic(state, self.last)
            for other in set(self.last.parent.glob("best_*.pt")) - {self.best}:
                other.unlink()
        if self._exhausted(epoch):
            engine.terminate()

    def _exhausted(self, epoch: int) -> bool:
        return self.patience is not None and 0 <= self.state["best_epoch"] <= epoch - self.patience

    def finish(self, engine: SupervisedTrainer) -> None:
        """Publish the best weights as model.pt; the last file written marks the run as complete."""
        if engine.state.rank == 0 and not self.model.exists():
            save_atomic(self.state, self.run_dir / "history.json")
            save_atomic(torch.load(self.best, map_location="cpu", weights_only=True), self.model)
        if engine.state.rank == 0:
            self.drop_checkpoints()

    def drop_checkpoints(self) -> None:
        """Make room: a complete run has no use for them."""
        shutil.rmtree(self.last.parent, ignore_errors=True)


class TeacherFloor:
    """Refuses a frozen teacher that has learned nothing, before it teaches.

    Each teacher's output is scored on the target's validation slices by the evaluator's own metric; one below the floor stops
    the run (default: the score of predicting all foreground, or one class, which a classifier must beat): a silently
    untrained teacher is the classic failure of distillation.

    Args:
        teachers: run folder -> network whose forward predicts the target's classes; teachers that predict no target (see
            `common.runs.predictors`) are not asked.
        evaluator: an evaluator of its own (its network is replaced).
        out_channels: channels of the target's output.
        maps: outputs are maps `(B, out_channels, *grid)`, background first; else class logits `(B, out_channels)`.
        floor: least validation metric; None computes it.
    """

    def __init__(
        self,
        *,
        teachers: dict[str, nn.Module],
        evaluator: SupervisedEvaluator,
        out_channels: int,
        maps: bool = True,
        floor: float | None = None,
    ) -> None:
        if floor is not None and (isinstance(floor, str) or not 0 <= floor <= 1):
            raise ValueError(f"teacher_floor: {floor!r}; give a score from 0 (no check) to 1, or null.")
        self.teachers, self.evaluator, self.floor = teachers, evaluator, floor
        predicted = (1,) if maps else (1, *(k for k in range(out_channels) if k != 1))
        self.constants = [_Constant(out_channels, k, maps=maps) for k in predicted]
        self.must_beat = floor is None and not maps  # an untrained classifier predicts one class

    def attach(self, engine: SupervisedTrainer) -> None:
        engine.add_event_handler(Events.STARTED, self)

    def _score(self, network: nn.Module) -> float:
        own, self.evaluator.network = self.evaluator.network, network
        try:
            self.evaluator.run(0)  # logged as epoch 0, before training
        finally:
            self.evaluator.network = own
        return float(self.evaluator.state.metrics[self.evaluator.state.key_metric_name])

    def __call__(self, engine: SupervisedTrainer) -> None:
        if engine.state.epoch > 0 or self.floor == 0:  # resumed: checked when it began
            return
        # a class without validation patients scores 0, which any teacher would beat: then the next one is the floor
        constant = (score for score in map(self._score, self.constants) if score > 0)
        floor = next(constant, 0.0) if self.floor is None else self.floor
        for run, teacher in self.teachers.items():
            try:
                score = self._score(teacher.to(engine.state.device))
            except ValueError as error:
                raise ValueError(
                    f"teacher {run} does not fit the target ({error}); give one of the target's classes."
                ) from error
            if score < floor or (self.must_beat and score == floor):
                place = "below" if score < floor else "no better than"
                raise ValueError(
                    f"teacher {run} scores {score:.3f} on the target's validation patients, {place} the floor of"
                    f" {floor:.3f}: it is"
                    " untrained or of another task. Train it longer, or set teacher_floor to 0 to go on regardless."
                )


class _Constant(nn.Module):
    """Predicts one channel whatever it sees (one class, or all foreground), the least that a trained teacher must beat."""

    def __init__(self, channels: int, predicted: int, *, maps: bool) -> None:
        super().__init__()
        self.channels, self.predicted, self.maps = channels, predicted, maps

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        output = image.new_zeros(len(image), self.channels, *(image.shape[2:] if self.maps else ()))
        output[:, self.predicted] = 1
        return output
