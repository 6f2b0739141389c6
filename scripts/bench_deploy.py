# SPDX-License-Identifier: Apache-2.0
"""Benchmarks of what leaves the house: seconds from a CT volume to its saved label, milliseconds a slice of each format."""

from __future__ import annotations

import contextlib
import copy
import io
import json
import statistics
import time
from pathlib import Path

import nibabel
import numpy as np
import onnxruntime
import torch
from bench_timing import Row, alternate, divide, row
from ignite.engine import Events
from monai.bundle import ConfigWorkflow
from monai.networks.nets import BasicUNet

from common.data import lits
from common.export.configs import configs
from common.export.formats import write_onnx, write_torchscript
from common.export.source import Source
from common.networks import UNet

SIZE = 256  # pixels a side that the network sees
SLICES = 16  # in a batch, as the deployed inferer takes them


def _student(features: tuple[int, ...]) -> UNet:
    torch.manual_seed(0)
    return UNet(features=features).eval()


def formats(*, folder: Path, features: tuple[int, ...], repeats: int) -> list[Row]:
    """A slice's forward pass: our class, the stock class, TorchScript and ONNX Runtime, one thread each."""
    ours = _student(features)
    bare = BasicUNet(spatial_dims=2, in_channels=1, out_channels=2, features=features, act="relu", norm="batch").eval()
    bare.load_state_dict(ours.state_dict())
    image = torch.rand(SLICES, 1, SIZE, SIZE)
    last = copy.deepcopy(bare).to(memory_format=torch.channels_last)
    with contextlib.redirect_stdout(io.StringIO()):
        write_torchscript(copy.deepcopy(last), folder / "model.ts", {}, "{}")
        write_onnx(ours, folder / "model.onnx", image[:1])
    scripted = torch.jit.load(str(folder / "model.ts"))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(folder / "model.onnx"), options, providers=["CPUExecutionProvider"])
    arms = {
        "ours": lambda: ours(image),
        "bare": lambda: bare(image),
        "channels last": lambda: last(image),
        "TorchScript": lambda: scripted(image),
        "ONNX Runtime": lambda: session.run(None, {"image": image.numpy()}),
    }
    with torch.inference_mode():
        seconds = alternate(arms, repeats)
    slice_ms = {name: f"{1000 * statistics.median(s) / SLICES:.1f} ms a slice" for name, s in seconds.items()}
    widths = f"{features[0]}..{features[4]} at {SIZE}x{SIZE}"
    target = {"ours": ("at most", 1.02)}
    return [
        row(
            f"inference, student {widths}: {name}", divide(seconds[name], seconds["bare"]), target.get(name),
            slice_ms[name], f"bare network, {slice_ms['bare']}",
        )
        for name in ("ours", "channels last", "TorchScript", "ONNX Runtime")
    ]  # fmt: skip


def volume(*, folder: Path, features: tuple[int, ...], threads: int) -> list[Row]:
    """A 512x512x200 CT volume (.nii.gz) through an exported student's inference.json, from load to saved label."""
    network = _student(features)
    source = Source(Path(), network, lits.FACTS, {}, {}, "segmentation", SIZE, {}, 0)
    for part in ("configs", "models", "data/imagesTs"):
        (folder / part).mkdir(parents=True)
    (folder / "configs" / "inference.json").write_text(json.dumps(configs(source)["inference"]))
    torch.save(network.state_dict(), folder / "models" / "model.pt")
    scan = np.random.default_rng(0).normal(0, 300, (512, 512, 200)).astype(np.int16)
    nibabel.save(nibabel.Nifti1Image(scan, np.diag([0.8, 0.8, 1.5, 1])), folder / "data" / "imagesTs" / "scan.nii.gz")
    torch.set_num_threads(threads)
    file = str(folder / "configs" / "inference.json")
    workflow = ConfigWorkflow(file, workflow_type="infer", logging_file=False, bundle_root=str(folder))
    marks: dict[str, float] = {}
    start = time.perf_counter()
    workflow.initialize()
    evaluator = workflow.parser.get_parsed_content("evaluator")
    for name, event in {"loaded": Events.ITERATION_STARTED, "network": Events.ITERATION_COMPLETED}.items():
        evaluator.add_event_handler(event, lambda _, name=name: marks.setdefault(name, time.perf_counter()))
    workflow.run()
    total = time.perf_counter() - start
    torch.set_num_threads(1)
    image = torch.rand(SLICES, 1, SIZE, SIZE)
    torch.set_num_threads(threads)
    with torch.inference_mode():
        network(image)
        begun = time.perf_counter()
        for _ in range(-(-200 // SLICES)):
            network(image)
        bare = time.perf_counter() - begun
    torch.set_num_threads(1)
    steps = f"read and prepared {marks['loaded'] - start:.1f} s, network {marks['network'] - marks['loaded']:.1f} s"
    ours = f"{total:.1f} s from load to saved label ({steps})"
    name = f"512x512x200 CT, student {features[0]}..{features[4]}, {threads} threads"
    return [row(name, [total / bare], None, ours, f"network alone, {bare:.1f} s")]
