# SPDX-License-Identifier: Apache-2.0
"""Evaluation and inference of a classifier, as `monai.bundle.run` runs them, on images and on volumes."""

import csv
import json
import shutil
from pathlib import Path

import monai.bundle
import nibabel
import numpy as np
import pytest
import torch
import yaml
from monai.bundle import ConfigParser
from PIL import Image

from common.bundle_files import join_recipe
from common.data.facts import load_facts
from common.data.fold import list_items, split_items
from common.data.transforms import MODES, evaluation, inferer
from common.errors import root_cause
from common.networks import EfficientNet
from common.runs import from_run

ROOT = Path(__file__).parents[2]
RECIPES = ROOT / "common" / "recipes"
NETWORK = {"_target_": "common.networks.EfficientNet", "in_channels": 1, "out_channels": 2}
FACTS = {
    "xray": {"percentiles": [1, 99], "dims": 2},
    "brain": {"window": [0, 200], "orientation": "RAS", "slice_axis": 1, "middle_share": 0.5},
}


def write_image(path: Path, values: np.ndarray) -> None:
    if path.suffix == ".png":
        Image.fromarray(values[0].astype(np.uint8)).save(path)
    else:
        affine = np.array([[0, -1.5, 0, 10], [0, 0, 3.0, -5], [1.2, 0, 0, 7], [0, 0, 0, 1.0]])
        nibabel.save(nibabel.Nifti1Image(values.astype(np.float32), affine), path)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A group of two tables: 2-D radiographs, one of them RGB, and head volumes; and an untrained run of each."""
    root = tmp_path_factory.mktemp("classification")
    entries = {}
    rng = np.random.default_rng(0)
    for name, facts in FACTS.items():
        suffix = ".png" if facts.get("dims") == 2 else ".nii.gz"
        folder = root / "data" / name
        folder.mkdir(parents=True)
        with (folder / "index.csv").open("w") as file:
            file.write("image,case_id,volume,label\n")
            for k in range(10):
                shape = (1, 40, 36) if suffix == ".png" else (20, 12, 16)
                write_image(folder / f"{k}{suffix}", rng.integers(0, 200, shape))
                file.write(f"{k}{suffix},p{k},{k},{'sick' if k % 2 else 'well'}\n")
        if suffix == ".png":
            with Image.open(folder / "3.png") as picture:
                picture.convert("RGB").save(folder / "3.png")
        entries[name] = facts | {"classes": {"normal": ["well"], "ill": ["sick"]}, "label_values": ["well", "sick"]}
    group = {"group": "heads", "task": "classification", "preset": "demo", "datasets": entries}
    (root / "heads.yaml").write_text(yaml.safe_dump(group, sort_keys=False))
    for name in FACTS:
        facts_of = load_facts(root / "heads.yaml", name)
        split = split_items(facts_of, list_items(facts_of, root / "data"), fold=0)._asdict()
        run = root / "runs" / name
        run.mkdir(parents=True)
        torch.manual_seed(0)
        torch.save(EfficientNet(in_channels=1, out_channels=2).state_dict(), run / "model.pt")
        for file, value in (
            ("network", NETWORK),
            ("config", {"seed": 0, "image_size": 32}),
            ("folds", split | {"datasets": {name: split}}),
        ):
            (run / f"{file}.json").write_text(json.dumps(value))
    return root


def bundle(place: Path, name: str, recipe: str, facts: dict[str, object]) -> str:
    """The file of a configuration: facts, then the recipe."""
    root = place / name
    fixed = {"bundle": name, "bundle_root": str(root), "run_dir": str(place / "runs" / name)}
    path = root / "configs" / f"{recipe}.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(join_recipe(yaml.safe_dump(fixed | facts), f"{recipe}_classification"))
    return str(path)


@pytest.fixture(autouse=True)
def in_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    torch.set_num_threads(1)


def predicted(place: Path, dataset: str) -> dict[str, np.ndarray]:
    """File -> probabilities, by the project's own transforms and inferer."""
    facts = load_facts(place / "heads.yaml", dataset)
    network, found = from_run(place / "runs" / dataset), {}
    for item in facts.reader(place / "data" / dataset):
        image = evaluation(facts, 32)(dict(item))["image"].as_tensor()[None]
        with torch.no_grad():
            found[str(item["image"])] = inferer(facts, 32)(image, network).softmax(1)[0].numpy()
    return found


