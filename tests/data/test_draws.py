# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pickle
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from monai.data.meta_obj import get_track_meta
from monai.engines import SupervisedTrainer
from PIL import Image
from torch.utils.data import DataLoader

from common.data.draws import EpochSampler, JointDraws, SliceDraws, StoredSlices
from common.data.facts import Facts
from common.data.store import SliceStore
from common.data.transforms import augmentation

TRAIN = [f"toy/p{i:02d}" for i in range(4)]  # 12 slices, 8 with foreground


@pytest.fixture
def store(tmp_path: Path, toy: Callable[..., Facts]) -> SliceStore:
    return SliceStore(tmp_path / "store", facts := toy(), facts.reader(tmp_path / "data" / "toy"), 16)


def draws(store: SliceStore, length: int = 12, seed: int = 0, **options) -> SliceDraws:
    return SliceDraws([(store, TRAIN)], length=length, seed=seed, **options)


def slices(store: SliceStore, cases: list[str]) -> dict[bytes, tuple[str, int]]:
    """Image content -> (case, slice), straight from the arrays."""
    found = {}
    for number, unit in enumerate(store.units):
        if unit.case in cases:
            for s, pair in enumerate(np.load(store.file(number))):
                found[pair[0].astype(np.float32).tobytes()] = (unit.case, s)
    return found


def drawn(dataset: SliceDraws, store: SliceStore, epoch: int, cases: list[str] = TRAIN) -> list[tuple[str, int]]:
    known = slices(store, cases)
    n = len(dataset)
    return [known[dataset[i]["image"].numpy().tobytes()] for i in range(epoch * n, (epoch + 1) * n)]


def equal(a: dict, b: dict) -> bool:
    return a.keys() == b.keys() and a["case"] == b["case"] and all(torch.equal(a[k], b[k]) for k in a if k != "case")


