# SPDX-License-Identifier: Apache-2.0
"""Bad inputs of classification, given as a user gives them: one line that names the culprit and the fix, before training."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from common.data import fold
from common.data.folds import make_split
from common.phantoms.layouts import write_dataset
from tests.bad_inputs import ROOT, Damage, Lab, bytes_of, command, half, rows

IMAGE = "kermany/images/p0001_0.png"
Keys = Callable[..., dict[str, Any]]


class ImageLab(Lab):
    """A finished teacher of radiographs, and what refuses a job beside it."""

    def __init__(self, tiny: Any, root: Path) -> None:
        self.tiny, self.runs = tiny, root / "runs"
        self.run(self.job("alone"))
        self.alone = tiny.run_dir("alone", self.runs)

    def results(self) -> dict[str, bytes]:
        return {str(path): path.read_bytes() for path in sorted(self.alone.rglob("*")) if path.is_file()}


@pytest.fixture(scope="module")
def finished(tiny_classifiers: Any, tmp_path_factory: pytest.TempPathFactory) -> ImageLab:
    return ImageLab(tiny_classifiers, tmp_path_factory.mktemp("finished"))


@pytest.fixture
def lab(finished: ImageLab, monkeypatch: pytest.MonkeyPatch) -> Iterator[ImageLab]:
    """The lab; afterwards its finished run must be as it was, to the byte."""
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)  # the bundles replace it
    before = finished.results()
    yield finished
    assert finished.results() == before


@pytest.fixture
def damaged(lab: ImageLab, tmp_path: Path) -> Keys:
    """Keys that point a job to a damaged copy of the datasets (and to a slice store of its own)."""

    def make(damage: Damage, *datasets: str) -> dict[str, Any]:
        for name in datasets or ("kermany",):
            shutil.copytree(lab.tiny.data / name, tmp_path / "data" / name)
        damage(tmp_path / "data")
        return {"data_dir": str(tmp_path / "data"), "store_dir": str(tmp_path / "store")}

    return make


def table(change: Callable[[list[list[str]]], object]) -> Damage:
    return rows(change, "kermany")


def label(of: Callable[[int], str]) -> Damage:
    """Labels by the patient's number."""

    def change(table: list[list[str]]) -> None:
        for row in table[1:]:
            row[1] = of(int(row[2][1:]))

    return table(change)


def saved_as(mode: str) -> Damage:
    """The first picture in a mode whose numbers are no intensities."""

    def damage(data: Path) -> None:
        with Image.open(data / IMAGE) as picture:
            picture.convert(mode).save(data / IMAGE, format="JPEG" if mode == "CMYK" else "PNG")

    return damage


def same_image(data: Path) -> None:
    """In every patient, so in every part."""
    for path in (data / "kermany" / "images").glob("p*_1.png"):
        shutil.copy(data / IMAGE, path)


IMAGES: dict[str, tuple[Damage, list[str]]] = {
    "truncated": (bytes_of(Path(IMAGE).name, half), [IMAGE, "cannot be read", "Copy it again"]),
    "corrupt": (bytes_of(Path(IMAGE).name, lambda content: b"png"), [IMAGE, "cannot be read", "Copy it again"]),
    "missing": (lambda data: (data / IMAGE).unlink(), [IMAGE, "does not exist", "check the dataset folder"]),
    "of a palette": (saved_as("P"), [IMAGE, "has the mode P; intensities are expected", "8 or 16 bit grey"]),
    "in CMYK": (saved_as("CMYK"), [IMAGE, "has the mode CMYK; intensities are expected", "8 or 16 bit grey"]),
    "in two parts": (same_image, ["kermany/p00", "hold the same image; remove one"]),
}
LABELS: dict[str, tuple[Damage, list[str]]] = {
    "unknown": (
        table(lambda rows: rows[3].__setitem__(1, "tb")),
        ["index.csv, row 4", "has the label 'tb'", "knows 'normal', 'pneumonia'", "label_values and classes"],
    ),
    "no column": (table(lambda rows: rows[0].__setitem__(1, "mask")), ["lacks the column(s) label", "add or rename"]),
    "none": (label(lambda number: ""), ["kermany: 0 labelled patients of 15", "add patients"]),
    "of half a patient": (table(lambda rows: rows[2].__setitem__(1, "")), ["kermany/p0001", "labels on some images only"]),
    "of one class": (label(lambda number: "normal"), ["kermany has no image of class pneumonia", "add some, or take"]),
    "absent from a fold": (
        label(lambda number: "pneumonia" if number < 3 else "normal"),
        ["no image of the", "part is of class pneumonia, which only 2 patients have (kermany/p0001, kermany/p0002)"],
    ),
}


