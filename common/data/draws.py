# SPDX-License-Identifier: Apache-2.0
"""Training slices drawn at random, as a function of (seed, epoch, index) only, which is what makes resume exact."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.data.meta_obj import get_track_meta, set_track_meta
from monai.transforms import Compose, Randomizable
from torch.utils.data import Dataset, DistributedSampler

from .store import SliceStore

__all__ = ["EpochSampler", "JointDraws", "SliceDraws", "StoredSlices"]

OPEN = 64  # arrays a dataset keeps mapped: a system may allow 256 open files
UNLABELLED = -1  # never seen: draws from unlabelled units drop the label


class _Arrays:
    """Memory-mapped arrays of units as tensors, which must not be written to.

    `OPEN` of them at a time, since each holds a file descriptor; a worker process, forked or spawned, opens its own.
    """

    def __init__(self) -> None:
        self._files: list[Path] = []
        self._open: dict[int, torch.Tensor] = {}

    def __len__(self) -> int:
        return len(self._files)

    def append(self, file: Path) -> None:
        self._files.append(file)

    def __getitem__(self, index: int) -> torch.Tensor:
        if index not in self._open:
            if len(self._open) == OPEN:
                del self._open[next(iter(self._open))]
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", "The given NumPy array is not writable")
                self._open[index] = torch.from_numpy(np.load(self._files[index], mmap_mode="r"))
        return self._open[index]

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_open": {}}


def _sample(slices: torch.Tensor, labels: Sequence[int], index: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Image and label of a slice; the label is its second channel, or its class of `labels` where it has but one."""
    pair = slices[index].float()  # a copy; NumPy takes ten times as long to widen float16
    if len(pair) == 2:
        return pair[:1], pair[1:]
    return pair, torch.tensor(labels[index] if labels else UNLABELLED)


