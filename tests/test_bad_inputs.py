# SPDX-License-Identifier: Apache-2.0
"""Bad inputs, given as a user gives them: each ends in one line that names the culprit and the fix, before training."""

from __future__ import annotations

import json
import os
import resource
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import torch
from PIL import Image

from common.data import fold
from common.data.facts import load_facts
from common.data.folds import make_split
from common.errors import root_cause
from common.export.source import read_source
from common.handlers import RunKeeper
from common.networks import UNet
from common.phantoms.layouts import write_dataset
from common.runs import test_slices as slices_of
from tests.bad_inputs import (
    ROOT,
    Damage,
    Lab,
    bytes_of,
    column,
    command,
    full,
    half,
    picture,
    rename,
    rows,
    script,
    volume,
)

CARDIAC = (ROOT / "bundles" / "cardiac.yaml").read_text()
IMAGE, MASK = "acdc/images/patient001_frame01_s00.png", "acdc/masks/patient001_frame01_s00.png"


@pytest.fixture(scope="session")
def finished(tiny_stages: Any, tmp_path_factory: pytest.TempPathFactory) -> Lab:
    return Lab(tiny_stages, tmp_path_factory.mktemp("finished"))


@pytest.fixture
def lab(finished: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Lab]:
    """The lab; afterwards its finished runs must be as they were, to the byte."""
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)  # the bundles replace it
    before = finished.results()
    assert {Path(path).name for path in before} >= {"model.pt", "metrics.json", "history.json"}
    yield finished
    assert finished.results() == before