@pytest.mark.parametrize("name", IMAGES)
def test_a_bad_image(lab: ImageLab, damaged: Keys, name: str) -> None:
    damage, parts = IMAGES[name]
    lab.refused(lab.job("alone") | damaged(damage), *parts)


@pytest.mark.parametrize("name", LABELS)
def test_a_bad_label(lab: ImageLab, damaged: Keys, name: str) -> None:
    damage, parts = LABELS[name]
    lab.refused(lab.job("alone") | damaged(damage), *parts)


def test_the_same_image_in_two_datasets(lab: ImageLab, damaged: Keys) -> None:
    keys = damaged(lambda data: shutil.copy(data / IMAGE, data / IMAGE.replace("kermany", "nih")), "kermany", "nih")
    lab.refused(lab.job("adapt") | keys, "kermany/p0001 and nih/p0001", "two datasets; remove one")


def test_one_patient_in_two_parts(lab: ImageLab, monkeypatch: pytest.MonkeyPatch) -> None:
    def leaking(*args: Any, **options: Any) -> Any:
        split = make_split(*args, **options)
        return split._replace(val=[*split.val, split.train[0]])

    monkeypatch.setattr(fold, "make_split", leaking)
    lab.refused(lab.job("alone"), "patient kermany/", "is in the parts train and val", "split by patient")


def test_one_patient_in_two_published_folds(lab: ImageLab, tmp_path: Path) -> None:
    folder = write_dataset("figshare", tmp_path / "data", cases=15, size=32)
    with h5py.File(folder / "cvind.mat", "r+") as file:
        file["cvind"][0, 0] = 1 + file["cvind"][0, 0] % 5
    file = "bundles/student_figshare/configs/train.yaml"
    job = lab.job("alone", config_file=file, data_dir=str(tmp_path / "data"), store_dir=str(tmp_path / "store"))
    lab.refused(job, "patient figshare/100001 is published in two folds; split by patient")


def group_file(folder: Path, **changes: dict[str, Any]) -> str:
    """The group of radiographs with other facts of a dataset."""
    group = yaml.safe_load((ROOT / "bundles" / "pneumonia.yaml").read_text())
    for name, facts in changes.items():
        group["datasets"][name] |= facts
    (folder / "pneumonia.yaml").write_text(yaml.safe_dump(group, sort_keys=False))
    return str(folder / "pneumonia.yaml")


@pytest.mark.parametrize("stage", ["adapt", "multi_head"])
def test_a_source_of_one_class_is_warned_of(lab: ImageLab, tmp_path: Path, stage: str) -> None:
    group = group_file(tmp_path, nih={"classes": {"normal": ["normal"]}})
    with pytest.warns(UserWarning, match=r"nih: every training image is of class normal.*confounded; add images of its"):
        lab.run(lab.job(stage, group_file=group, variant="one_class"))


def test_a_source_of_one_class_alone_is_refused(lab: ImageLab, tmp_path: Path) -> None:
    group = group_file(tmp_path, nih={"classes": {"normal": ["normal"]}})
    with pytest.warns(UserWarning, match="nih: every training image is of class normal"):
        lab.refused(lab.job("adapt", group_file=group, r=0), "source nih has one class (normal)", "set r: 1")


def test_a_source_of_other_classes_does_not_train_a_wide_head(lab: ImageLab, tmp_path: Path) -> None:
    group = group_file(tmp_path, nih={"classes": {"ill": ["pneumonia"], "well": ["normal"]}})
    taught = {"teachers": [str(lab.alone), str(lab.alone)], "wide": True}
    with pytest.warns(
        UserWarning, match=r"nih has the classes \['ill', 'well'\], the target kermany has \['normal', 'pneumonia'\]"
    ):
        lab.run(lab.job("joint", group_file=group, variant="wide", **taught))


