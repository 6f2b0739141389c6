# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import multiprocessing
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from monai.transforms import (
    Compose,
    LoadImaged,
    Orientationd,
    Resized,
    ScaleIntensityRanged,
    ScaleIntensityRangePercentilesd,
)

from common.data import store as store_module
from common.data.facts import Facts, Item
from common.data.store import SliceStore

VOLUMES = Facts(
    name="vols",
    reader=list,
    classes={"tumour": (2,), "organ": (1, 4)},
    label_values=(0, 1, 2, 4),
    window=(-100.0, 200.0),
    orientation="RAS",
    slice_axis=1,
)


def build(tmp_path: Path, facts: Facts, size: int = 16, items: list[Item] | None = None) -> SliceStore:
    store = SliceStore(tmp_path / "store", facts, items or facts.reader(tmp_path / "data" / facts.name), size)
    assert store.units
    return store


def arrays(store: SliceStore) -> list[np.ndarray]:
    return [np.load(store.file(i)) for i in range(len(store.units))]


def same(a: SliceStore, b: SliceStore) -> bool:
    return all(np.array_equal(x, y) for x, y in zip(arrays(a), arrays(b), strict=True)) and a.units == b.units


def stamps(store: SliceStore) -> dict[str, int]:
    """Which file is which: a replaced one is another inode."""
    return {path.name: path.stat().st_ino for path in store.folder.iterdir()}


@pytest.fixture
def volumes(tmp_path: Path) -> list[Item]:
    """Three NIfTI volumes of two patients, stored left-posterior-superior, with three axis lengths."""
    rng, items = np.random.default_rng(0), []
    for case, volume in (("vols/p1", "a"), ("vols/p1", "b"), ("vols/p 2", "a")):
        affine = np.diag([-1.0, -2.0, 3.0, 1.0])
        stem = tmp_path / f"{case.split('/')[1]}{volume}"
        label = rng.choice([0, 1, 2, 4], (10, 7, 8)).astype(np.int16)
        label[:, 2] = 0
        for name, array in (("i", rng.normal(50, 120, (10, 7, 8)).astype(np.float32)), ("m", label)):
            nibabel.save(nibabel.Nifti1Image(array, affine), f"{stem}{name}.nii.gz")
        items.append({"image": f"{stem}i.nii.gz", "label": f"{stem}m.nii.gz", "case": case, "volume": volume})
    return items


def test_volumes_are_stored_as_stock_transforms_make_them(tmp_path: Path, volumes: list[Item]) -> None:
    store = build(tmp_path, VOLUMES, 16, volumes[::-1])
    keys = ["image", "label"]
    stock = Compose(
        [
            LoadImaged(keys, ensure_channel_first=True),
            Orientationd(keys, axcodes="RAS", labels=None),
            ScaleIntensityRanged("image", -100, 200, 0, 1, clip=True),
            Resized(keys, spatial_size=[16, -1, 16], mode=["trilinear", "nearest"]),
        ]
    )
    order = sorted(volumes, key=lambda item: (item["case"], item["volume"]))
    assert [(u.case, u.volume, u.labelled) for u in store.units] == [(i["case"], i["volume"], True) for i in order]
    for item, array, unit in zip(order, arrays(store), store.units, strict=True):
        data = stock({key: item[key] for key in keys})
        raw = data["label"].numpy()
        index = np.select([raw == 2, (raw == 1) | (raw == 4)], [1, 2])
        expected = np.concatenate([data["image"].numpy(), index]).transpose(2, 0, 1, 3)
        assert array.dtype == np.float16 and array.shape == unit.shape == (7, 2, 16, 16)
        np.testing.assert_array_equal(array, expected.astype(np.float16))
        # the second voxel row of the file's flipped axis is the last but three: 7 - 1 - 2
        assert unit.foreground == tuple(s != 4 for s in range(7))