class SliceDraws(Dataset):
    """`length` random slices an epoch out of one or several stores.

    An epoch's draws are a share of slices with foreground and a rest from all slices, each a run of shuffled passes, so that no
    slice comes twice before every one came once. Index `epoch * length + i` is the i-th draw of an epoch. Slices to classify
    have no foreground and are drawn alike.

    Args:
        parts: (store, cases) pairs; more than one is pooled training.
        length: draws an epoch (`epoch_length * batch_size`).
        seed: the run's seed.
        foreground_share: share of draws from slices with foreground; 0 reads no label to choose.
        labelled: False drops the label, so that nothing can read it.
        augment: transforms of a slice, or None.
        stream: number that separates the draws of several streams of one run.

    Returns items `{"image": (1, H, W), "label": (1, H, W), "case": str}`, float32; in classification the label is the class
    index, a 0-dim long tensor.
    """

    def __init__(
        self,
        parts: Sequence[tuple[SliceStore, Collection[str]]],
        *,
        length: int,
        seed: int,
        foreground_share: float = 0.5,
        labelled: bool = True,
        augment: Compose | None = None,
        stream: int = 0,
    ) -> None:
        slices: list[tuple[int, int]] = []
        foreground: list[bool] = []
        self._arrays = _Arrays()
        self._labels: list[tuple[int, ...]] = []
        self._cases: list[str] = []
        for store, cases in parts:
            wanted = set(cases)
            for number, unit in enumerate(store.units):
                if unit.case not in wanted or (labelled and not unit.labelled):
                    continue
                slices += [(len(self._arrays), s) for s in range(unit.shape[0])]
                foreground += unit.foreground
                self._arrays.append(store.file(number))
                self._labels.append(unit.labels)
                self._cases.append(unit.case)
        if not 0 <= foreground_share <= 1:
            raise ValueError(f"foreground_share: {foreground_share}; give a share from 0 to 1.")
        if not slices:
            names = ", ".join(store.facts.name for store, _ in parts)
            raise ValueError(f"no {'labelled ' if labelled else ''}slice to draw from {names}; check the split and the labels.")
        self._slices = np.array(slices)
        self._foreground = np.flatnonzero(foreground) if foreground_share > 0 else np.empty(0, dtype=int)
        self._share = foreground_share if len(self._foreground) else 0.0
        self._key = (seed, stream)
        self._labelled, self._augment = labelled, augment
        self._random = np.random.RandomState()
        self._epoch = -1
        self.length = length

    def _plan(self, epoch: int) -> np.ndarray:
        if epoch != self._epoch:
            rng = np.random.default_rng([*self._key, epoch])

            def passes(pool: np.ndarray, n: int) -> np.ndarray:
                return np.concatenate([rng.permutation(pool) for _ in range(-(-n // len(pool)))])[:n]

            n = round(self._share * self.length)
            chosen = [passes(self._foreground, n)] if n else []
            chosen += [passes(np.arange(len(self._slices)), self.length - n)] if n < self.length else []
            self._draws = rng.permutation(np.concatenate(chosen))
            self._epoch = epoch
        return self._draws

    def _seed_augmentation(self, epoch: int, i: int) -> None:
        """One generator for all transforms: `Compose.set_random_state` builds one for each, which takes half of the time."""
        assert self._augment is not None
        self._random.seed(int(np.random.SeedSequence([*self._key, epoch, i]).generate_state(1)[0]))
        for transform in self._augment.transforms:
            if isinstance(transform, Randomizable):
                transform.set_random_state(state=self._random)

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> dict[str, Any]:
        epoch, i = divmod(int(index), self.length)
        unit, number = self._slices[self._plan(epoch)[i]]
        image, label = _sample(self._arrays[unit], self._labels[unit], number)
        data: dict[str, Any] = {"image": image, "label": label}
        if self._augment is not None:
            self._seed_augmentation(epoch, i)
            tracking = get_track_meta()
            set_track_meta(False)  # stored slices carry no geometry, and plain tensors are several times faster
            try:
                data = self._augment(data)
            finally:
                set_track_meta(tracking)
        if not self._labelled:
            del data["label"]
        return data | {"case": self._cases[unit]}


class JointDraws(Dataset):
    """Several streams side by side: item i is `{name: stream[i]}`; each stream starts over when it is through its slices."""

    def __init__(self, streams: Mapping[str, SliceDraws]) -> None:
        lengths = {name: len(stream) for name, stream in streams.items()}
        if len(set(lengths.values())) != 1:
            raise ValueError(f"streams must draw equally often, got {lengths}.")
        self.streams = dict(streams)

    def __len__(self) -> int:
        return len(next(iter(self.streams.values())))

    def __getitem__(self, index: int) -> dict[str, dict[str, Any]]:
        return {name: stream[index] for name, stream in self.streams.items()}


class StoredSlices(Dataset):
    """Every stored slice of some cases, in order, for the validation of each epoch."""

    def __init__(self, store: SliceStore, cases: Collection[str]) -> None:
        wanted = set(cases)
        self._arrays = _Arrays()
        self._items: list[tuple[int, tuple[int, ...], int, str]] = []
        for number, unit in enumerate(store.units):
            if unit.case in wanted and unit.labelled:
                self._items += [(len(self._arrays), unit.labels, s, unit.case) for s in range(unit.shape[0])]
                self._arrays.append(store.file(number))
        if not self._items:
            raise ValueError(f"no labelled slice of {store.facts.name} to validate on; check the split.")

    def __len__(self) -> int:
        return len(self._items)

    def __getitem__(self, index: int) -> dict[str, Any]:
        unit, labels, number, case = self._items[index]
        image, label = _sample(self._arrays[unit], labels, number)
        return {"image": image, "label": label, "case": case}


class EpochSampler(DistributedSampler):
    """Index `epoch * len(dataset) + i` in order, dealt out to the ranks, so that a dataset knows epoch and position.

    A `DistributedSampler` because MONAI's engines call `set_epoch` on those at every epoch's start (1-based there).
    """

    def __init__(self, dataset: Dataset) -> None:
        ready = torch.distributed.is_available() and torch.distributed.is_initialized()
        ranks = torch.distributed.get_world_size() if ready else 1
        rank = torch.distributed.get_rank() if ready else 0
        super().__init__(dataset, num_replicas=ranks, rank=rank, shuffle=False, drop_last=True)
        self.epoch = 1

    def __iter__(self) -> Iterator[int]:
        n = len(self.dataset)  # type: ignore[arg-type]  # every dataset here is sized
        start = (self.epoch - 1) * n
        return iter(range(start + self.rank, start + n - n % self.num_replicas, self.num_replicas))
