# SPDX-License-Identifier: Apache-2.0
"""Measure what the project promises about time and memory, as ratios: python scripts/bench.py [--out FILE.md]."""

from __future__ import annotations

import json
import multiprocessing
import os
import platform
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path
from typing import Any

import monai
import torch
from bench_timing import Row, alternate, divide, row, stepper, table, took
from monai.data import CacheDataset
from monai.data import Dataset as ReadingDataset
from monai.engines import SupervisedTrainer
from monai.losses import DiceCELoss
from monai.transforms import Compose, Lambda, LoadImaged, MapLabelValued, Orientationd, Resized, ScaleIntensityRanged
from torch.utils.data import DataLoader

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import bench_classification
from bench_deploy import formats, volume

from common.command_line import command
from common.data import lits, msd_lung
from common.data.draws import EpochSampler, SliceDraws
from common.data.facts import Facts, Item
from common.data.store import SliceStore
from common.data.transforms import augmentation, label_map, preprocessing
from common.distillation import DistillationLoss, TeacherStudent
from common.losses import Align, Contrastive, Cosine
from common.networks import JointTeacher, UNet
from common.phantoms.layouts import write_dataset

Widths = tuple[int, ...]  # channels of the five levels and of the last decoder block
SMALL: Widths = (8, 16, 32, 64, 64, 8)  # the CPU study's student; its teacher is twice as wide
PAPER: Widths = (32, 64, 128, 256, 512, 32)  # the paper's student
BATCH = 8


def unet(features: Widths) -> UNet:
    return UNet(features=features).to(memory_format=torch.channels_last)


def task_loss() -> DiceCELoss:
    """As the recipes have it."""
    return DiceCELoss(include_background=False, to_onehot_y=True, softmax=True)