@pytest.mark.parametrize("dataset", FACTS)
def test_evaluation_writes_the_metrics_of_the_test_patients(place: Path, dataset: str) -> None:
    facts = {"group_file": str(place / "heads.yaml"), "dataset": dataset}
    file = bundle(place, dataset, "evaluate", facts)
    monai.bundle.run(run_id="evaluating", config_file=file, data_dir=str(place / "data"))
    result = json.loads((place / "runs" / dataset / "test" / dataset / "metrics.json").read_text())
    test = json.loads((place / "runs" / dataset / "folds.json").read_text())["test"]
    assert [row["case"] for row in result["units"]] == test
    assert (result["task"], result["classes"], result["dataset"]) == ("classification", ["normal", "ill"], dataset)
    expected = predicted(place, dataset)
    for row in result["units"]:
        assert row["label"] == int(row["case"][-1]) % 2
        np.testing.assert_allclose(row["probabilities"], expected[str(place / "data" / dataset / row["image"])], atol=1e-5)
    assert np.sum(result["confusion"]) == len(test)
    assert result["parameters"] == sum(p.numel() for p in EfficientNet(in_channels=1, out_channels=2).parameters())


def deployed(dataset: str) -> dict[str, object]:
    """What an inference configuration states of its dataset."""
    scale = {"keys": "image", "b_min": 0.0, "b_max": 1.0, "clip": True}
    name = "monai.transforms.ScaleIntensityRange"
    if dataset == "xray":
        intensity = {"_target_": f"{name}Percentilesd", "lower": 1, "upper": 99} | scale
        return {"orientation": None, "slice_axis": None, "spatial_size": [32, 32], "middle": None, "intensity": intensity}
    intensity = {"_target_": f"{name}d", "a_min": 0, "a_max": 200} | scale
    crop = {"orientation": "RAS", "slice_axis": 1, "middle": [1.0, 0.5, 1.0]}
    return crop | {"spatial_size": [32, -1, 32], "intensity": intensity}


@pytest.mark.parametrize(("dataset", "pattern"), [("xray", "*.png"), ("brain", "*.nii.gz")])
def test_inference_writes_a_table_of_probabilities(place: Path, dataset: str, pattern: str, tmp_path: Path) -> None:
    facts = {"classes": ["normal", "ill"], "head": dataset, "network_def": NETWORK, "input": "none"} | deployed(dataset)
    file, images = bundle(place, dataset, "inference", facts), place / "data" / dataset / pattern
    for _ in range(2):  # the second run replaces the first one's table
        monai.bundle.run(run_id="inferring", config_file=file, input=str(images), output_dir=str(tmp_path / "out"))
    with (tmp_path / "out" / "probabilities.csv").open() as file:
        rows = list(csv.DictReader(file))
    expected = predicted(place, dataset)
    assert [row["image"] for row in rows] == sorted(expected)
    for row in rows:
        np.testing.assert_allclose([float(row["normal"]), float(row["ill"])], expected[row["image"]], atol=1e-5)


@pytest.mark.parametrize("dataset", FACTS)
def test_inference_sees_what_evaluation_saw(place: Path, dataset: str) -> None:
    facts = load_facts(place / "heads.yaml", dataset)
    parser = ConfigParser(ConfigParser.load_config_file(str(RECIPES / "inference_classification.yaml")) | deployed(dataset))
    transform = parser.get_parsed_content("preprocessing")
    for item in facts.reader(place / "data" / dataset)[:4]:
        ours = evaluation(facts, 32)(dict(item))["image"]
        np.testing.assert_array_equal(transform({"image": item["image"]})["image"].numpy(), ours.numpy())