def test_images_are_stored_as_stock_transforms_make_them(tmp_path: Path, toy: Callable[..., Facts]) -> None:
    facts = toy(unlabelled=1)
    store = build(tmp_path, facts, 24)
    keys = ["image", "label"]
    stock = [
        LoadImaged(keys, ensure_channel_first=True, allow_missing_keys=True),
        ScaleIntensityRangePercentilesd("image", 1, 99, 0, 1, clip=True),
        Resized(keys, spatial_size=[24, 24], mode=["bilinear", "nearest"], allow_missing_keys=True),
    ]
    items = facts.reader(tmp_path / "data" / "toy")
    for number, (unit, array) in enumerate(zip(store.units, arrays(store), strict=True)):
        assert (unit.case, unit.labelled) == (f"toy/p{number:02d}", number < 5)
        assert unit.foreground == (False, number < 5, number < 5)
        for item, pair in zip([i for i in items if i["case"] == unit.case], array, strict=True):
            data = Compose(stock)({key: item[key] for key in keys if item[key]})
            np.testing.assert_array_equal(pair[0], data["image"][0].numpy().astype(np.float16))
            label = data["label"][0].numpy() == 7 if unit.labelled else np.zeros((24, 24))
            np.testing.assert_array_equal(pair[1], label)


def test_a_store_is_built_once(tmp_path: Path, toy: Callable[..., Facts], monkeypatch: pytest.MonkeyPatch) -> None:
    facts = toy()
    first = build(tmp_path, facts)
    monkeypatch.setattr(SliceStore, "_build", None)
    assert same(build(tmp_path, facts), first)


def test_data_that_moved_or_are_spelt_otherwise_are_the_same(tmp_path: Path, toy, monkeypatch: pytest.MonkeyPatch) -> None:
    facts = toy()
    built = SliceStore(tmp_path / "store", facts, facts.reader(tmp_path / "data" / "toy"), 16)
    first = built.units
    stamps = {path: path.stat().st_mtime_ns for path in built.folder.iterdir()}
    monkeypatch.chdir(tmp_path)
    relative = SliceStore("store", facts, facts.reader(Path("data/toy")), 16)
    assert relative.units == first
    (tmp_path / "data").rename(tmp_path / "moved")
    assert SliceStore(tmp_path / "store", facts, facts.reader(tmp_path / "moved" / "toy"), 16).units == first
    assert {path: path.stat().st_mtime_ns for path in built.folder.iterdir()} == stamps


def test_facts_by_case(tmp_path: Path, volumes: list[Item]) -> None:
    store = build(tmp_path, VOLUMES, 16, volumes)
    assert store.cases == ["vols/p 2", "vols/p1"]
    assert {case: len(digests) for case, digests in store.content().items()} == {"vols/p 2": 1, "vols/p1": 2}
    assert len({digest for digests in store.content().values() for digest in digests}) == 3
    assert store.foreground() == {"vols/p 2": True, "vols/p1": True}


def test_an_images_content_is_known_by_one_hash_whatever_is_made_of_it(tmp_path: Path, volumes: list[Item]) -> None:
    def content(size: int = 16, **changes) -> dict[str, list[str]]:
        return build(tmp_path, replace(VOLUMES, **changes), size, volumes).content()

    assert content() == content(8) == content(window=None, percentiles=(5.0, 95.0)) == content(name="other")
    image = nibabel.load(volumes[1]["image"])
    nibabel.save(nibabel.Nifti1Image(np.asarray(image.dataobj) * 0, image.affine), volumes[1]["image"])
    after = content()
    assert [len(after[case]) for case in ("vols/p 2", "vols/p1")] == [1, 1]  # a blank image is no one's copy


