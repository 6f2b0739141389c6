# SPDX-License-Identifier: Apache-2.0
"""Every bundle: parses, has the required properties, is in step with its recipes, trains, evaluates and infers."""

import json
import os
import subprocess
import sys
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
import yaml
from monai.bundle import ConfigParser, ConfigWorkflow

from common.bundle_files import join_recipe, split_recipe
from common.data.facts import load_facts, load_group
from common.data.transforms import evaluation
from common.phantoms.layouts import write_dataset
from common.runs import from_run

ROOT = Path(__file__).parents[2]
GROUPS = sorted(path for path in (ROOT / "bundles").glob("*.yaml") if "datasets" in yaml.safe_load(path.read_text()))
CONFIGS = sorted((ROOT / "bundles").glob("*/configs/*.yaml"))
BUNDLES = sorted({path.parents[1].name for path in CONFIGS})
TINY = {"image_size": 32, "max_epochs": 1, "epoch_length": 1, "batch_size": 2, "seed": 0}
NETWORK = {"unet::features": [4, 4, 8, 8, 8, 4]}


def test_there_are_bundles_for_every_dataset_and_group() -> None:
    expected = set()
    for path in GROUPS:
        expected |= {f"{role}_{d}" for d in load_group(path)["datasets"] for role in ("teacher", "student")}
        expected |= {f"joint_teacher_{path.stem}", f"multi_head_{path.stem}"}
    assert set(BUNDLES) == expected
    assert {"ct", "mri", "cardiac"} <= {path.stem for path in GROUPS}


@pytest.mark.parametrize("path", CONFIGS, ids=lambda p: f"{p.parents[1].name}/{p.stem}")
def test_the_tail_of_a_configuration_is_its_recipe(path: Path) -> None:
    head, recipe, _ = split_recipe(path.read_text())
    assert path.read_text() == join_recipe(head, recipe), "run `make sync`"
    assert not set(yaml.safe_load(head)) & set(yaml.safe_load(join_recipe("", recipe))), "a key is both fact and recipe"


def execute(run_id: str, config_file: str, **overrides: object) -> None:
    """What monai.bundle.run does, and between its steps the check of the required properties."""
    kind = "train" if run_id == "training" else "infer"
    workflow = ConfigWorkflow(config_file, run_id=run_id, workflow_type=kind, logging_file=False, **overrides)
    workflow.initialize()
    assert workflow.check_properties() == []
    workflow.run()
    workflow.finalize()


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data")
    for path in GROUPS:
        for dataset in load_group(path)["datasets"]:
            write_dataset(dataset, root, cases=8, size=32, slices=6, seed=1)
    return root


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(autouse=True)
def from_the_checkout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


def train(bundle: str, config: str, data: Path, runs: Path, variant: str, **facts: object) -> Path:
    run_dir = runs / bundle / variant / "0"
    if not (run_dir / "model.pt").exists():
        network = {} if bundle.startswith("joint") else NETWORK
        places = {"data_dir": str(data), "runs_dir": str(runs), "variant": variant}
        file = f"bundles/{bundle}/configs/{config}.yaml"
        execute("training", file, **places, **TINY, **network, **facts)
    assert (run_dir / "model.pt").exists()
    return run_dir


def teacher_runs(group: Path, data: Path, runs: Path) -> tuple[str, list[str]]:
    target, *sources = load_group(group)["datasets"]
    teachers = [train(f"teacher_{target}", "train", data, runs, "alone")]
    teachers += [train(f"teacher_{s}", "adapt", data, runs, f"for_{target}", target=target) for s in sources]
    return target, [str(t) for t in teachers]


def joint_run(group: Path, data: Path, runs: Path, **facts: object) -> Path:
    target, teachers = teacher_runs(group, data, runs)
    variant = f"{'wide_' if facts.get('wide') else ''}for_{target}"
    bundle = f"joint_teacher_{group.stem}"
    return train(bundle, "train", data, runs, variant, target=target, teachers=teachers, teacher_floor=0, **facts)


def group_of(bundle: str) -> Path:
    name = bundle.split("_", 1)[1]
    for path in GROUPS:
        if name in load_group(path)["datasets"] or bundle.endswith(f"_{path.stem}"):
            return path
    raise AssertionError(f"{bundle} is of no group")


def trained(bundle: str, data: Path, runs: Path) -> tuple[Path, str]:
    """A run of the bundle by its last stage, and the dataset it is tested on."""
    group = group_of(bundle)
    role, dataset = bundle.split("_", 1)
    if role == "teacher":
        return train(bundle, "train", data, runs, "alone"), dataset
    if role == "student":
        train(bundle, "train", data, runs, "alone")
        teacher = str(joint_run(group, data, runs))
        return train(bundle, "distill", data, runs, "distill", teacher=teacher, teacher_floor=0), dataset
    target, *sources = load_group(group)["datasets"]
    if role == "joint":
        return joint_run(group, data, runs), target
    return train(bundle, "train", data, runs, f"for_{target}", target=target, sources=sources), target


