# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import io
import json
import math
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from ignite.engine import Engine, Events
from monai.engines import SupervisedEvaluator
from torch import nn
from torch.utils.data import DataLoader

from common import handlers
from common.handlers import RunKeeper, TeacherFloor, save_atomic
from common.metrics.case_dice import CaseDice
from common.metrics.image_accuracy import ImageAccuracy

ROOT = Path(__file__).resolve().parents[1]


class FullDisk:
    """A file on a disk that is full after `room` bytes."""

    def __init__(self, path: Path, room: int) -> None:
        self.file, self.room = io.FileIO(path, "w"), room

    def write(self, content: bytes) -> int:
        self.room -= len(content)
        if self.room < 0:
            raise OSError(28, "No space left on device")
        return self.file.write(content)

    def flush(self) -> None:
        self.file.flush()

    def fileno(self) -> int:
        return self.file.fileno()

    def __enter__(self) -> FullDisk:
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()


def test_saves_weights_json_and_text(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "folder"
    save_atomic({"w": torch.arange(3)}, folder / "model.pt")
    save_atomic({"a": [1, None]}, folder / "a.json")
    save_atomic("text: ü\n", folder / "a.yaml")
    assert torch.equal(torch.load(folder / "model.pt", weights_only=True)["w"], torch.arange(3))
    assert json.loads((folder / "a.json").read_text()) == {"a": [1, None]}
    assert (folder / "a.yaml").read_text() == "text: ü\n"
    assert sorted(path.name for path in folder.iterdir()) == ["a.json", "a.yaml", "model.pt"]


@pytest.mark.parametrize("name", ["model.pt", "history.json"])
@pytest.mark.parametrize("room", [0, 100, 4000])
def test_a_full_disk_leaves_the_old_file(tmp_path: Path, monkeypatch, name: str, room: int) -> None:
    old, new = {"w": [1.0] * 10}, {"w": [2.0] * 10_000}
    path = tmp_path / name
    save_atomic(old, path)
    before = path.read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(handlers.Path, "open", lambda self, mode: FullDisk(self, room))
        with pytest.raises(OSError, match=rf"cannot save .*{name}.*earlier results are untouched"):
            save_atomic(new, path)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == [name]


def test_a_full_disk_for_real(tmp_path: Path) -> None:
    # a process that may write no file above 20 kB: the kernel refuses the write, as on a full disk
    script = f"""
import resource, torch
from pathlib import Path
from common.handlers import save_atomic
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
for name, small, large in (("model.pt", torch.zeros(9), torch.zeros(99_999)), ("a.json", [0] * 9, [0] * 99_999)):
    path = Path({str(tmp_path)!r}) / name
    save_atomic(small, path)
    before = path.read_bytes()
    try:
        save_atomic(large, path)
    except OSError as error:
        print(name, str(error).startswith(f"cannot save {{path}} ("), path.read_bytes() == before)
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.stdout.splitlines() == ["model.pt True True", "a.json True True"], done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.json", "model.pt"]


def test_what_cannot_be_saved_leaves_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(TypeError):
        save_atomic({"a": object()}, tmp_path / "a.json")
    assert not list(tmp_path.iterdir())


class Run:
    """A tiny training: noise in, a linear network out; validation says what `values` says."""

    def __init__(
        self,
        folder: Path,
        values: Sequence[float],
        *,
        plateau: bool = False,
        amp: bool = False,
        die_at: int | None = None,
        nan_at: int | None = None,
        **options,
    ) -> None:
        torch.manual_seed(0)
        self.network = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout(0.5), nn.Linear(4, 1))
        self.optimizer = torch.optim.Adam(self.network.parameters(), 0.1)
        scheduler = torch.optim.lr_scheduler.PolynomialLR(self.optimizer, total_iters=len(values), power=0.9)
        if plateau:
            scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(self.optimizer, "max", factor=0.1, patience=1)
        evaluator = SimpleNamespace(state=SimpleNamespace(metrics={}, key_metric_name="dice"))
        self.values, self.weights, self.rates = values, [], []
        engine = Engine(self.step)
        engine.state.device, engine.state.rank = torch.device("cpu"), 0
        engine.scaler = torch.amp.GradScaler("cpu", init_scale=8, growth_interval=4) if amp else None
        engine.loss_function = SimpleNamespace(terms={"part": torch.tensor(2.0)})

        @engine.on(Events.EPOCH_COMPLETED)
        def validate(engine: Engine) -> None:
            evaluator.state.metrics["dice"] = values[engine.state.epoch - 1]
            self.weights.append(self.snapshot())
            self.rates.append(self.optimizer.param_groups[0]["lr"])

        self.keeper = RunKeeper(
            run_dir=str(folder),
            network=self.network,
            deployable=self.network[3],
            optimizer=self.optimizer,
            scheduler=scheduler,
            evaluator=evaluator,
            seed=5,
            **options,
        )
        self.keeper.attach(engine)
        self.engine, self.die_at, self.nan_at = engine, die_at, nan_at

    def snapshot(self) -> dict[str, torch.Tensor]:
        return {key: value.clone() for key, value in self.network[3].state_dict().items()}

    def step(self, engine: Engine, batch: object) -> dict[str, torch.Tensor]:
        if engine.state.iteration == self.die_at:
            raise KeyboardInterrupt
        loss = (self.network(torch.randn(8, 3)) - 1).square().mean()
        if engine.state.iteration == self.nan_at:
            loss = loss * math.nan
        self.optimizer.zero_grad()
        if engine.scaler is None:
            loss.backward()
            self.optimizer.step()
        else:
            engine.scaler.scale(loss).backward()
            engine.scaler.step(self.optimizer)
            engine.scaler.update()
        return {"loss": loss}

    def go(self) -> Run:
        self.engine.run([0, 0, 0], max_epochs=len(self.values), epoch_length=3)
        return self


def model(folder: Path) -> dict[str, torch.Tensor]:
    return torch.load(folder / "model.pt", weights_only=True)


def history(folder: Path) -> dict:
    return json.loads((folder / "history.json").read_text())


def equal(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


@pytest.mark.parametrize(
    ("values", "select_from", "best"),
    [
        ([0.1, 0.5, 0.3, 0.4], 0, 1),
        ([0.9, 0.5, 0.3, 0.4], 2, 3),
        ([0.9, 0.5, 0.3, 0.4], 3, 3),
        ([0.9, 0.5, 0.3, 0.4], 50, 3),  # later than the last means the last
        ([0.5, 0.7, 0.7, 0.7], 0, 1),  # the first of equals
        ([0.0, 0.0], 0, 0),
    ],
)
def test_the_best_epoch_from_a_first_one_on_is_published(tmp_path: Path, values, select_from: int, best: int) -> None:
    run = Run(tmp_path, values, select_from=select_from).go()
    assert equal(model(tmp_path), run.weights[best])
    found = history(tmp_path)
    assert (found["best_epoch"], found["best_value"]) == (best, values[best])
    assert [row["val"] for row in found["epochs"]] == values
    assert [row["epoch"] for row in found["epochs"]] == list(range(len(values)))
    assert [row["lr"] for row in found["epochs"]] == pytest.approx(run.rates)
    assert all(row["terms"] == {"part": 2.0} and row["train_loss"] > 0 for row in found["epochs"])


def test_no_model_before_training_is_complete(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        Run(tmp_path, [0.1, 0.2, 0.3], die_at=8).go()
    assert not (tmp_path / "model.pt").exists()
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == ["best_1.pt", "last.pt"]


@pytest.mark.parametrize(("die_at", "plateau"), [(2, False), (9, False), (13, False), (7, True)])
def test_a_killed_run_ends_bit_equal(tmp_path: Path, die_at: int, plateau: bool) -> None:
    # epoch 2 of 0..4 is the best: 7 and 9 die just after it was reached, 13 later
    values, options = [0.1, 0.2, 0.6, 0.5, 0.4], {"plateau": plateau, "select_from": 1}
    whole = Run(tmp_path / "whole", values, **options).go()
    with pytest.raises(KeyboardInterrupt):
        Run(tmp_path / "killed", values, die_at=die_at, **options).go()
    resumed = Run(tmp_path / "killed", values, **options).go()
    assert equal(resumed.network.state_dict(), whole.network.state_dict())
    assert equal(model(tmp_path / "killed"), model(tmp_path / "whole"))
    a, b = history(tmp_path / "killed"), history(tmp_path / "whole")
    assert a["epochs"] == b["epochs"] and a["best_epoch"] == b["best_epoch"] == 2


def test_weights_of_an_epoch_that_was_not_finished_are_not_published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a GPU an epoch trained again differs: here it is the best before the kill, and not after it."""

    def killed(value: object, path: Path) -> None:
        if path.name == "last.pt" and path.exists():
            raise KeyboardInterrupt
        save_atomic(value, path)

    run = tmp_path / "killed"
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("common.handlers.save_atomic", killed)
        Run(run, [0.5, 0.9, 0.1]).go()
    assert sorted(path.name for path in (run / "checkpoints").iterdir()) == ["best_0.pt", "best_1.pt", "last.pt"]
    whole = Run(tmp_path / "whole", [0.5, 0.4, 0.1]).go()
    Run(run, [0.5, 0.4, 0.1]).go()
    assert equal(model(run), whole.weights[0])
    assert sorted(path.name for path in run.iterdir()) == ["history.json", "model.pt"]


def test_a_killed_run_keeps_its_gradient_scaler(tmp_path: Path) -> None:
    values = [0.1, 0.2, 0.3, 0.4]
    whole = Run(tmp_path / "whole", values, amp=True).go()
    assert whole.engine.scaler.get_scale() == 8 * 2**3  # 12 steps, grown every fourth
    with pytest.raises(KeyboardInterrupt):
        Run(tmp_path / "killed", values, amp=True, die_at=8).go()
    resumed = Run(tmp_path / "killed", values, amp=True).go()
    assert resumed.engine.scaler.state_dict() == whole.engine.scaler.state_dict()
    assert equal(model(tmp_path / "killed"), model(tmp_path / "whole"))


def test_a_complete_run_started_again_trains_no_further(tmp_path: Path) -> None:
    Run(tmp_path, [0.1, 0.2]).go()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["history.json", "model.pt"]  # no checkpoints
    before = model(tmp_path), history(tmp_path)
    again = Run(tmp_path, [0.1, 0.2], die_at=1).go()
    assert not again.weights
    assert equal(model(tmp_path), before[0]) and history(tmp_path) == before[1]


def test_the_plateau_counts_from_the_first_selectable_epoch(tmp_path: Path) -> None:
    # a plateau of 1 epoch: without the offset the rate would fall at the third epoch
    run = Run(tmp_path, [0.9, 0.5, 0.5, 0.4, 0.3, 0.2], plateau=True, select_from=2).go()
    assert run.rates == pytest.approx([0.1, 0.1, 0.1, 0.1, 0.1, 0.01])


def test_patience_ends_training_and_is_kept_across_a_resume(tmp_path: Path) -> None:
    values = [0.9, 0.1, 0.5, 0.4, 0.3, 0.2, 0.1]
    options = {"patience": 2, "select_from": 1}
    run = Run(tmp_path / "a", values, **options).go()
    assert [row["epoch"] for row in history(tmp_path / "a")["epochs"]] == [0, 1, 2, 3, 4]
    assert equal(model(tmp_path / "a"), run.weights[2])
    with pytest.raises(KeyboardInterrupt):
        Run(tmp_path / "b", values, die_at=14, **options).go()
    Run(tmp_path / "b", values, **options).go()
    assert history(tmp_path / "b")["epochs"] == history(tmp_path / "a")["epochs"]
    Run(tmp_path / "b", values, die_at=1, **options).go()  # exhausted: nothing is left to do
    assert history(tmp_path / "b")["epochs"] == history(tmp_path / "a")["epochs"]


def test_a_loss_that_is_not_finite_stops_and_says_where(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="the loss is nan in epoch 2, iteration 5"):
        Run(tmp_path, [0.1, 0.2, 0.3], nan_at=5).go()
    assert not (tmp_path / "model.pt").exists()
    checkpoint = torch.load(tmp_path / "checkpoints" / "last.pt", weights_only=True)
    assert all(torch.isfinite(value).all() for value in checkpoint["network"].values())


def test_only_the_first_rank_writes(tmp_path: Path) -> None:
    run = Run(tmp_path, [0.1, 0.2])
    run.engine.state.rank = 1
    run.go()
    assert not list(tmp_path.iterdir())


class Fixed(nn.Module):
    """Foreground on the left `share` of the image, whatever it shows."""

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = share
        self.calls = 0

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        output = torch.zeros(len(image), 2, *image.shape[2:])
        output[:, 0, :, round(self.share * image.shape[3]) :] = 1
        output[:, 1, :, : round(self.share * image.shape[3])] = 1
        return output.transpose(2, 3)


@pytest.fixture
def floor() -> Callable[..., tuple[TeacherFloor, Engine, nn.Module]]:
    """A floor over four images whose upper quarter is foreground: all foreground scores 2 (1/4) / (1/4 + 1) = 0.4."""

    def floor(*, floor: float | None = None, **teachers: nn.Module) -> tuple[TeacherFloor, Engine, nn.Module]:
        label = torch.zeros(1, 16, 16)
        label[:, :4] = 1
        own = nn.Identity()
        evaluator = SupervisedEvaluator(
            device=torch.device("cpu"),
            val_data_loader=DataLoader([{"image": label, "label": label, "case": f"c{i}"} for i in range(4)], 2),
            network=own,
            key_val_metric={"dice": CaseDice(["lv"])},
            decollate=False,
        )
        engine = Engine(lambda engine, batch: None)
        engine.state.device = torch.device("cpu")
        handler = TeacherFloor(teachers=teachers, evaluator=evaluator, out_channels=2, floor=floor)
        handler.attach(engine)
        return handler, engine, own

    return floor


@pytest.mark.parametrize("share", [0.25, 0.5, 1.0])
def test_a_teacher_at_or_above_all_foreground_may_teach(floor, share: float) -> None:
    handler, engine, own = floor(teacher=Fixed(share))
    engine.run([0], max_epochs=1)
    assert handler.evaluator.network is own


def test_a_teacher_that_learned_nothing_is_refused_by_name(floor) -> None:
    handler, engine, own = floor(good=Fixed(0.25), bad=Fixed(0.0))
    with pytest.raises(ValueError, match=r"teacher bad scores 0\.000 .*below the floor of 0\.400.*teacher_floor to 0"):
        engine.run([0], max_epochs=1)
    assert handler.evaluator.network is own


def test_the_floor_can_be_given_and_0_asks_nothing(floor) -> None:
    _, engine, _ = floor(floor=0.9, good=Fixed(0.25))
    engine.run([0], max_epochs=1)
    _, engine, _ = floor(floor=0.9, fair=Fixed(0.5))
    with pytest.raises(ValueError, match=r"teacher fair scores 0\.667 .*floor of 0\.900"):
        engine.run([0], max_epochs=1)
    unasked = Fixed(0.0)
    _, engine, _ = floor(floor=0.0, bad=unasked)
    engine.run([0], max_epochs=1)
    assert unasked.calls == 0


def test_a_resumed_run_asks_no_teacher_again(floor) -> None:
    handler, engine, _ = floor(bad=Fixed(0.0))
    engine.state.epoch = 3
    handler(engine)
    assert handler.teachers["bad"].calls == 0


def test_a_classifiers_floor_is_that_of_a_class_which_the_validation_patients_have() -> None:
    """Of classes a, b, c only a and c are there: predicting one scores 1/2, predicting b nothing."""
    labels = [0, 2, 2, 2]
    evaluator = SupervisedEvaluator(
        device=torch.device("cpu"),
        val_data_loader=DataLoader([{"image": torch.zeros(1, 4, 4), "label": torch.tensor(k)} for k in labels], 2),
        network=nn.Identity(),
        key_val_metric={"accuracy": ImageAccuracy(["a", "b", "c"])},
        decollate=False,
    )
    untrained = nn.Sequential(nn.Flatten(), nn.Linear(16, 3))
    nn.init.zeros_(untrained[1].weight)
    untrained[1].bias.data = torch.tensor([0.0, 0.0, 1.0])
    engine = Engine(lambda engine, batch: None)
    engine.state.device = torch.device("cpu")
    TeacherFloor(teachers={"untrained": untrained}, evaluator=evaluator, out_channels=3, maps=False).attach(engine)
    with pytest.raises(ValueError, match=r"teacher untrained scores 0\.500 .*no better than the floor of 0\.500"):
        engine.run([0], max_epochs=1)