@pytest.fixture
def damaged(lab: Lab, tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """Keys that point a job to a damaged copy of a dataset (and to a slice store of its own)."""

    def make(damage: Damage, *datasets: str, of: Path | None = None) -> dict[str, Any]:
        data = tmp_path / "data"
        for name in datasets or ("acdc",):
            shutil.copytree((of or lab.tiny.data) / name, data / name)
        damage(data)
        return {"data_dir": str(data), "store_dir": str(tmp_path / "store")}

    return make


def with_nan(array: np.ndarray, affine: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return np.where(np.arange(array.size).reshape(array.shape) == 5, np.nan, array).astype(np.float32), affine


V, S = "volume-0.nii", "segmentation-0.nii"
SHIFT = np.eye(4)
SHIFT[0, 3] = 1
VOLUMES: dict[str, tuple[Damage, list[str]]] = {
    "image missing": (lambda data: next(data.rglob(V)).unlink(), [S, "has no image", "Download"]),
    "mask missing": (lambda data: next(data.rglob(S)).unlink(), [V, "has no mask. Add the mask or remove the image"]),
    "truncated": (bytes_of(V, half), [V, "cannot be read", "Copy it again"]),
    "no bytes": (bytes_of(V, lambda content: b""), [V, "cannot be read", "Empty file", "Copy it again"]),
    "not NIfTI": (bytes_of(V, lambda content: b"hello" * 99), [V, "cannot be read", "Copy it again"]),
    "not finite": (volume(V, with_nan), [V, "not finite", "mask or replace them"]),
    "2-D": (volume(V, lambda a, f: (a[..., 0], f)), [V, "has 2 dimensions; 3 are expected", "save it so"]),
    "4-D": (volume(V, lambda a, f: (np.stack([a, a], -1), f)), [V, "2 channels; one is expected", "save that one"]),
    "no slices": (volume(V, lambda a, f: (a[..., :0], f)), [V, "is empty (shape (32, 32, 0))", "export it again"]),
    "mask one slice short": (
        volume(S, lambda a, f: (a[..., :-1], f)),
        [S, V, "(32, 32, 3)", "(32, 32, 4)", "resample"],
    ),
    "mask of other spacing": (volume(S, lambda a, f: (a, f @ np.diag([1.1, 1, 1, 1]))), [S, V, "affine", "resample"]),
    "mask off by one voxel": (volume(S, lambda a, f: (a, f @ SHIFT)), [S, V, "another affine", "resample"]),
    "unknown label": (
        volume(S, lambda a, f: (np.where(a == 2, 7, a).astype(a.dtype), f)),
        [S, "label values 7;", "[0, 1, 2]", "label_values"],
    ),
    "label no integer": (volume(S, lambda a, f: (a / 2, f)), [S, "label values 0.5;", "correct the mask"]),
    "stray file": (
        lambda data: shutil.copy(next(data.rglob(V)), data / "lits" / "x.nii"),
        ["x.nii", "rename or remove"],
    ),
    "empty folder": (lambda data: (shutil.rmtree(data / "lits"), (data / "lits").mkdir()), ["lits holds no images"]),
    "no folder": (lambda data: shutil.rmtree(data / "lits"), ["data/lits does not exist", "set data_dir"]),
    "too few": (
        lambda data: [p.unlink() for p in data.rglob("*-4.nii")],
        ["lits: 4 labelled patients", "add patients"],
    ),
}


@pytest.mark.parametrize("name", VOLUMES)
def test_a_bad_volume(lab: Lab, damaged: Callable[..., dict[str, Any]], name: str) -> None:
    damage, parts = VOLUMES[name]
    job = lab.job("alone", config_file="bundles/student_lits/configs/train.yaml")
    lab.refused(job | damaged(damage, "lits", of=lab.volumes), *parts)


def same_image(data: Path) -> None:
    shutil.copy(data / IMAGE, data / IMAGE.replace("patient001", "patient002"))


def same_patient(data: Path) -> None:
    for path in (data / "acdc" / "images").glob("patient001*"):
        shutil.copy(path, str(path).replace("patient001", "patient004"))


def without_lesion(data: Path) -> None:
    test = make_split([f"acdc/patient{n:03d}" for n in range(1, 9)], fold=0).test
    for case in test:
        for path in (data / "acdc" / "masks").glob(case.split("/")[1] + "*"):
            Image.new("L", (32, 32)).save(path)


TABLES: dict[str, tuple[Damage, list[str]]] = {
    "picture truncated": (bytes_of(Path(IMAGE).name, half), [IMAGE, "cannot be read", "Copy it again"]),
    "picture corrupt": (bytes_of(Path(IMAGE).name, lambda c: b"png"), [IMAGE, "cannot be read", "Copy it again"]),
    "picture missing": (lambda data: (data / IMAGE).unlink(), [IMAGE, "does not exist", "check the dataset folder"]),
    "mask missing": (lambda data: (data / MASK).unlink(), [MASK, "does not exist", "the table's row"]),
    "mask of another size": (picture(MASK, lambda a: a[1:]), [MASK, IMAGE, "has shape (32, 31)", "resample"]),
    "mask of unknown value": (
        picture(MASK, lambda a: a + 9 * (a == 0).astype(a.dtype)),
        [MASK, "values 9;", "correct"],
    ),
    "no table": (lambda data: (data / "acdc" / "index.csv").unlink(), ["acdc/index.csv", "a folder with an index.csv"]),
    "table empty": (
        lambda data: (data / "acdc" / "index.csv").write_text(""),
        ["index.csv", "not a CSV", "save it as"],
    ),
    "table binary": (bytes_of("index.csv", lambda c: b"\xff\xfe" * 9), ["index.csv", "not a CSV", "save it as UTF-8"]),
    "no rows": (rows(lambda table: table.__delitem__(slice(1, None))), ["index.csv has no rows", "list an image"]),
    "no case column": (rename("case_id", "patient"), ["index.csv lacks the column(s) case_id", "add or rename"]),
    "semicolons": (
        bytes_of("index.csv", lambda content: content.replace(b",", b";")),
        ["index.csv lacks the column(s) image, case_id; it has image;", "save it with commas"],
    ),
    "no mask column": (
        rename("mask", "label"),
        ["acdc: 0 labelled patients of 8 (none)", "add patients, or label more of them"],
    ),
    "row twice": (rows(lambda table: table.append(table[1])), ["index.csv", "s00.png is listed twice", "remove one"]),
    "cell empty": (rows(lambda table: table[1].__setitem__(2, "")), ["row 2: case_id is empty", "fill it or remove"]),
    "bad spacing": (column("spacing", "one", "1 1"), ["index.csv, row 2: spacing 'one'", "positive numbers in mm"]),
    "bad slice": (
        column("slice", "first", "1"),
        ["index.csv, row 2: slice 'first'", "whole number", "number the slices"],
    ),
    "image in two folds": (same_image, ["acdc/patient001", "acdc/patient002", "the same image; remove one"]),
    "patient under two names": (same_patient, ["acdc/patient001", "acdc/patient004", "the same image; remove one"]),
    "fold without lesion": (without_lesion, ["test part has any foreground (acdc/patient", "use another fold or seed"]),
}


@pytest.mark.parametrize("name", TABLES)
def test_a_bad_table(lab: Lab, damaged: Callable[..., dict[str, Any]], name: str) -> None:
    damage, parts = TABLES[name]
    lab.refused(lab.job("alone") | damaged(damage), *parts)


def test_the_same_image_in_two_datasets(lab: Lab, damaged: Callable[..., dict[str, Any]]) -> None:
    keys = damaged(lambda data: shutil.copy(data / IMAGE, data / IMAGE.replace("acdc", "sunnybrook")), "acdc", "sunnybrook")
    parts = ("sunnybrook/patient001 and acdc/patient001", "two datasets; remove one")
    lab.refused(lab.job("alone", sources=["sunnybrook"]) | keys, *parts)


def test_the_same_volume_in_two_datasets_of_other_windows_and_slice_axes(lab: Lab, tmp_path: Path) -> None:
    shutil.copytree(lab.volumes / "lits", tmp_path / "data" / "lits")
    write_dataset("kits", tmp_path / "data", cases=5, size=32, slices=4)
    for name, other in ((V, "imaging.nii.gz"), (S, "segmentation.nii.gz")):
        image = nibabel.load(next((tmp_path / "data" / "lits").rglob(name)))
        image.to_filename(tmp_path / "data" / "kits" / "data" / "case_00003" / other)
    job = lab.job("alone", config_file="bundles/student_lits/configs/train.yaml", sources=["kits"])
    keys = {"data_dir": str(tmp_path / "data"), "store_dir": str(tmp_path / "store")}
    lab.refused(job | keys, "kits/case_00003 and lits/0", "two datasets; remove one")


def test_one_patient_in_two_parts(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    def leaking(*args: Any, **options: Any) -> Any:
        split = make_split(*args, **options)
        return split._replace(val=[*split.val, split.train[0]])

    monkeypatch.setattr(fold, "make_split", leaking)
    lab.refused(lab.job("alone"), "patient acdc/", "is in the parts train and val", "split by patient")


GROUPS: dict[str, tuple[str, list[str]]] = {
    "garbled": ("group: [cardiac\nx: y: z", ["is not YAML", "line 2", "correct it or write it again"]),
    "binary": ("\x00\x01", ["is not YAML", "correct it or write it again"]),
    "no group": ("- acdc\n", ["needs the keys group, task and datasets"]),
    "datasets as a list": ("group: g\ntask: t\ndatasets: [acdc]\n", ["`datasets` must map each dataset's name"]),
    "misspelt key": (CARDIAC.replace("percentiles", "percentile", 1), ["acdc: unknown keys ['percentile']", "known:"]),
    "no classes": (
        CARDIAC.replace("    classes:\n      lv: [3]\n", "", 1),
        ["acdc: the key classes is missing; add it"],
    ),
    "class of one number": (CARDIAC.replace("lv: [3]", "lv: 3"), ["acdc: class lv: 3 is not a list", "such as [1]"]),
    "class of no value": (CARDIAC.replace("lv: [3]", "lv: [4]"), ["acdc: classes use raw values [4]", "label_values"]),
    "no intensities": (
        CARDIAC.replace("    percentiles: [1.0, 99.0]\n", "", 1),
        ["acdc: give exactly one of `window`"],
    ),
    "no such module": (
        CARDIAC.replace("    classes:\n", "    module: common.nope\n    classes:\n", 1),
        ["common.nope"],
    ),
}


@pytest.mark.parametrize("name", GROUPS)
def test_a_bad_group_file(lab: Lab, tmp_path: Path, name: str) -> None:
    content, parts = GROUPS[name]
    (tmp_path / "group.yaml").write_text(content)
    lab.refused(lab.job("alone", group_file=str(tmp_path / "group.yaml")), str(tmp_path / "group.yaml"), *parts)


SETTINGS: dict[str, tuple[str, dict[str, Any], list[str]]] = {
    "no group file": ("alone", {"group_file": "gone.yaml"}, ["gone.yaml does not exist", "new_group.py"]),
    "dataset not in the group": (
        "alone",
        {"dataset": "lits"},
        ["'lits' is not in bundles/cardiac.yaml", "acdc, sunny"],
    ),
    "folder of one dataset": ("alone", {"dataset_dir": "data/acdc"}, ["dataset_dir: ", "give data_dir, the folder of all"]),
    "misspelt key": ("alone", {"max_epoch": 3}, ["'max_epoch'; did you mean 'max_epochs'?"]),
    "unknown key": ("alone", {"zzz": 3}, ["unknown configuration key 'zzz'; leave it out"]),
    "misspelt section": ("alone", {"validate::evaluatr": 1}, ["did you mean 'validate::evaluator'?"]),
    "misspelt argument": ("alone", {"train::trainer::max_epoch": 3}, ["did you mean 'train::trainer::max_epochs'?"]),
    "misspelt network": ("alone", {"unet::featurs": [4]}, ["'unet::featurs'; did you mean 'unet::features'?"]),
    "misspelt in a list": (
        "alone",
        {"train::handlers::0::intervl": 3},
        ["did you mean 'train::handlers::0::interval'?"],
    ),
    "other architecture": ("alone", {"architecture": "Unet"}, ["architecture: 'Unet'; choose UNet or TransResUNet"]),
    "widths": ("alone", {"unet::features": [4, 4]}, ["features: [4, 4]; give six numbers"]),
    "seed": ("alone", {"seed": "first"}, ["seed: 'first'; give a whole number of at least 0"]),
    "false as a text": ("alone", {"quiet": "false"}, ["quiet: 'false' is a text here; write False"]),
    "true as a text": ("alone", {"train::trainer::amp": "true"}, ["train::trainer::amp: 'true' is a text here; write True"]),
    "a component as a text": (
        "alone",
        {"scheduler": "{_target_: torch.optim.lr_scheduler.StepLR}"},
        [
            "scheduler: '{_target_: torch.optim.lr_scheduler.StepLR}' is a text",
            "a component is expected; quote each name: --scheduler",
        ],
    ),
    "null as a text": ("joint", {"teacher_floor": "null"}, ["teacher_floor: 'null' is a text here; write None"]),
    "no pixels": ("alone", {"image_size": 0}, ["image_size: 0; give a whole number of at least 16"]),
    "no steps": ("alone", {"epoch_length": 0}, ["epoch_length: 0; give a whole number of at least 1"]),
    "share": ("alone", {"foreground_share": 2}, ["foreground_share: 2; give a share from 0 to 1"]),
    "too many cases": ("alone", {"target_cases": 50}, ["target_cases: 50; the fold has 6", "give 2 to 6"]),
    "too few cases": ("alone", {"target_cases": 1}, ["target_cases: 1; the fold has 6", "give 2 to 6"]),
    "cases no number": ("alone", {"target_cases": "few"}, ["target_cases: 'few'", "give 2 to 6"]),
    "source is the target": ("alone", {"sources": ["acdc"]}, ["acdc is named twice", "must differ from the target"]),
    "adapted to itself": ("adapt", {"target": "sunnybrook"}, ["sunnybrook is named twice", "must differ"]),
    "unknown target": ("adapt", {"target": "lits"}, ["'lits' is not in bundles/cardiac.yaml", "acdc, sunnybrook"]),
    "r": ("adapt", {"r": 2}, ["r: 2; choose 0 or 1"]),
    "no teachers": ("joint", {"teachers": []}, ["teachers: []; give a list of runs, such as --teachers"]),
    "teachers no list": ("joint", {"teachers": "runs/a"}, ["teachers: 'runs/a'; give a list of runs"]),
    "level of the joint teacher": ("joint", {"levels": ["conv_9"]}, ["levels: conv_9 unknown", "are conv_0, down_1"]),
    "level of the student": ("distill", {"levels": ["down_9"]}, ["levels: down_9; the student's levels are conv_0"]),
    "floor": ("distill", {"teacher_floor": "high"}, ["teacher_floor: 'high'; give a score from 0"]),
    "heads": ("multi_head", {"sources": ["acdc"]}, ["acdc is named twice", "must differ from the target"]),
}


@pytest.mark.parametrize("name", SETTINGS)
def test_a_bad_setting(lab: Lab, name: str) -> None:
    stage, changes, parts = SETTINGS[name]
    lab.refused(lab.job(stage, **changes), *parts)


def test_one_teacher_is_not_a_joint_teacher(lab: Lab) -> None:
    lab.refused(lab.job("joint", teachers=[str(lab.alone)]), "teachers: 1; give the target teacher first, then")


def test_a_failed_attempt_does_not_block_its_run(lab: Lab) -> None:
    """The key was wrong in a way that only building the trainer shows, after the run's config.json was written."""
    lab.refused(lab.job("distill", levels=["down_9"], variant="mended"), "levels: down_9")
    run = lab.tiny.run_dir("distill", lab.runs).parents[1] / "mended" / "0"
    assert (run / "config.json").is_file() and not (run / "checkpoints").exists()
    lab.run(lab.job("distill", levels=["down_4"], variant="mended"))
    assert (run / "model.pt").is_file()


def weights(change: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]) -> Damage:
    return lambda run: torch.save(change(torch.load(run / "model.pt", weights_only=True)), run / "model.pt")


def of_two_classes(run: Path) -> None:
    network = UNet(out_channels=3, features=(4, 4, 8, 8, 8, 4))
    torch.save(network.state_dict(), run / "model.pt")
    (run / "network.json").write_text(json.dumps(network.spec))


def wider(run: Path) -> None:
    spec = json.loads((run / "network.json").read_text())
    (run / "network.json").write_text(json.dumps(spec | {"features": [8, 8, 8, 8, 8, 8]}))


TEACHERS: dict[str, tuple[Damage, list[str]]] = {
    "missing": (shutil.rmtree, ["does not exist; train it first"]),
    "unfinished": (lambda run: (run / "model.pt").unlink(), ["has no model.pt", "start it again to resume it"]),
    "garbage": (lambda run: (run / "model.pt").write_bytes(b"garbage"), ["model.pt is damaged", "train the run again"]),
    "torn": (bytes_of("model.pt", half), ["model.pt is damaged", "copy or train the run again"]),
    "empty": (bytes_of("model.pt", lambda content: b""), ["model.pt is damaged", "copy or train the run again"]),
    "torn description": (bytes_of("network.json", half), ["network.json is damaged", "copy or train the run again"]),
    "other architecture": (wider, ["model.pt is not of the architecture in network.json", "size mismatch", "again"]),
    "weights of something else": (weights(lambda w: {"a": torch.ones(1)}), ["not of the architecture", "Missing key"]),
    "untrained": (
        weights(lambda w: {key: 0 * value for key, value in w.items()}),
        ["scores 0.000 on the target's validation patients, below the floor", "Train it longer, or set teacher_floor"],
    ),
    "other classes": (
        of_two_classes,
        ["does not fit the target", "3 output channels", "give one of the target's classes"],
    ),
}


@pytest.mark.parametrize("name", TEACHERS)
def test_a_bad_teacher(lab: Lab, tmp_path: Path, name: str) -> None:
    damage, parts = TEACHERS[name]
    teacher = shutil.copytree(lab.alone, tmp_path / "teacher" / "0")
    damage(teacher)
    lab.refused(lab.job("distill", teacher=str(teacher), teacher_floor=None), str(teacher), *parts)


def test_a_teacher_without_history_cannot_start_a_wide_joint_teacher(lab: Lab, tmp_path: Path) -> None:
    teacher = shutil.copytree(lab.alone, tmp_path / "teacher" / "0")
    (teacher / "history.json").unlink()
    job = lab.job("joint", teachers=[str(teacher), str(lab.adapt)], wide=True)
    lab.refused(job, str(teacher), "has no history.json", "start it again")


def test_a_joint_teacher_of_another_targets_teachers(lab: Lab) -> None:
    job = lab.job("joint", target="sunnybrook", sources=["acdc"], teachers=[str(lab.alone), str(lab.adapt)])
    lab.refused(job, f"the first is {lab.alone}, a teacher of acdc, but the target is sunnybrook", "--teachers")


def test_a_run_is_not_evaluated_on_patients_it_trained_on(lab: Lab) -> None:
    lab.refused(lab.evaluation(seed=1), str(lab.alone), "trained on test patient acdc/", "evaluate it on its own seed")


def test_an_unfinished_run_is_not_evaluated(lab: Lab, tmp_path: Path) -> None:
    lab.refused(lab.evaluation(run_dir=str(tmp_path / "gone" / "0")), "gone/0 does not exist; train it first")
    run = shutil.copytree(lab.alone, tmp_path / "run" / "0")
    (run / "model.pt").unlink()
    lab.refused(lab.evaluation(run_dir=str(run)), "has no model.pt", "start it again to resume it")
    (run / "folds.json").write_text("{}")
    lab.refused(lab.evaluation(run_dir=str(run)), "folds.json is damaged (no datasets)", "train the run again")


def test_a_run_is_not_resumed_with_another_configuration(lab: Lab) -> None:
    parts = (str(lab.alone), "begun with another", "give the new run another variant")
    lab.refused(lab.job("alone", variant="alone", learning_rate=0.5), *parts, "learning_rate (config.json: 0.001, now 0.5")
    widths = {"unet::features": [4, 4, 8, 8, 8, 8]}
    lab.refused(lab.job("alone", variant="alone", **widths), *parts, "unet::features (config.json: [4, 4, 8, 8, 8, 4]")


def test_a_run_stays_with_the_facts_that_it_learned_from(lab: Lab, tmp_path: Path) -> None:
    """Its group file may have been edited since: neither resumed, nor evaluated, nor taught by, nor shown, nor exported."""
    group = tmp_path / "group.yaml"
    group.write_text(CARDIAC.replace("lv: [3]", "lv: [2]", 1))
    resumed = lab.job("alone", variant="alone")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fold, "load_facts", lambda _, name: load_facts(group, name))  # as if it were the edited file
        lab.refused(resumed, "begun with another facts::acdc::classes (config.json: [['lv', [3]]], now [['lv', [2]]])")
        lab.refused(lab.job("joint"), f"run {lab.alone} was trained with classes [['lv', [3]]] of dataset acdc")  # its teacher
    parts = ("was trained with classes [['lv', [3]]] of dataset acdc", f"{group} now says [['lv', [2]]]; undo that")
    lab.refused(lab.evaluation(group_file=str(group)), str(lab.alone), *parts)
    run = Path(shutil.copytree(lab.alone, tmp_path / "run" / "0"))
    config = json.loads((run / "config.json").read_text()) | {"group_file": str(group)}
    (run / "config.json").write_text(json.dumps(config))
    for read in (lambda: read_source(run), lambda: slices_of(run, "acdc", 1)):
        with pytest.raises(ValueError, match=r"was trained with classes .* of dataset acdc"):
            read()
    del config["facts"]  # a run from before facts were recorded
    (run / "config.json").write_text(json.dumps(config))
    assert read_source(run).facts.classes == {"lv": (2,)}


def test_a_file_in_the_place_of_a_folder(lab: Lab, tmp_path: Path) -> None:
    (tmp_path / "teacher_acdc").touch()
    parts = ("cannot save", "teacher_acdc/bad/0/config.json", "choose another folder")
    lab.refused(lab.job("alone", runs_dir=str(tmp_path)), *parts)
    (tmp_path / "store").touch()
    lab.refused(lab.job("alone", store_dir=str(tmp_path / "store")), "cannot make the slice store", "set store_dir")


def test_a_full_disk_while_a_result_is_saved(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", full)
    lab.refused(lab.evaluation(), "cannot save", "test/acdc/metrics.json", "No space left", "free space")


def test_a_full_disk_while_slices_are_stored(lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = tmp_path / "store"
    parts = ("cannot write the slice store", "patient00", ".npy", "No space left", "free space or set store_dir")
    with monkeypatch.context() as patch:
        patch.setattr(np, "save", full)
        lab.refused(lab.job("alone", store_dir=str(store)), *parts)
    assert not [path for path in store.rglob("*") if path.is_file()]
    lab.run(lab.job("alone", variant="stored", store_dir=str(store)))


def test_a_torn_slice_store_is_built_again(lab: Lab, tmp_path: Path) -> None:
    job = lab.job("alone", store_dir=str(tmp_path))
    lab.run(job | {"variant": "whole"})
    arrays = sorted(tmp_path.rglob("*.npy"))
    before = [path.read_bytes() for path in arrays]
    arrays[0].write_bytes(half(before[0]))
    arrays[1].with_suffix(".json").write_text('{"case": ')
    arrays[2].unlink()
    lab.run(job | {"variant": "torn"})
    assert [path.read_bytes() for path in arrays] == before
    runs = [lab.alone.parents[1] / variant / "0" / "model.pt" for variant in ("whole", "torn")]
    assert runs[0].read_bytes() == runs[1].read_bytes()


def test_a_full_disk_while_a_checkpoint_is_saved(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """The checkpoint of the epoch before stays whole, and the run goes on from it to what it would have been."""
    job = lab.job("alone", max_epochs=3)
    run, clean = (lab.alone.parents[1] / variant / "0" for variant in ("full", "clean"))
    last = run / "checkpoints" / "last.pt"
    lab.run(job | {"variant": "clean"})

    sync = os.fsync
    monkeypatch.setattr(os, "fsync", lambda file: full() if last.exists() else sync(file))
    with pytest.raises(RuntimeError) as caught:
        lab.run(job | {"variant": "full"})
    assert "cannot save" in str(root_cause(caught.value))
    monkeypatch.setattr(os, "fsync", sync)
    first = last.read_bytes()
    assert len(torch.load(last, weights_only=True)["state"]["epochs"]) == 1

    quota = (100_000, resource.RLIM_INFINITY)  # bytes a file: enough for the best weights, too little for last.pt
    limit = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, quota)  # noqa: E731
    code, line = command(job | {"variant": "full"}, preexec_fn=limit)
    assert code == 1
    assert line.startswith("error: cannot save ") and "last.pt" in line and "free space" in line
    assert last.read_bytes() == first and not (run / "model.pt").exists()

    lab.run(job | {"variant": "full"})
    assert (run / "model.pt").read_bytes() == (clean / "model.pt").read_bytes()
    assert not list(run.rglob("*.tmp"))


def test_a_damaged_checkpoint_is_named(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    run = lab.alone.parents[1] / "damaged" / "0"
    monkeypatch.setattr(RunKeeper, "drop_checkpoints", lambda keeper: None)  # as if killed before the model was published
    lab.run(lab.job("alone", variant="damaged"))
    (run / "model.pt").unlink()
    bytes_of("last.pt", half)(run)
    lab.refused(lab.job("alone", variant="damaged"), "checkpoints/last.pt is damaged", "remove it to train this run anew")


def test_a_bad_volume_on_the_command_line(lab: Lab, damaged: Callable[..., dict[str, Any]]) -> None:
    job = lab.job("alone", config_file="bundles/student_lits/configs/train.yaml", variant="bad")
    code, line = command(job | damaged(bytes_of(V, half), "lits", of=lab.volumes))
    assert code == 1
    assert line.startswith("error: ") and f"{V} cannot be read" in line and "Copy it again" in line


def test_a_misspelt_key_on_the_command_line(lab: Lab) -> None:
    code, line = command(lab.job("alone", variant="bad", learning_rat=0.1))
    assert (code, line) == (1, "error: unknown configuration key 'learning_rat'; did you mean 'learning_rate'?")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--group", "pet"], "unknown group 'pet'; choose one of mri, ct, cardiac"),
        (["--group", "ct", "--cases", "0"], "phantoms need at least one case, not 0"),
        (["--group", "ct", "--size", "8"], "8"),
        (["--group", "cardiac"], "acdc exists and is not empty; choose another --out or remove it"),
    ],
)
def test_bad_phantoms(lab: Lab, flags: list[str], message: str) -> None:
    before = sorted(lab.tiny.data.rglob("*"))
    code = script("make_phantoms.py", "--out", str(lab.tiny.data), *flags)
    assert isinstance(code, str) and message in code and len(code.splitlines()) == 1  # a text: printed, exit code 1
    assert sorted(lab.tiny.data.rglob("*")) == before


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"group": "pet"}, "unknown group 'pet': no file"),
        ({"targets": "lits"}, "unknown target 'lits'; choose from acdc, sunnybrook"),
        ({"arms": "alone,destil"}, "unknown arm 'destil'; choose from alone"),
        ({"data": "gone"}, "gone: no such folder"),
        ({"target_cases": "1"}, "bad target_cases 1; write numbers from 2"),
        ({"vary": "sources=acdc"}, "target 'acdc' equals a source"),
        ({"vary": "r=2"}, "unknown value of r '2'; choose from 0, 1"),
        ({"runs": __file__}, "test_bad_inputs.py"),
    ],
)
def test_a_bad_study(lab: Lab, capsys: pytest.CaptureFixture[str], flags: dict[str, str], message: str) -> None:
    asked = {"group": "cardiac", "targets": "acdc", "arms": "alone", "seeds": "0"}
    asked |= {"data": str(lab.tiny.data), "runs": str(lab.runs), "cores": "1"} | flags
    assert script("study.py", *[part for key, value in asked.items() for part in (f"--{key}", value)]) == 2
    error = capsys.readouterr().err.strip()
    assert error.startswith("study: ") and message in error and len(error.splitlines()) == 1


def test_a_study_of_a_garbled_group_file(lab: Lab, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "cardiac.yaml").write_text("group: [cardiac\nx: y: z")
    flags = ["--group", "cardiac", "--targets", "acdc", "--arms", "alone", "--data", str(lab.tiny.data)]
    flags += ["--runs", str(lab.runs), "--group-file", str(tmp_path / "cardiac.yaml")]
    assert script("study.py", *flags) == 2
    error = capsys.readouterr().err.strip()
    assert "cardiac.yaml is not YAML" in error and "correct it" in error and len(error.splitlines()) == 1