def volume(path: Path, seed: int) -> np.ndarray:
    """A NIfTI of three different axis lengths, rotated and flipped against the axes of the body."""
    values = np.random.default_rng(seed).normal(100, 60, (30, 24, 7)).astype(np.float32)
    affine = np.array([[0, -1.5, 0, 10], [0, 0, 3.0, -5], [1.2, 0, 0, 7], [0, 0, 0, 1.0]])
    nibabel.save(nibabel.Nifti1Image(values, affine), path)
    return affine


@pytest.mark.parametrize("bundle", BUNDLES)
def test_a_bundle_trains_evaluates_and_infers(bundle: str, data: Path, runs: Path, tmp_path: Path) -> None:
    run_dir, dataset = trained(bundle, data, runs)
    configs = f"bundles/{bundle}/configs"
    common = {"run_dir": str(run_dir), "image_size": 32}
    execute("evaluating", f"{configs}/evaluate.yaml", data_dir=str(data), dataset=dataset, **common)
    report = json.loads((run_dir / "test" / dataset / "metrics.json").read_text())
    cases = json.loads((run_dir / "folds.json").read_text())["datasets"][dataset]["test"]
    assert {row["case"] for row in report["units"]} == set(cases)
    assert report["parameters"] == sum(p.numel() for p in from_run(run_dir).parameters())

    affine = volume(tmp_path / "scan.nii.gz", seed=3)
    network = {"network_def::features": NETWORK["unet::features"]} if bundle.startswith("student") else {}
    axis = yaml.safe_load(Path(f"{configs}/inference.yaml").read_text())["slice_axis"]
    size = [32, 32, 32]
    size[axis] = -1
    execute(
        "inferring",
        f"{configs}/inference.yaml",
        input=str(tmp_path / "*.nii.gz"),
        output_dir=str(tmp_path / "out"),
        run_dir=str(run_dir),
        spatial_size=size,
        **network,
    )
    label = nibabel.load(tmp_path / "out" / "scan_pred.nii.gz")
    assert label.shape == (30, 24, 7)
    np.testing.assert_allclose(label.affine, affine, atol=1e-4)
    assert set(np.unique(np.asarray(label.dataobj))) <= set(range(report_channels(run_dir)))


def report_channels(run_dir: Path) -> int:
    with torch.no_grad():
        return from_run(run_dir)(torch.zeros(1, 1, 32, 32)).shape[1]


@pytest.mark.parametrize("group", [g for g in GROUPS if "module" in g.read_text()], ids=lambda g: g.stem)
def test_inference_sees_what_training_saw(group: Path, data: Path) -> None:
    """Its stock transforms give the array that the project's evaluation gives, orientation and intensities included."""
    for dataset in load_group(group)["datasets"]:
        facts = load_facts(group, dataset)
        item = facts.reader(data / dataset)[0]
        parser = ConfigParser(ConfigParser.load_config_file(f"bundles/student_{dataset}/configs/inference.yaml"))
        parser["spatial_size"] = [32, 32, -1]
        deployed = parser.get_parsed_content("preprocessing")({"image": item["image"]})["image"]
        ours = evaluation(facts, 32)(dict(item))["image"]
        np.testing.assert_array_equal(deployed.numpy(), ours.numpy())
        np.testing.assert_allclose(deployed.affine, ours.affine)


def test_the_wide_variants_train(data: Path, runs: Path) -> None:
    group = next(path for path in GROUPS if path.stem == "cardiac")
    target, *sources = load_group(group)["datasets"]
    wide = joint_run(group, data, runs, wide=True, sources=sources)
    student = train(
        f"student_{target}", "distill", data, runs, "distill_wide",
        teacher=str(wide), sources=sources, wide=True, teacher_floor=0, target_cases=3,
    )  # fmt: skip
    folds = json.loads((student / "folds.json").read_text())
    assert len(folds["train"] + folds["val"]) == 3 and folds["unlabelled"]


@pytest.mark.parametrize(
    ("bundle", "config"),
    [("teacher_lits", "train"), ("teacher_kits", "adapt"), ("student_lits", "train"), ("multi_head_ct", "train")],
)
def test_the_real_command_line(bundle: str, config: str, data: Path, tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "monai.bundle",
        "run",
        "training",
        "--config_file",
        f"bundles/{bundle}/configs/{config}.yaml",
    ]
    facts = {"data_dir": data, "runs_dir": tmp_path, **TINY, "unet::features": "[4,4,8,8,8,4]"}
    command += [part for key, value in facts.items() for part in (f"--{key}", str(value))]
    done = subprocess.run(
        command, cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    models = list(tmp_path.glob(f"{bundle}/*/0/model.pt"))
    assert len(models) == 1
    assert list(models[0].parent.glob("events/events.out.tfevents.*")), "TensorBoard is on by default"