def images(size: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(BATCH, 1, size, size, generator=generator)
    return image, (image > 0.9).float()


def stage3(*, features: Widths = SMALL, size: int = 128, repeats: int = 15) -> list[Row]:
    """A step of distillation with the paper's three terms on all levels against its parts done by hand.

    The parts are a step of the student alone and a forward of the teacher: the whole network (the promise), and, stricter,
    its encoder only, which is what distillation from levels runs.
    """
    teacher = tuple(2 * width for width in features)
    terms = {"contrastive": Contrastive(), "align": Align(), "cosine": Cosine()}
    weights = {"contrastive": 0.5, "align": 0.3, "cosine": 0.1}
    loss = DistillationLoss(task=task_loss(), terms=terms, weights=weights)
    loss.cf = 1.0  # the curriculum's end
    module = TeacherStudent(unet(features), unet(teacher)).to(memory_format=torch.channels_last)
    frozen, (image, _) = unet(teacher).eval(), images(size)
    seconds = alternate(
        {
            "distill": stepper(module, loss, *images(size)),
            "student": stepper(unet(features), task_loss(), *images(size)),
            "teacher": torch.no_grad()(lambda: frozen(image)),
            "encoder": torch.no_grad()(lambda: frozen.encode(image)),
        },
        repeats,
    )
    full = [a + b for a, b in zip(seconds["student"], seconds["teacher"], strict=True)]
    half = [a + b for a, b in zip(seconds["student"], seconds["encoder"], strict=True)]
    name = f"stage 3 step, student {features[0]}..{features[4]}, teacher {teacher[0]}..{teacher[4]}"
    ours = took(seconds["distill"])
    first = row(name, divide(seconds["distill"], full), ("at most", 1.05), ours, f"student step + teacher {took(full)}")
    second = row(name, divide(seconds["distill"], half), None, ours, f"student step + teacher's encoder {took(half)}")
    return [first, second]


def stage2(*, features: Widths = SMALL, size: int = 128, repeats: int = 15) -> list[Row]:
    """A step of the joint teacher of three teachers of the student's width, all levels fused, against the student's step."""
    joint = JointTeacher([unet(features) for _ in range(3)], 2).to(memory_format=torch.channels_last)
    arms = {"joint": stepper(joint, task_loss(), *images(size)), "student": stepper(unet(features), task_loss(), *images(size))}
    seconds = alternate(arms, repeats)
    ratios = divide(seconds["joint"], seconds["student"])
    name = f"stage 2 step, three teachers and student {features[0]}..{features[4]}"
    other = f"student step {took(seconds['student'])}"
    return [row(name, ratios, ("at most", 2.0), took(seconds["joint"]), other)]


def serve(loader: Iterable[Any]) -> int:
    """Go through a loader; the number of slices it served."""
    return sum(len(batch["image"]) for batch in loader)


def read_slices(items: Sequence[Item], facts: Facts, size: int, number: int) -> ReadingDataset:
    """`number` random slices, each read from its NIfTI files by MONAI's stock transforms.

    The slice is cut out as early as it can be, so that only reading and turning cost a whole volume.
    """
    assert facts.window is not None and facts.orientation is not None
    generator = torch.Generator().manual_seed(0)
    keys = ["image", "label"]

    def cut(data: dict[str, Any]) -> dict[str, Any]:
        place = int(data["place"] * data["image"].shape[-1])
        return {key: data[key][..., place] for key in keys}

    steps = [
        LoadImaged(keys, ensure_channel_first=True),
        Orientationd(keys, axcodes=facts.orientation),
        Lambda(cut),
        MapLabelValued("label", *label_map(facts)),
        ScaleIntensityRanged("image", *facts.window, b_min=0.0, b_max=1.0, clip=True),
        Resized(keys, spatial_size=[size, size], mode=["bilinear", "nearest"]),
    ]
    chosen = torch.randint(len(items), (number,), generator=generator).tolist()
    places = torch.rand(number, generator=generator).tolist()
    return ReadingDataset([{**items[i], "place": p} for i, p in zip(chosen, places, strict=True)], Compose(steps))


def store(*, folder: Path, volumes: int = 2, size: int = 256, slices: int = 100, repeats: int = 15) -> list[Row]:
    """Slices a second from the slice store against MONAI's CacheDataset in memory, and against reading the files.

    Batches of 8 from a DataLoader without workers. The cache holds preprocessed slices as MONAI's transforms leave them
    (MetaTensors), with no transform left to run, and, stricter, the same with the metadata stripped, the fastest it can be.
    For information also: store and cache with the training's augmentation, which is what training is served.
    """
    root = write_dataset("msd_lung", folder, cases=volumes, size=size, slices=slices, seed=0)
    facts, items = msd_lung.FACTS, msd_lung.cases(root)
    source = SliceStore(folder / "store", facts, items, size)
    length = volumes * slices // BATCH * BATCH
    volumes_read = [preprocessing(facts, size)(dict(item)) for item in items]
    tracked = [
        {"image": volume["image"][..., place], "label": volume["label"][..., place], "case": volume["case"]}
        for volume in volumes_read
        for place in range(slices)
    ]
    tracked = [{key: value.clone() if key != "case" else value for key, value in item.items()} for item in tracked]
    plain = [{key: value.as_tensor() if key != "case" else value for key, value in item.items()} for item in tracked]

    def ours(augment: Compose | None) -> Callable[[], int]:
        draws = SliceDraws([(source, source.cases)], length=length, seed=0, augment=augment)
        sampler = EpochSampler(draws)
        loader = DataLoader(draws, batch_size=BATCH, sampler=sampler)
        epochs = iter(range(1, 10**6))

        def run() -> int:
            sampler.set_epoch(next(epochs))
            return serve(loader)

        return run

    def cache(data: list[dict[str, Any]], augment: Compose | None) -> Callable[[], int]:
        cached = CacheDataset(data, transform=augment or Compose([]), progress=False)
        loader = monai.data.DataLoader(cached, batch_size=BATCH, shuffle=True, drop_last=True)
        return lambda: serve(loader)

    arms = {
        "store": ours(None),
        "cache": cache(tracked, None),
        "plain cache": cache(plain, None),
        "store augmented": ours(augmentation()),
        "cache augmented": cache(tracked, augmentation()),
    }
    seconds = alternate(arms, repeats)
    reading = DataLoader(read_slices(items, facts, size, BATCH), batch_size=BATCH)
    read = alternate({"store": arms["store"], "files": lambda: serve(reading)}, max(1, repeats // 5))

    def speed(values: Sequence[float], number: int = length) -> str:
        return f"{number / statistics.median(values):,.0f} slices/s"

    def compare(name: str, first: str, second: str, target: tuple[str, float] | None, what: str) -> Row:
        ratios = divide(seconds[second], seconds[first])
        return row(name, ratios, target, speed(seconds[first]), f"{what} {speed(seconds[second])}")

    files = [length / BATCH * ratio for ratio in divide(read["files"], read["store"])]
    name = f"slice store, {size}x{size}"
    return [
        compare(name, "store", "cache", ("at least", 0.8), "CacheDataset in memory"),
        compare(name, "store", "plain cache", ("at least", 0.8), "CacheDataset in memory, metadata stripped"),
        compare(f"{name}, augmented", "store augmented", "cache augmented", None, "CacheDataset in memory, augmented"),
        row(name, files, ("at least", 50), speed(read["store"]), f"each slice from its {size}x{size}x{slices} .nii.gz "
            f"{speed(read['files'], BATCH)}"),
    ]  # fmt: skip


def anonymous() -> int:
    """Bytes of this process's memory that no file backs (Linux)."""
    rollup = Path("/proc/self/smaps_rollup")
    if not rollup.exists():
        raise FileNotFoundError(f"{rollup} does not exist: the memory benchmark needs Linux; use --only stage3,stage2,store.")
    lines = [line.split() for line in rollup.read_text().splitlines()]
    return next(1024 * int(words[1]) for words in lines if words[0] == "Anonymous:")


def train_and_weigh(folder: Path, volumes: int, size: int, steps: int) -> tuple[int, int]:
    """Anonymous memory in bytes after `steps` training steps on the first `volumes` of a store, and the slices drawn from."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    source = SliceStore(folder / "store", lits.FACTS, lits.cases(folder / "lits")[:volumes], size)
    draws = SliceDraws([(source, source.cases)], length=steps * BATCH, seed=0, augment=augmentation())
    network = unet(SMALL)
    SupervisedTrainer(
        device=torch.device("cpu"),
        max_epochs=1,
        train_data_loader=DataLoader(draws, batch_size=BATCH, sampler=EpochSampler(draws)),
        network=network,
        optimizer=torch.optim.Adam(network.parameters(), lr=1e-3),
        loss_function=task_loss(),
        decollate=False,
    ).run()
    return anonymous(), sum(unit.shape[0] for unit in source.units)


def in_own_process(function: Callable[..., Any], *arguments: Any) -> Any:
    """What `function` returns in a fresh process that ends with it."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def memory(
    *, folder: Path, volumes: Sequence[int] = (50, 500), size: int = 128, slices: int = 24, steps: int = 100
) -> list[Row]:
    """Anonymous memory of a training process of its own over a store of many volumes against one over a store of few."""
    root = write_dataset("lits", folder, cases=max(volumes), size=size, slices=slices, seed=0)
    _ = SliceStore(folder / "store", lits.FACTS, lits.cases(root), size).units  # built here, so that it costs no child memory
    weighed = [in_own_process(train_and_weigh, folder, number, size, steps) for number in volumes]
    rows = []
    for (few, many), ((less, _), (more, drawn)) in zip(pairwise(volumes), pairwise(weighed), strict=True):
        name = f"anonymous memory after {steps} training steps, {many} volumes ({drawn} slices)"
        texts = f"{more / 2**20:.0f} MiB", f"{few} volumes {less / 2**20:.0f} MiB"
        rows.append(row(name, [more / less], ("at most", 1.05), *texts))
    return rows


def machine() -> str:
    """What the figures were measured on, and how busy it was."""
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    versions = f"Python {platform.python_version()}, torch {torch.__version__}, MONAI {monai.__version__}"
    return f"{os.cpu_count()} cores ({platform.machine()}), load average {load}; one thread; {versions}"


def bench(
    *,
    only: str = "stage3,stage2,store,memory,deployed,classification",
    out: str = "",
    repeats: int = 15,
) -> None:
    """Run the benchmarks, print a Markdown table.

    Args:
        only: which benchmarks, separated by commas.
        out: also write the table to this .md file, or the rows to this .json file.
        repeats: repetitions of an arm; a third of it at the paper's widths.
    """
    names = only.split(",")
    few = max(1, repeats // 3)
    jobs: dict[str, list[Callable[[Path], list[Row]]]] = {
        "stage3": [
            lambda _: stage3(repeats=repeats),
            lambda _: stage3(features=PAPER, repeats=few),
        ],
        "stage2": [
            lambda _: stage2(repeats=repeats),
            lambda _: stage2(features=PAPER, repeats=few),
        ],
        "store": [lambda folder: store(folder=folder, repeats=repeats)],
        "memory": [lambda folder: memory(folder=folder)],
        "classification": [
            lambda _: bench_classification.stage2(repeats=repeats),
            lambda _: bench_classification.stage3(repeats=repeats),
        ],
        "deployed": [
            lambda folder: formats(folder=folder, features=SMALL, repeats=repeats),
            lambda folder: formats(folder=folder, features=PAPER, repeats=few),
            lambda folder: volume(folder=folder, features=PAPER, threads=os.cpu_count() or 1),
        ],
    }
    unknown = [name for name in names if name not in jobs]
    if unknown:
        raise ValueError(f"only: {', '.join(unknown)} is no benchmark; there are {', '.join(jobs)}.")
    if out and Path(out).suffix not in (".md", ".json"):
        raise ValueError(f"out: {out} must end in .md or .json.")
    torch.set_num_threads(1)
    torch.manual_seed(0)
    before, rows = machine(), []
    for name in names:
        for job in jobs[name]:
            print(f"{name} ...", file=sys.stderr, flush=True)
            with tempfile.TemporaryDirectory() as folder:
                found = job(Path(folder))
            rows += found
            print(table(found).split("\n", 2)[2], file=sys.stderr, flush=True)
    text = f"{table(rows)}\n\nMeasured on {before}."
    print(text)
    if out:
        content = {"machine": before, "rows": [asdict(r) for r in rows]}
        Path(out).write_text(json.dumps(content, indent=1) if out.endswith(".json") else text + "\n")


if __name__ == "__main__":
    try:
        command(bench)
    except (ValueError, OSError) as error:
        sys.exit(f"bench: {error}")
