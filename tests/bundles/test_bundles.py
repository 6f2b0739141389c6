# SPDX-License-Identifier: Apache-2.0
"""Every bundle: parses, has the required properties, is in step with its recipes, trains, evaluates and infers."""

import csv
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from unittest import mock

import itk
import nibabel
import numpy as np
import pytest
import torch
import yaml
from monai.bundle import ConfigParser
from PIL import Image

from common.bundle_files import join_recipe, split_recipe, write_group
from common.data.facts import load_facts, load_group
from common.data.transforms import evaluation, restore
from common.handlers import RunKeeper
from common.runs import from_run
from tests.trained_bundles import (
    BUNDLES,
    CONFIGS,
    DATASETS,
    GROUPS,
    ROOT,
    Trained,
    arguments,
    execute,
    group_of,
    is_classification,
    tiny,
    write_phantoms,
)


def test_there_are_bundles_for_every_dataset_and_group() -> None:
    expected = {f"student_{dataset}" for dataset in DATASETS}
    for path in GROUPS:
        datasets = list(load_group(path)["datasets"])
        if len(datasets) > 1:
            expected |= {f"teacher_{d}" for d in datasets} | {f"joint_teacher_{path.stem}", f"multi_head_{path.stem}"}
        else:  # a dataset alone has teachers of several architectures
            expected |= (own := {b for b in BUNDLES if b.startswith(f"teacher_{datasets[0]}")})
            assert own
    assert set(BUNDLES) == expected
    assert {"ct", "mri", "cardiac", "cxr", "dementia", "pneumonia"} <= {path.stem for path in GROUPS}


