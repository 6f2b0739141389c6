# SPDX-License-Identifier: Apache-2.0
"""Two ranks with batch 2 train what one process with batch 4 trains: all stages, with the shared multi-GPU overlay."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import timm
import torch
import yaml

from common.data.draws import EpochSampler
from common.handlers import RunKeeper
from common.networks import EfficientNet, MedViT, TransResUNet, UNet
from tests.distributed_stages import double_precision

# SGD, because Adam turns the rounding error of a gradient that is truly 0 (a bias before a norm) into a full step.
EQUAL = {"optimizer::_target_": "torch.optim.SGD", "learning_rate": 0.05, "max_epochs": 3}
# Instance and layer norm, because batch norm's statistics are a rank's own on the CPU; no dropout, whose noise is too.
VIT = {"_target_": "common.networks.ViT", "variant": "test_vit", "image_size": 32, "out_channels": 2}
NETWORKS = {
    "cardiac": {"unet::norm": "instance", "unet::features": [4, 4, 8, 8, 8, 4]},
    "pneumonia": {"networks::EfficientNet": VIT},
}
JOINT = {"cardiac": {"network_def::norm": "instance"}, "pneumonia": {"dropout": 0, "attention_dropout": 0}}
STAGES = ("alone", "adapt", "joint", "distill", "distill_wide", "multi_head")
OVERLAY = "bundles/multi_gpu.yaml"


@pytest.mark.parametrize(
    "build",
    [
        lambda: EfficientNet(in_channels=1, out_channels=2, variant="test_efficientnet"),
        lambda: MedViT(in_channels=1, out_channels=2, variant="tiny"),
        lambda: UNet(in_channels=1, out_channels=2, features=(4, 4, 8, 8, 8, 4)),
        lambda: TransResUNet(in_channels=1, out_channels=2, width=4),
    ],
    ids=["EfficientNet", "MedViT", "UNet", "TransResUNet"],
)
def test_batch_norm_over_gpus_computes_the_same_network(build) -> None:
    """What the overlay converts where there are GPUs; on one process it must give the same outputs."""
    overlay = yaml.safe_load(Path(OVERLAY).read_text())
    convert, found, _ = overlay["train::trainer::network"]["module"].partition(" if torch.cuda.is_available()")
    assert found
    torch.manual_seed(0)
    network, image = build().eval(), torch.rand(2, 1, 64, 64)
    norms = sum(isinstance(module, torch.nn.modules.batchnorm._BatchNorm) for module in network.modules())
    with torch.no_grad():
        expected = network(image)
        converted = eval(convert.removeprefix("$").replace("@module", "network"), {"timm": timm, "network": network})
        torch.testing.assert_close(converted(image), expected, rtol=0, atol=1e-6)
    assert sum(isinstance(module, torch.nn.SyncBatchNorm) for module in converted.modules()) == norms > 0


@pytest.fixture(scope="module", params=["tiny_stages", "tiny_classifiers"], ids=["segmentation", "classification"])
def stages(request) -> Any:
    """The stages of a task, see tests/conftest.py."""
    return request.getfixturevalue(request.param)


def overrides(stages, stage: str) -> dict:
    """`EQUAL`, the network, and what only this stage has."""
    own = {"distill": {"warmup": 0, "ramp": 1}, "joint": JOINT[stages.group]}
    network = {} if stage == "joint" else NETWORKS[stages.group]
    return EQUAL | network | own.get(stage.removesuffix("_wide"), {})


@pytest.fixture(scope="module")
def one(stages, tmp_path_factory) -> Path:
    """Every stage in this process, batch 4, with a slice store that no other test fills."""
    runs = tmp_path_factory.mktemp("one")
    with double_precision(), mock.patch.object(RunKeeper, "drop_checkpoints"):
        for stage in STAGES:
            stages.train(stage, runs, teachers=runs, store_dir=str(runs / "store"), **overrides(stages, stage))
    return runs


@pytest.fixture(scope="module")
def two(stages, one, tmp_path_factory) -> Path:
    """Every stage in two processes, batch 2 each, and a slice store that both build at once."""
    runs = tmp_path_factory.mktemp("two")
    jobs = []
    for stage in STAGES:
        job = stages.job(stage, runs, teachers=one, **overrides(stages, stage)) | {"batch_size": 2}
        jobs.append(job | {"config_file": [job["config_file"], OVERLAY], "store_dir": str(runs / "store")})
    plan = runs / "jobs.json"
    plan.write_text(json.dumps(jobs))
    path = os.pathsep.join([str(Path.cwd()), *sys.path])
    driver = str(Path(__file__).with_name("distributed_stages.py"))
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", driver, str(plan)],
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": path, "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        check=False,
        timeout=400,  # ranks that wait for one another
    )
    assert done.returncode == 0, done.stderr
    return runs


@pytest.mark.parametrize("stage", STAGES)
def test_two_ranks_train_what_one_process_trains(stages, one, two, stage):
    """All that is trained (adapters and discriminator too), the losses and the validation agree."""
    single, double = (stages.run_dir(stage, runs) for runs in (one, two))
    mine, theirs = (torch.load(r / "checkpoints" / "last.pt", weights_only=True)["network"] for r in (single, double))
    assert mine.keys() == theirs.keys()
    for key, value in mine.items():
        torch.testing.assert_close(theirs[key], value, atol=1e-8, rtol=1e-8, msg=lambda m, key=key: f"{key}: {m}")
    first, last = (json.loads((r / "history.json").read_text()) for r in (single, double))
    for row, other in zip(first["epochs"], last["epochs"], strict=True):
        assert other["train_loss"] == pytest.approx(row["train_loss"], abs=1e-7)
        assert other["val"] == pytest.approx(row["val"], abs=1e-7)
        assert other["terms"] == pytest.approx(row["terms"], abs=1e-7)
    assert (first["processes"], last["processes"]) == (1, 2)


def test_one_process_without_the_overlay_would_differ(stages, one, tmp_path):
    """The comparison can fail: half the batch trains other weights."""
    run = stages.train("alone", tmp_path, teachers=one, **overrides(stages, "alone") | {"batch_size": 2})
    mine, theirs = (torch.load(r / "model.pt", weights_only=True) for r in (stages.run_dir("alone", one), run))
    assert max(float((value - theirs[key]).abs().max()) for key, value in mine.items()) > 1e-3


@pytest.mark.parametrize("stage", STAGES)
def test_only_rank_0_writes(stages, two, stage):
    run = stages.run_dir(stage, two)
    single = {"config.json", "network.json", "folds.json", "history.json", "model.pt", "checkpoints", "events"}
    assert {path.name for path in run.iterdir()} == single
    events = list((run / "events").iterdir())
    assert len(events) == 2  # the trainer's and the evaluator's, of rank 0


def test_both_ranks_build_one_store(one, two):
    """The same arrays as one process builds, and nothing left over."""
    mine, theirs = ({p.relative_to(s): p for p in s.rglob("*.*")} for s in (one / "store", two / "store"))
    assert mine.keys() == theirs.keys()
    assert all(p.read_bytes() == theirs[name].read_bytes() for name, p in mine.items())


def test_ranks_see_a_steps_slices_together(monkeypatch):
    """In each step and epoch, the ranks' indices together are the single process's."""
    dataset = list(range(12))
    whole = EpochSampler(dataset)
    parts = []
    for rank in (0, 1):
        monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
        monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 2)
        monkeypatch.setattr(torch.distributed, "get_rank", lambda rank=rank: rank)
        parts.append(EpochSampler(dataset))
    for epoch in (1, 2):
        for sampler in (whole, *parts):
            sampler.set_epoch(epoch)
        one, first, second = (list(sampler) for sampler in (whole, *parts))
        for step in range(3):
            dealt = first[2 * step : 2 * step + 2] + second[2 * step : 2 * step + 2]
            assert sorted(dealt) == one[4 * step : 4 * step + 4]