def test_a_target_of_one_class_is_refused(lab: ImageLab, tmp_path: Path) -> None:
    group = group_file(tmp_path, kermany={"classes": {"normal": ["normal"]}})
    lab.refused(lab.job("alone", group_file=group), "kermany, the target, has one class (normal); a classifier needs two")


GROUPS: dict[str, tuple[dict[str, Any], list[str]]] = {
    "labels as numbers": ({"label_values": [0, 1]}, ["kermany: label_values: [0, 1] is not a list of texts", 'such as ["1"]']),
    "class of a number": ({"classes": {"ill": [1]}}, ["kermany: class ill: [1] is not a list of texts"]),
    "label of two classes": (
        {"classes": {"a": ["normal"], "b": ["normal"]}},
        ["kermany: label 'normal' is of class a and of b"],
    ),
    "middle of an image": ({"middle_share": 0.5}, ["kermany: `middle_share` is 0.5", "of volumes to classify"]),
}


@pytest.mark.parametrize("name", GROUPS)
def test_a_bad_group_file(lab: ImageLab, tmp_path: Path, name: str) -> None:
    facts, parts = GROUPS[name]
    lab.refused(lab.job("alone", group_file=group_file(tmp_path, kermany=facts)), *parts)


SETTINGS: dict[str, tuple[str, dict[str, Any], list[str]]] = {
    "architecture": ("alone", {"architecture": "ResNet"}, ["architecture: 'ResNet'; choose EfficientNet or MedViT"]),
    "budget": ("alone", {"target_cases": 3}, ["target_cases: 3", "2 classes need two each; give 4 to 12"]),
    "pairing": ("distill", {"pairing": "middle"}, ["pairing: 'middle'; choose early or late"]),
    "k": ("distill", {"k": 9}, ["k: 9; the teacher has", "the student", "levels: give 1 to"]),
    "joint_ch": ("joint", {"joint_ch": 100}, ["heads: 8 do not divide 100 channels"]),
}


@pytest.mark.parametrize("name", SETTINGS)
def test_a_bad_setting(lab: ImageLab, name: str) -> None:
    stage, changes, parts = SETTINGS[name]
    taught = {"distill": {"teacher": str(lab.alone)}, "joint": {"teachers": [str(lab.alone), str(lab.alone)]}}
    lab.refused(lab.job(stage, **taught.get(stage, {}), **changes), *parts)


def test_a_teacher_that_guesses_is_refused(lab: ImageLab, tmp_path: Path) -> None:
    """Balanced accuracy of a constant prediction is 1 / K, the floor."""
    teacher = shutil.copytree(lab.alone, tmp_path / "teacher" / "0")
    model = torch.load(teacher / "model.pt", weights_only=True)
    torch.save({key: 0 * value for key, value in model.items()}, teacher / "model.pt")
    job = lab.job("distill", teacher=str(teacher), teacher_floor=None)
    lab.refused(job, str(teacher), "scores 0.500", "no better than the floor of 0.500", "set teacher_floor to 0")


def test_a_patient_of_both_classes_and_a_picture_in_colours_are_taken(lab: ImageLab, damaged: Keys) -> None:
    def change(data: Path) -> None:
        with Image.open(data / IMAGE) as picture:
            colours = np.stack([np.asarray(picture)] * 3, axis=-1)
        Image.fromarray(colours).save(data / IMAGE)
        table(lambda rows: rows[1].__setitem__(1, "pneumonia"))(data)

    lab.run(lab.job("alone", variant="mixed") | damaged(change))


def test_an_unknown_label_on_the_command_line(lab: ImageLab, damaged: Keys) -> None:
    damage, parts = LABELS["unknown"]
    code, line = command(lab.job("alone", variant="bad") | damaged(damage))
    assert code == 1
    assert line.startswith("error: ") and all(part in line for part in parts)