@pytest.mark.parametrize("group", GROUPS, ids=lambda p: p.stem)
def test_the_bundles_are_those_that_the_group_file_gives(group: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("bundles").mkdir()
    shutil.copy(group, "bundles")
    written = write_group(f"bundles/{group.name}")
    assert {path.name for path in written} == {bundle for bundle in BUNDLES if group_of(bundle) == group}
    files = [file for path in written for file in sorted(path.rglob("*")) if file.suffix == ".yaml"]
    for file in files:
        assert file.read_text() == (ROOT / file).read_text(), f"write the group again: {group.stem}"
    assert {ROOT / file for file in files} == {path for path in CONFIGS if group_of(path.parents[1].name) == group}


@pytest.mark.parametrize("path", CONFIGS, ids=lambda p: f"{p.parents[1].name}/{p.stem}")
def test_the_tail_of_a_configuration_is_its_recipe(path: Path) -> None:
    head, recipe, _ = split_recipe(path.read_text())
    assert path.read_text() == join_recipe(head, recipe), "run `make sync`"
    assert recipe.endswith(f"_{load_group(group_of(path.parents[1].name))['task']}")
    assert not set(yaml.safe_load(head)) & set(yaml.safe_load(join_recipe("", recipe))), "a key is both fact and recipe"


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    return Trained(write_phantoms(tmp_path_factory.mktemp("data")), tmp_path_factory.mktemp("runs"))


@pytest.fixture(autouse=True)
def from_the_checkout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


def volume(path: Path, tail: tuple[int, ...] = ()) -> np.ndarray:
    """A NIfTI of three different axis lengths and `tail`, rotated and flipped against the axes of the body."""
    values = np.random.default_rng(3).normal(100, 60, (30, 24, 7)).astype(np.float32)
    affine = np.array([[0, -1.5, 0, 10], [0, 0, 3.0, -5], [1.2, 0, 0, 7], [0, 0, 0, 1.0]])
    nibabel.save(nibabel.Nifti1Image(values.reshape(values.shape + tail), affine), path)
    return affine


def inferring(bundle: str, run_dir: Path, pattern: str, out: Path) -> dict[str, object]:
    """What inference is told of a run: its network and where things lie; the size of its images it finds there."""
    config = yaml.safe_load((ROOT / f"bundles/{bundle}/configs/inference.yaml").read_text())
    sizes = {"features": [4, 4, 8, 8, 8, 4], "model_name": "test_efficientnet"}
    given = config["network_def"] if isinstance(config["network_def"], dict) else {}
    own = {f"network_def::{key}": value for key, value in sizes.items() if key in given}
    return {"input": pattern, "output_dir": str(out), "run_dir": str(run_dir)} | own


def infer(bundle: str, run_dir: Path, pattern: str, out: Path) -> None:
    execute("inferring", f"bundles/{bundle}/configs/inference.yaml", **inferring(bundle, run_dir, pattern, out))


def check_labels(bundle: str, run_dir: Path, folder: Path) -> None:
    affine = volume(folder / "scan.nii.gz")
    volume(folder / "four.nii.gz", tail=(1,))
    infer(bundle, run_dir, str(folder / "*.nii.gz"), folder / "out")
    label, four = (nibabel.load(folder / "out" / f"{name}_pred.nii.gz") for name in ("scan", "four"))
    assert label.shape == four.shape == (30, 24, 7)
    np.testing.assert_allclose(label.affine, affine, atol=1e-4)
    np.testing.assert_allclose(four.affine, affine, atol=1e-4)
    assert np.array_equal(np.asarray(label.dataobj), np.asarray(four.dataobj))
    with torch.no_grad():
        channels = from_run(run_dir)(torch.zeros(1, 1, 32, 32)).shape[1]
    assert set(np.unique(np.asarray(label.dataobj))) <= set(range(channels))


def check_probabilities(bundle: str, run_dir: Path, dataset: str, folder: Path) -> None:
    facts = load_facts(DATASETS[dataset], dataset)
    name = "scan.nii.gz" if facts.dims == 3 else "scan.png"
    if facts.dims == 3:
        volume(folder / name)
    else:
        Image.fromarray(np.random.default_rng(3).integers(0, 255, (40, 30)).astype(np.uint8)).save(folder / name)
    infer(bundle, run_dir, str(folder / name), folder / "out")
    with (folder / "out" / "probabilities.csv").open() as file:
        (row,) = csv.DictReader(file)
    assert row.pop("image") == str(folder / name)
    assert list(row) == list(facts.classes)
    assert sum(float(value) for value in row.values()) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("bundle", BUNDLES)
def test_a_bundle_trains_evaluates_and_infers(bundle: str, trained: Trained, tmp_path: Path) -> None:
    run_dir, dataset = trained.last_stage(bundle)
    places = {"data_dir": str(trained.data), "run_dir": str(run_dir)}
    execute("evaluating", f"bundles/{bundle}/configs/evaluate.yaml", dataset=dataset, **places)
    report = json.loads((run_dir / "test" / dataset / "metrics.json").read_text())
    cases = json.loads((run_dir / "folds.json").read_text())["datasets"][dataset]["test"]
    assert {row["case"] for row in report["units"]} == set(cases)
    assert report["parameters"] == sum(p.numel() for p in from_run(run_dir).parameters())
    if is_classification(group_of(bundle)):
        check_probabilities(bundle, run_dir, dataset, tmp_path)
    else:
        check_labels(bundle, run_dir, tmp_path)


def deployed(dataset: str) -> ConfigParser:
    """A student's inference configuration at 32 pixels."""
    parser = ConfigParser(ConfigParser.load_config_file(f"bundles/student_{dataset}/configs/inference.yaml"))
    parser["image_size"] = 32
    return parser


def as_trained(dataset: str, *, slices: bool) -> bool:
    """Whether inference takes slices one at a time from a volume; Figshare's own .mat files are read in training only."""
    facts = load_facts(DATASETS[dataset], dataset)
    return dataset != "figshare" and slices == (facts.dims == 2 and not facts.classification)


@pytest.mark.parametrize("dataset", [d for d in DATASETS if as_trained(d, slices=False)])
def test_inference_sees_what_training_saw(dataset: str, trained: Trained) -> None:
    """Its stock transforms give the array that the project's evaluation gives, orientation and intensities included."""
    facts = load_facts(DATASETS[dataset], dataset)
    item = facts.reader(trained.data / dataset)[0]
    seen = deployed(dataset).get_parsed_content("preprocessing")({"image": item["image"]})["image"]
    ours = evaluation(facts, 32)(dict(item))["image"]
    np.testing.assert_array_equal(seen.numpy(), ours.numpy())
    if facts.dims == 3:
        np.testing.assert_allclose(seen.affine, ours.affine)


def test_a_radiograph_as_dicom_is_seen_as_its_picture_is(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (36, 48)).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "x.png")
    itk.imwrite(itk.image_from_array(pixels[None]), str(tmp_path / "x.dcm"))  # (slices, rows, columns)
    transform = deployed("kermany").get_parsed_content("preprocessing")
    picture, dicom = (transform({"image": str(tmp_path / name)})["image"] for name in ("x.png", "x.dcm"))
    assert picture.shape == dicom.shape == (1, 32, 32)
    np.testing.assert_allclose(dicom.numpy(), picture.numpy(), atol=1e-6)


