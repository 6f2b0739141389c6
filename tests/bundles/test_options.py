# SPDX-License-Identifier: Apache-2.0
"""What a user turns on a bundle: MLflow by one key, other architectures, a DICOM series."""

import sqlite3
from pathlib import Path

import nibabel
import numpy as np
import pytest
from monai.bundle import run

from common.networks import EfficientNet, MedViT, TransResUNet, UNet
from common.phantoms.layouts import write_dataset, write_dicom_series
from common.runs import from_run

ROOT = Path(__file__).parents[2]
TINY = {"image_size": 32, "max_epochs": 1, "epoch_length": 1, "batch_size": 2, "logging_file": False}
UNET = {"unet::features": [4, 4, 8, 8, 8, 4]}
TRANS = {"architecture": "TransResUNet", "transresunet::width": 4}
EFFICIENT = {"networks::EfficientNet::variant": "test_efficientnet"}
MEDVIT = {"architecture": "MedViT", "networks::MedViT::variant": "tiny"}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    root = tmp_path_factory.mktemp("data")
    for name in ("acdc", "sunnybrook"):
        write_dataset(name, root, cases=8, size=32, slices=4)
    for name in ("kermany", "nih"):
        write_dataset(name, root, cases=15, size=32)
    return str(root)


@pytest.fixture(autouse=True)
def from_the_checkout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


def train(bundle: str, config: str, **facts: object) -> None:
    run("training", config_file=f"bundles/{bundle}/configs/{config}.yaml", **TINY, **facts)


def test_mlflow_is_one_key(data: str, tmp_path: Path) -> None:
    train("student_acdc", "train", tracking="bundles/mlflow.yaml", data_dir=data, runs_dir=str(tmp_path), **UNET)
    with sqlite3.connect(tmp_path / "mlflow.db") as tables:
        keys = {key for (key,) in tables.execute("select distinct key from metrics")}
    assert {"train_loss", "val_dice"} <= keys


def test_teachers_of_both_architectures_teach_a_unet(data: str, tmp_path: Path) -> None:
    places = {"data_dir": data, "runs_dir": str(tmp_path)}
    train("teacher_acdc", "train", **places, **UNET)
    train("teacher_sunnybrook", "adapt", target="acdc", **places, **TRANS)
    trans, unet = f"{tmp_path}/teacher_sunnybrook/for_acdc/0", f"{tmp_path}/teacher_acdc/alone/0"
    for variant, teachers in (("unet_first", [unet, trans]), ("trans_first", [trans, unet])):
        train("joint_teacher_cardiac", "train", target="acdc", teachers=teachers, teacher_floor=0, variant=variant, **places)
        joint = tmp_path / "joint_teacher_cardiac" / variant / "0"
        distilled = {"teacher": str(joint), "teacher_floor": 0, "variant": f"distill_{variant}"}
        train("student_acdc", "distill", **distilled, **places, **UNET)
        assert isinstance(from_run(tmp_path / "student_acdc" / f"distill_{variant}" / "0"), UNet)
    assert isinstance(from_run(trans), TransResUNet)


def test_teachers_of_both_architectures_teach_classifiers_early_and_late(data: str, tmp_path: Path) -> None:
    places = {"data_dir": data, "runs_dir": str(tmp_path)}
    train("teacher_kermany", "train", **places, **EFFICIENT)
    train("teacher_nih", "adapt", target="kermany", **places, **MEDVIT, **{"networks::MedViT::patch_momentum": 0.5})
    teachers = [f"{tmp_path}/teacher_kermany/alone/0", f"{tmp_path}/teacher_nih/for_kermany/0"]
    assert [type(from_run(run)) for run in teachers] == [EfficientNet, MedViT]
    assert from_run(teachers[1]).spec["patch_momentum"] == 0.5
    joint = tmp_path / "joint_teacher_pneumonia" / "for_kermany" / "0"
    train("joint_teacher_pneumonia", "train", target="kermany", teachers=teachers, teacher_floor=0, **places)
    for pairing, k, network in (("early", 1, EFFICIENT), ("late", 3, MEDVIT)):
        options = {"teacher": str(joint), "teacher_floor": 0, "pairing": pairing, "k": k, "variant": f"{pairing}_{k}"}
        train("student_kermany", "distill", **options, **places, **network)
        assert isinstance(from_run(tmp_path / "student_kermany" / f"{pairing}_{k}" / "0"), EfficientNet if k == 1 else MedViT)


def test_a_dicom_series_becomes_a_label_volume_in_its_geometry(data: str, tmp_path: Path) -> None:
    places = {"data_dir": data, "runs_dir": str(tmp_path)}
    train("student_acdc", "train", **places, **UNET)
    values = np.random.default_rng(0).normal(100, 30, (24, 30, 5)).astype(np.int16)
    write_dicom_series(values, (1.2, 1.5, 4.0), tmp_path / "series")
    run(
        "inferring",
        config_file="bundles/student_acdc/configs/inference.yaml",
        input=str(tmp_path / "series"),
        output_dir=str(tmp_path / "out"),
        run_dir=str(tmp_path / "student_acdc" / "alone" / "0"),
        logging_file=False,
        **{"network_def::features": UNET["unet::features"]},
    )
    label = nibabel.load(next((tmp_path / "out").glob("*.nii.gz")))
    assert label.shape == values.shape
    np.testing.assert_allclose(label.header.get_zooms(), (1.2, 1.5, 4.0), rtol=1e-4)