@pytest.mark.parametrize("change", ["time", "size"])
@pytest.mark.parametrize("name", ["p01_1.png", "mask_p01_1.png"])
def test_rebuilds_the_unit_whose_source_changed(tmp_path: Path, toy, change: str, name: str) -> None:
    facts = toy()
    first = build(tmp_path, facts)
    before, stats = stamps(first), (tmp_path / "data" / "toy" / name).stat()
    file = tmp_path / "data" / "toy" / name
    if change == "time":
        os.utime(file, ns=(stats.st_atime_ns, stats.st_mtime_ns + 1))
    else:  # bytes after the end of a PNG are not read
        file.write_bytes(file.read_bytes() + b"\0")
        os.utime(file, ns=(stats.st_atime_ns, stats.st_mtime_ns))
    again = build(tmp_path, facts)
    after = stamps(again)
    assert {key for key in before if before[key] != after[key]} == {"p01.json", "p01.npy"}
    assert all(np.array_equal(x, y) for x, y in zip(arrays(first), arrays(again), strict=True))


def test_a_source_that_is_gone_is_named(tmp_path: Path, toy: Callable[..., Facts]) -> None:
    facts = toy()
    build(tmp_path, facts)
    (tmp_path / "data" / "toy" / "p01_1.png").unlink()
    with pytest.raises(FileNotFoundError, match=r"p01_1\.png does not exist"):
        build(tmp_path, facts)