@pytest.mark.parametrize("mode", ["P", "CMYK", "LA"])
def test_a_picture_in_any_mode_is_classified_by_its_grey(place: Path, mode: str, tmp_path: Path) -> None:
    """Training refuses modes whose numbers are no intensities; who deploys sees the picture that it shows."""
    grey = Image.fromarray(np.add.outer(np.arange(40), np.arange(36)).astype(np.uint8) * 3)
    grey.save(tmp_path / "grey.png")
    shown = {
        "P": grey.convert("RGB").quantize(256, dither=Image.Dither.NONE),  # in a palette's own order
        "CMYK": grey.convert("CMYK"),
        "LA": Image.merge("LA", [grey, grey.point(lambda value: 255 - value)]),
    }[mode]
    shown.save(path := tmp_path / f"x.{'tif' if mode == 'CMYK' else 'png'}")
    with Image.open(path) as again:
        assert again.mode == mode
    recipe = ConfigParser.load_config_file(str(RECIPES / "inference_classification.yaml"))
    assert f"picture.mode in {MODES} else" in recipe["preprocessing"]["transforms"][0]["reader"]  # those that training reads
    parser = ConfigParser(recipe | deployed("xray"))
    transform = parser.get_parsed_content("preprocessing")
    image, expected = (transform({"image": str(file)})["image"].numpy() for file in (path, tmp_path / "grey.png"))
    np.testing.assert_allclose(image, expected, atol=0.02)


def test_file_names_with_commas_and_quotes_stay_one_cell(place: Path, tmp_path: Path) -> None:
    names = ["Doe, John.png", 'a "b".png']
    for name in names:
        shutil.copy(place / "data" / "xray" / "0.png", tmp_path / name)
    facts = {"classes": ["normal", "ill"], "head": "xray", "network_def": NETWORK, "input": "none"} | deployed("xray")
    file = bundle(place, "xray", "inference", facts)
    monai.bundle.run(run_id="inferring", config_file=file, input=f"{tmp_path}/*.png", output_dir=str(tmp_path / "out"))
    with (tmp_path / "out" / "probabilities.csv").open() as table:
        rows = list(csv.DictReader(table))
    assert [row["image"] for row in rows] == sorted(str(tmp_path / name) for name in names)
    assert all(float(row["normal"]) + float(row["ill"]) == pytest.approx(1, abs=1e-5) for row in rows)


def test_a_volume_of_several_channels_is_refused(place: Path, tmp_path: Path) -> None:
    nibabel.save(nibabel.Nifti1Image(np.zeros((20, 12, 16, 3), np.uint8), np.eye(4)), tmp_path / "x.nii.gz")
    facts = {"classes": ["normal", "ill"], "head": "brain", "network_def": NETWORK, "input": "none"} | deployed("brain")
    file = bundle(place, "brain", "inference", facts)
    with pytest.raises(RuntimeError) as error:
        monai.bundle.run(run_id="inferring", config_file=file, input=f"{tmp_path}/*.nii.gz", output_dir=str(tmp_path / "out"))
    assert "x.nii.gz has the shape (20, 12, 16, 3); 3 dimensions and one channel are expected" in str(root_cause(error.value))


def test_recipes_of_both_tasks_differ_in_what_the_tasks_differ_in() -> None:
    own = {
        "evaluate": {"imports", "postprocessing", "handlers"},
        "inference": {"imports", "preprocessing", "inferer", "slice_mean", "postprocessing", "handlers"} | {"inferring"},
    }
    for name, keys in own.items():
        files = (RECIPES / f"{name}_{task}.yaml" for task in ("classification", "segmentation"))
        ours, theirs = (yaml.safe_load(file.read_text()) for file in files)
        for key in (set(ours) | set(theirs)) - keys:
            assert ours[key] == theirs[key], (name, key)