def test_few_files_are_open_and_another_process_opens_its_own(store: SliceStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """A dataset of images has as many units as patients, a system may allow a process 256 files."""

    def mapped() -> int:
        return sum(str(store.root) in line for line in Path("/proc/self/maps").read_text().splitlines())

    expected = [draws(store)[i] for i in range(24)]
    before = mapped()
    monkeypatch.setattr("common.data.draws.OPEN", 2)
    for dataset in (few := draws(store), validation := StoredSlices(store, TRAIN)):
        assert len({dataset[i]["case"] for i in range(len(dataset))}) == 4
    assert mapped() - before <= 4
    assert all(equal(few[i], item) for i, item in enumerate(expected))
    copied = pickle.loads(sent := pickle.dumps((few, validation)))
    assert len(sent) < 10000  # file names, no arrays
    assert all(equal(copied[0][i], item) for i, item in enumerate(expected))
    assert all(equal(copied[1][i], validation[i]) for i in range(len(validation)))


def test_an_item_is_a_stored_slice_with_its_label_and_case(store: SliceStore) -> None:
    item = draws(store)[5]
    case, s = slices(store, TRAIN)[item["image"].numpy().tobytes()]
    pair = np.load(store.file(TRAIN.index(case)))[s]
    assert item["case"] == case
    assert item["image"].shape == item["label"].shape == (1, 16, 16)
    assert item["image"].dtype == item["label"].dtype == torch.float32
    np.testing.assert_array_equal(item["label"][0], pair[1])


def test_an_item_is_a_function_of_seed_epoch_and_index(store: SliceStore) -> None:
    def new(seed: int = 3, stream: int = 0) -> SliceDraws:
        return draws(store, 10, seed, augment=augmentation(), stream=stream)

    indices = [17, 3, 25, 17, 12, 0, 39]
    torch.manual_seed(0)
    np.random.seed(0)
    dataset = new()
    first = [dataset[i] for i in indices]
    torch.manual_seed(1)
    np.random.seed(1)
    assert all(equal(new()[i], item) for i, item in zip(indices, first, strict=True))
    assert equal(first[0], first[3])
    for other in (new(seed=4), new(stream=1)):
        assert not any(equal(other[i], item) for i, item in zip(indices, first, strict=True))
    assert not any(equal(new()[i + 10], new()[i]) for i in range(10))


def test_workers_draw_the_same(store: SliceStore) -> None:
    dataset = draws(store, 12, augment=augmentation())
    sampler = EpochSampler(dataset)
    sampler.set_epoch(2)
    alone, shared = (list(DataLoader(dataset, 4, sampler=sampler, num_workers=n)) for n in (0, 2))
    assert len(alone) == len(shared) == 3
    assert all(equal(a, b) for a, b in zip(alone, shared, strict=True))


def test_no_slice_comes_twice_before_every_one_came_once(store: SliceStore) -> None:
    once = draws(store, 12, foreground_share=0.0)
    for epoch in (0, 1, 7):
        assert Counter(drawn(once, store, epoch)) == Counter(slices(store, TRAIN).values())
    assert drawn(once, store, 0) != drawn(once, store, 1)
    often = Counter(drawn(draws(store, 30, foreground_share=0.0), store, 0))
    assert len(often) == 12 and set(often.values()) == {2, 3}
    few = Counter(drawn(draws(store, 5, foreground_share=0.0), store, 0))
    assert set(few.values()) == {1}


def test_the_foreground_share_is_drawn_from_slices_with_foreground(store: SliceStore) -> None:
    # a patient's slice 0 has none: 8 of 12 have
    everything = Counter(number > 0 for _, number in drawn(draws(store, 24, foreground_share=1.0), store, 1))
    assert everything == {True: 24}
    half = Counter(drawn(draws(store, 24, foreground_share=0.5), store, 1))
    # a pass and a half over the 8, and one over all 12
    assert all(count == 1 if number == 0 else count in (2, 3) for (_, number), count in half.items())
    assert len(half) == 12 and sum(half.values()) == 24


def test_without_foreground_anywhere_all_slices_are_drawn(tmp_path: Path, toy: Callable[..., Facts]) -> None:
    facts = toy("toy", images=1)
    store = SliceStore(tmp_path / "store", facts, facts.reader(tmp_path / "data" / "toy"), 16)
    assert Counter(drawn(draws(store, 4), store, 0)) == Counter(slices(store, TRAIN).values())


def test_pooled_stores_are_one_pool(tmp_path: Path, toy: Callable[..., Facts]) -> None:
    parts = []
    for name in ("toy", "more"):
        facts = toy(name)
        items = facts.reader(tmp_path / "data" / name)
        parts.append((SliceStore(tmp_path / "store", facts, items, 16), [f"{name}/p00", f"{name}/p05"]))
    dataset = SliceDraws(parts, length=12, seed=0, foreground_share=0.0)
    assert Counter(dataset[i]["case"] for i in range(12)) == {case: 3 for _, cases in parts for case in cases}


def test_an_unlabelled_stream_has_no_label_and_does_not_depend_on_any(tmp_path: Path, toy) -> None:
    facts = toy()
    items = facts.reader(tmp_path / "data" / "toy")

    def stream() -> list[dict]:
        store = SliceStore(tmp_path / "store", facts, items, 16)
        dataset = draws(store, labelled=False, foreground_share=0.0, augment=augmentation())
        return [dataset[i] for i in range(24)]

    before = stream()
    assert all(item.keys() == {"image", "case"} for item in before)
    for item in items:
        label = np.asarray(Image.open(item["label"]))
        Image.fromarray(7 - label if label.any() else label + np.uint8(7)).save(item["label"])
    assert all(equal(a, b) for a, b in zip(before, stream(), strict=True))
    for item in items:
        item["label"] = None
    assert all(equal(a, b) for a, b in zip(before, stream(), strict=True))


def test_unlabelled_cases_are_drawn_only_without_labels(tmp_path: Path, toy: Callable[..., Facts]) -> None:
    facts = toy(unlabelled=4)
    store = SliceStore(tmp_path / "store", facts, facts.reader(tmp_path / "data" / "toy"), 16)
    labelled = draws(store, 40)
    assert {labelled[i]["case"] for i in range(40)} == {"toy/p00", "toy/p01"}
    free = draws(store, 40, labelled=False, foreground_share=0.0)
    assert {free[i]["case"] for i in range(40)} == set(TRAIN)
    with pytest.raises(ValueError, match="no labelled slice to draw from toy"):
        SliceDraws([(store, ["toy/p04"])], length=4, seed=0)


def test_drawing_leaves_the_tracking_of_metadata_as_it_was(store: SliceStore) -> None:
    item = draws(store, augment=augmentation())[0]
    assert get_track_meta()
    assert type(item["image"]) is torch.Tensor


def test_streams_side_by_side_are_equally_long_and_each_is_its_own(store: SliceStore) -> None:
    one, two = draws(store, 30, stream=0), draws(store, 30, stream=1)
    joint = JointDraws({"a": one, "b": two})
    assert len(joint) == 30
    assert all(equal(joint[i]["a"], one[i]) and equal(joint[i]["b"], two[i]) for i in (0, 29, 65))
    with pytest.raises(ValueError, match=r"equally often, got \{'a': 30, 'b': 20\}"):
        JointDraws({"a": one, "b": draws(store, 20)})


def test_every_stored_slice_of_some_cases_comes_in_order(tmp_path: Path, toy: Callable[..., Facts]) -> None:
    facts = toy(unlabelled=1)
    store = SliceStore(tmp_path / "store", facts, facts.reader(tmp_path / "data" / "toy"), 16)
    found = StoredSlices(store, ["toy/p05", "toy/p03", "toy/p01"])  # p05 has no labels
    assert [item["case"] for item in found] == ["toy/p01"] * 3 + ["toy/p03"] * 3
    for item, pair in zip(found, [*np.load(store.file(1)), *np.load(store.file(3))], strict=True):
        np.testing.assert_array_equal(torch.cat([item["image"], item["label"]]), pair)
    with pytest.raises(ValueError, match="no labelled slice of toy to validate on"):
        StoredSlices(store, ["toy/p05"])


@pytest.mark.parametrize("ranks", [2, 3])
def test_ranks_share_the_batches_of_one_process(monkeypatch: pytest.MonkeyPatch, ranks: int) -> None:
    dataset = list(range(24))

    def batches(rank: int | None) -> list[list[int]]:
        monkeypatch.setattr(torch.distributed, "is_initialized", lambda: rank is not None)
        monkeypatch.setattr(torch.distributed, "get_world_size", lambda: ranks)
        monkeypatch.setattr(torch.distributed, "get_rank", lambda: rank)
        sampler = EpochSampler(dataset)
        sampler.set_epoch(3)
        size = 6 if rank is None else 6 // ranks
        order = list(sampler)
        assert len(order) == len(sampler)
        return [order[i : i + size] for i in range(0, len(order), size)]

    single = batches(None)
    assert single == [list(range(48 + i, 54 + i)) for i in range(0, 24, 6)]  # the third epoch
    shared = [batches(rank) for rank in range(ranks)]
    assert [sorted(index for part in parts for index in part) for parts in zip(*shared, strict=True)] == single


def test_the_stock_trainer_walks_through_the_epochs() -> None:
    class Indices(torch.utils.data.Dataset):
        def __len__(self) -> int:
            return 6

        def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
            return {"image": torch.tensor([float(index)]), "label": torch.zeros(1)}

    seen: list[int] = []
    network = torch.nn.Linear(1, 1)

    def remember(batch: dict[str, torch.Tensor], *_) -> tuple[torch.Tensor, torch.Tensor]:
        seen.extend(batch["image"][:, 0].int().tolist())
        return batch["image"], batch["label"]

    dataset = Indices()
    SupervisedTrainer(
        device=torch.device("cpu"),
        max_epochs=3,
        train_data_loader=DataLoader(dataset, batch_size=2, sampler=EpochSampler(dataset)),
        network=network,
        optimizer=torch.optim.SGD(network.parameters(), 1e-9),
        loss_function=torch.nn.MSELoss(),
        prepare_batch=remember,
        decollate=False,
    ).run()
    assert seen == list(range(18))


def test_slices_to_classify_come_with_their_class_and_all_alike(tmp_path: Path, toy_classes: Callable[..., Facts]) -> None:
    facts = toy_classes(patients=6, images=3, unlabelled=1)
    store = SliceStore(tmp_path / "store", facts, facts.reader(tmp_path / "data" / "toy"), 16)
    known = {
        array[0].astype(np.float32).tobytes(): (unit.case, s, unit.labels[s])
        for n, unit in enumerate(store.units)
        if unit.labelled
        for s, array in enumerate(np.load(store.file(n)))
    }
    for foreground_share in (0.0, 0.5):  # which has no meaning here
        dataset = SliceDraws([(store, store.cases)], length=15, seed=0, foreground_share=foreground_share)
        items = [dataset[i] for i in range(15)]
        found = [known[item["image"].numpy().tobytes()] for item in items]
        assert sorted(found) == sorted(known.values())
        assert [int(item["label"]) for item in items] == [label for _, _, label in found]
        assert all(item["label"].dtype == torch.long and item["label"].ndim == 0 for item in items)
        assert [item["case"] for item in items] == [case for case, _, _ in found]
    batch = next(iter(DataLoader(dataset, batch_size=5)))
    assert batch["image"].shape == (5, 1, 16, 16) and batch["label"].shape == (5,) and batch["label"].dtype == torch.long
    validation = StoredSlices(store, ["toy/p05", "toy/p00", "toy/p01"])
    assert [(item["case"], int(item["label"])) for item in validation] == [
        (f"toy/p{p:02d}", label) for p, labels in ((0, (1, 1, 0)), (1, (0, 0, 0))) for label in labels
    ]
    free = SliceDraws([(store, store.cases)], length=18, seed=0, labelled=False, augment=augmentation(task="classification"))
    assert {free[i]["case"] for i in range(18)} == set(store.cases)
    assert all(free[i].keys() == {"image", "case"} for i in range(18))


def test_augmentation_leaves_a_class_as_it_is(tmp_path: Path, toy_classes: Callable[..., Facts]) -> None:
    facts = toy_classes(patients=6)
    store = SliceStore(tmp_path / "store", facts, facts.reader(tmp_path / "data" / "toy"), 16)
    augment = augmentation(task="classification", upright=True)
    plain, changed = (SliceDraws([(store, store.cases)], length=24, seed=5, augment=a) for a in (None, augment))
    pairs = [(plain[i], changed[i]) for i in range(24)]
    assert all(torch.equal(a["label"], b["label"]) and a["case"] == b["case"] for a, b in pairs)
    assert sum(not torch.equal(a["image"], b["image"]) for a, b in pairs) > 12