TEARS: dict[str, tuple[str, Callable[[bytes], bytes]]] = {
    "half an array": (".npy", lambda content: content[: len(content) // 2]),
    "an empty array": (".npy", lambda content: b""),
    "half a header": (".npy", lambda content: content[:9]),
    "another shape": (".npy", lambda content: content.replace(b"(3, 2, ", b"(6, 1, ")),
    "another type": (".npy", lambda content: content.replace(b"<f2", b"<i2")),
    "half a record": (".json", lambda content: content[: len(content) // 2]),
    "an empty record": (".json", lambda content: b""),
    "a record of something else": (".json", lambda content: b"[1]"),
    "a record without a field": (".json", lambda content: content.replace(b'"labelled"', b'"labeled"')),
}


@pytest.mark.parametrize("tear", TEARS)
def test_rebuilds_what_is_torn_and_nothing_else(tmp_path: Path, toy: Callable[..., Facts], tear: str) -> None:
    facts = toy()
    first = build(tmp_path, facts)
    expected, before = arrays(first), stamps(first)
    suffix, damage = TEARS[tear]
    torn = first.folder / f"p02{suffix}"
    content = torn.read_bytes()
    assert damage(content) != content
    torn.rename(tmp_path / "kept")  # the arrays of `first` are mapped, and an inode in use is given to no other file
    torn.write_bytes(damage(content))
    again = build(tmp_path, facts)
    assert all(np.array_equal(x, y) for x, y in zip(arrays(again), expected, strict=True))
    assert {key for key, stamp in stamps(again).items() if stamp != before[key]} == {"p02.json", "p02.npy"}


def test_a_record_that_is_gone_is_rebuilt(tmp_path: Path, toy: Callable[..., Facts]) -> None:
    facts = toy()
    first = build(tmp_path, facts)
    (first.folder / "p03.json").unlink()
    assert same(build(tmp_path, facts), first)


@pytest.mark.parametrize("die_at", range(4))
def test_a_build_that_dies_leaves_whole_units_and_is_taken_up(
    tmp_path: Path, toy: Callable[..., Facts], monkeypatch: pytest.MonkeyPatch, die_at: int
) -> None:
    facts = toy()
    replace_file, calls = os.replace, []

    def dying(source: str, target: str) -> None:
        calls.append(target)
        if len(calls) > die_at:
            raise OSError(28, "No space left on device")
        replace_file(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(store_module.os, "replace", dying)
        with pytest.raises(OSError, match=r"cannot write the slice store .*No space left.*set store_dir"):
            build(tmp_path, facts)
    folder = next((tmp_path / "store" / "toy").iterdir())
    assert not list(folder.glob("*.tmp"))
    assert len(list(folder.glob("*"))) == die_at
    whole = build(tmp_path, facts)
    assert same(whole, SliceStore(tmp_path / "other", facts, facts.reader(tmp_path / "data" / "toy"), 16))


def test_no_two_units_share_a_file(tmp_path: Path, toy: Callable[..., Facts]) -> None:
    names = ["p1", "p1_", "_p1", "__p1", "p1__", "p1__base", "base", "_base", "base__t2", "t2", "p 1", "p-1", "p/1", "p1___t2"]
    items = [Item(image="x.nii", label=None, case=f"toy/{case}", volume=volume) for case in names for volume in ["", *names]]
    store = SliceStore(tmp_path, toy(), items, 16)
    files = {store.file(unit) for unit in range(len(items))}
    assert len(files) == len(items)
    assert store.folder / "p1__t2.npy" in files  # what is plain stays readable


def test_two_processes_build_at_once(tmp_path: Path, toy: Callable[..., Facts]) -> None:
    facts = toy(patients=12)
    context = multiprocessing.get_context("fork")
    barrier = context.Barrier(2)

    def work() -> None:
        torch.set_num_threads(1)
        barrier.wait(60)
        build(tmp_path, facts)

    workers = [context.Process(target=work) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert [worker.exitcode for worker in workers] == [0, 0]
    built = build(tmp_path, facts)
    assert len(list(built.folder.iterdir())) == 24
    assert same(built, SliceStore(tmp_path / "other", facts, facts.reader(tmp_path / "data" / "toy"), 16))


def test_the_folder_is_one_a_preprocessing(tmp_path: Path, volumes: list[Item]) -> None:
    def folder(size: int = 16, **changes) -> Path:
        return SliceStore(tmp_path, replace(VOLUMES, **changes), volumes, size).folder

    different = [
        folder(),
        folder(24),
        folder(window=(-100.0, 201.0)),
        folder(window=None, percentiles=(1.0, 99.0)),
        folder(orientation=None),
        folder(orientation="LPS"),
        folder(slice_axis=2),
        folder(classes={"tumour": (2,), "organ": (1,)}),
        folder(classes={"organ": (1, 4), "tumour": (2,)}),  # the channels are swapped
        folder(name="other"),
    ]
    assert len(set(different)) == len(different)
    assert folder(reader=tuple) == folder()


def test_names_that_become_one_stay_apart(tmp_path: Path, volumes: list[Item]) -> None:
    items = [volumes[0] | {"case": f"vols/{name}", "volume": ""} for name in ("p 1", "p/1", "p_1")]
    store = build(tmp_path, VOLUMES, 8, items)
    assert len(list(store.folder.glob("*.npy"))) == 3
    assert sorted(json.loads(path.read_text())["case"] for path in store.folder.glob("*.json")) == store.cases


def test_refuses_no_items_a_volume_twice_and_masks_on_some_images(tmp_path: Path, volumes, toy) -> None:
    with pytest.raises(ValueError, match="dataset vols has no cases"):
        SliceStore(tmp_path, VOLUMES, [], 16)
    with pytest.raises(ValueError, match=r"volume 'a' of case vols/p1 is listed twice \(.*p1bi\.nii\.gz\)"):
        SliceStore(tmp_path, VOLUMES, [volumes[0], volumes[1] | {"volume": "a"}], 16)
    facts = toy()
    items = facts.reader(tmp_path / "data" / "toy")
    items[4]["label"] = None
    with pytest.raises(ValueError, match=r"case toy/p01 has masks on some images only"):
        SliceStore(tmp_path, facts, items, 16)


def test_the_key_and_the_record_of_a_segmentation_store_are_as_they_were(tmp_path: Path, volumes: list[Item]) -> None:
    # written out, because another key would build every store of running studies again
    store = build(tmp_path, VOLUMES, 16, volumes)
    assert store.folder.name == "810a31963f2f51e9"
    record = json.loads((store.folder / "p1__a.json").read_text())
    assert record.keys() == {"case", "volume", "labelled", "shape", "foreground", "content", "sources"}


def test_images_to_classify_are_stored_with_the_class_of_each(tmp_path: Path, toy_classes: Callable[..., Facts]) -> None:
    facts = toy_classes(patients=3, images=3, unlabelled=1)
    store = build(tmp_path, facts)
    assert [(unit.labelled, unit.labels) for unit in store.units] == [(True, (1, 1, 0)), (True, (0, 0, 0)), (False, ())]
    assert all(unit.shape == (3, 1, 16, 16) and unit.foreground == () for unit in store.units)
    assert store.classes() == {"toy/p00": {"ill": 2, "healthy": 1}, "toy/p01": {"healthy": 3}}
    stock = Compose(
        [
            LoadImaged("image", ensure_channel_first=True),
            ScaleIntensityRangePercentilesd("image", 1, 99, 0, 1, clip=True),
            Resized("image", spatial_size=[16, 16], mode="bilinear"),
        ]
    )
    items = facts.reader(tmp_path / "data" / "toy")
    for item, found in zip(items, np.concatenate(arrays(store)), strict=True):
        np.testing.assert_array_equal(found, stock({"image": item["image"]})["image"].numpy().astype(np.float16))
    assert same(build(tmp_path, facts), store)


def test_a_label_that_a_table_corrects_is_read_again(tmp_path: Path, toy_classes: Callable[..., Facts]) -> None:
    facts = toy_classes(patients=3, unlabelled=1)
    first = build(tmp_path, facts)
    before, table = stamps(first), tmp_path / "data" / "toy" / "index.csv"
    table.write_text(table.read_text().replace("p01_1.jpg,1,well", "p01_1.jpg,1,ill").replace("2,,p02", "2,ill,p02"))
    again = build(tmp_path, facts)
    assert [unit.labels for unit in again.units] == [(1, 1), (0, 1), (1, 1)]
    changed = {key for key, stamp in stamps(again).items() if stamp != before[key]}
    assert changed == {"p01.json", "p01.npy", "p02.json", "p02.npy"}
    table.write_text(table.read_text().replace("p01_1.jpg,1,ill", "p01_1.jpg,1,"))
    with pytest.raises(ValueError, match=r"case toy/p01 has labels on some images only"):
        build(tmp_path, facts)
    table.write_text(table.read_text().replace("p01_1.jpg,1,", "p01_1.jpg,1,sick"))
    with pytest.raises(ValueError, match=r"index\.csv, row 5: .*p01_1\.jpg has the label 'sick'; .* 'ill', 'well'"):
        build(tmp_path, facts)


@pytest.mark.parametrize(("share", "kept"), [(1.0, range(8)), (0.5, range(2, 6))])
def test_a_volumes_class_is_that_of_its_middle_slices(tmp_path: Path, volumes: list[Item], share: float, kept: range) -> None:
    facts = replace(
        VOLUMES, task="classification", classes={"cn": ("CN",), "ad": ("AD",)}, label_values=("AD", "CN"), slice_axis=2,
        middle_share=share,
    )  # fmt: skip
    items = [item | {"label": label} for item, label in zip(volumes, ("AD", "CN", None), strict=True)]
    store = build(tmp_path, facts, 16, items)  # type: ignore[arg-type]
    assert [unit.labels for unit in store.units] == [(), (1,) * len(kept), (0,) * len(kept)]
    stock = Compose(
        [
            LoadImaged("image", ensure_channel_first=True),
            Orientationd("image", axcodes="RAS", labels=None),
            ScaleIntensityRanged("image", -100, 200, 0, 1, clip=True),
            Resized("image", spatial_size=[16, 16, -1], mode="trilinear"),
        ]
    )
    whole = stock({"image": items[0]["image"]})["image"].numpy()[0].transpose(2, 0, 1)
    np.testing.assert_array_equal(arrays(store)[1][:, 0], whole[kept].astype(np.float16))
    assert same(build(tmp_path, facts, 16, items), store)  # type: ignore[arg-type]