@pytest.mark.parametrize("dataset", [d for d in DATASETS if as_trained(d, slices=True)])
def test_inference_sees_the_slices_that_training_saw(dataset: str, trained: Trained, tmp_path: Path) -> None:
    """Each slice of a volume is the array that evaluation gives of its file, and its prediction comes back the same way.

    The slices are of different brightness, and one is black.
    """
    facts = load_facts(DATASETS[dataset], dataset)
    pixels = np.random.default_rng(0).gamma(2, 20, (40, 36, 6)).clip(0, 255).astype(np.uint8)
    pixels = (pixels * [1, 0.5, 0.1, 0, 0.3, 1]).astype(np.uint8)
    Image.fromarray(np.zeros((36, 40), np.uint8)).save(mask := tmp_path / "mask.png")
    ours, back = [], []
    steps = evaluation(facts, 32)
    for index in range(pixels.shape[2]):
        file = tmp_path / f"{index}.png"
        Image.fromarray(pixels[..., index].T).save(file)  # a file's rows are y
        item = steps({"image": str(file), "label": str(mask)})
        ours.append(item["image"])
        back.append(restore(steps)(item | {"pred": torch.cat([0.5 - ours[-1], ours[-1] - 0.5])})["pred"])
    nibabel.save(nibabel.Nifti1Image(pixels, np.diag([1.5, 1.5, 8, 1])), tmp_path / "scan.nii.gz")
    parser = deployed(dataset)
    parser["input"] = str(tmp_path / "scan.nii.gz")
    data = parser.get_parsed_content("preprocessing")({"image": str(tmp_path / "scan.nii.gz")})
    np.testing.assert_allclose(data["image"].numpy(), torch.stack(ours, -1).numpy(), atol=1e-6)
    data["pred"] = torch.cat([0.5 - data["image"], data["image"] - 0.5])
    for step in parser.get_parsed_content("postprocessing").transforms[:-1]:  # but SaveImaged
        data = step(data)
    np.testing.assert_array_equal(data["pred"].numpy(), torch.stack(back, -1).numpy())
    np.testing.assert_allclose(data["pred"].affine, np.diag([1.5, 1.5, 8, 1]), atol=1e-6)


@pytest.mark.parametrize("name", ["cardiac", "pneumonia"])
def test_the_wide_variants_train(name: str, trained: Trained) -> None:
    group = next(path for path in GROUPS if path.stem == name)
    target, *sources = load_group(group)["datasets"]
    wide = trained.joint(target, cases=4, wide=True)
    facts = {"teacher": str(wide), "wide": True, "teacher_floor": 0, "target_cases": 4}
    soft = {"sources": [], "gamma": 0, "delta": 0} | ({} if is_classification(group) else {"beta": [0, 0]})
    for variant, own in (("distill_wide", {"sources": sources}), ("distill_soft", soft)):
        with mock.patch.object(RunKeeper, "drop_checkpoints"):  # they hold the adapters
            student = trained.train(f"student_{target}", "distill", variant, **facts, **own)
        folds = json.loads((student / "folds.json").read_text())
        assert len(folds["train"] + folds["val"]) == 4 and folds["unlabelled"]
        terms = set(json.loads((student / "history.json").read_text())["epochs"][0]["terms"])
        assert terms == {"task", "soft_output"} if variant == "distill_soft" else terms > {"task", "soft_output", "align"}
        module = torch.load(student / "checkpoints" / "last.pt", weights_only=True)["network"]
        assert any(key.startswith(("adapters", "pooled")) for key in module) == (
            variant == "distill_wide"
        )  # none where no term reads them


COMMANDS = [("teacher_lits", "train"), ("teacher_kits", "adapt"), ("joint_teacher_ct", "train"), ("student_lits", "train")]
COMMANDS += [("student_lits", "distill"), ("multi_head_ct", "train"), ("teacher_kermany", "train"), ("teacher_nih", "adapt")]
COMMANDS += [("joint_teacher_pneumonia", "train"), ("student_kermany", "train"), ("student_kermany", "distill")]
COMMANDS += [("multi_head_pneumonia", "train")]


def command(run_id: str, file: str, **facts: object) -> None:
    """As a user types it, in a process of its own."""
    words = [sys.executable, "-m", "monai.bundle", *arguments(run_id, file, **facts)]
    done = subprocess.run(
        words, cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.parametrize(("bundle", "config"), COMMANDS)
def test_the_real_command_line(bundle: str, config: str, trained: Trained, tmp_path: Path) -> None:
    file = f"bundles/{bundle}/configs/{config}.yaml"
    facts = {"data_dir": trained.data, "runs_dir": tmp_path, **tiny(file)}
    if bundle.startswith("joint_teacher_"):
        facts |= trained.joint_facts(next(iter(load_group(group_of(bundle))["datasets"])))
    if config == "distill":
        facts |= {"teacher": trained.teacher_of(bundle.removeprefix("student_")), "teacher_floor": 0}
    command("training", file, **facts)
    models = list(tmp_path.glob(f"{bundle}/*/0/model.pt"))
    assert len(models) == 1
    assert list(models[0].parent.glob("events/events.out.tfevents.*")), "TensorBoard is on by default"


def test_a_run_is_evaluated_and_deployed_by_the_real_command_line(trained: Trained, tmp_path: Path) -> None:
    run_dir = shutil.copytree(trained.train("student_kits", "train", "alone"), tmp_path / "student_kits" / "alone" / "0")
    facts = {"data_dir": trained.data, "run_dir": run_dir, "dataset": "kits"}
    command("evaluating", "bundles/student_kits/configs/evaluate.yaml", **facts)
    assert json.loads((run_dir / "test" / "kits" / "metrics.json").read_text())["units"]
    volume(tmp_path / "scan.nii.gz")
    facts = inferring("student_kits", run_dir, str(tmp_path / "*.nii.gz"), tmp_path / "out")
    command("inferring", "bundles/student_kits/configs/inference.yaml", **facts)
    assert nibabel.load(tmp_path / "out" / "scan_pred.nii.gz").shape == (30, 24, 7)
