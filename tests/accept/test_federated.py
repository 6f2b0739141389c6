# SPDX-License-Identifier: Apache-2.0
"""A federation of two hospitals on this machine: NVFLARE's simulator fine-tunes an exported student for two rounds."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from environment import HERE, WORK
from monai.bundle import ConfigParser
from students import DATA, EXPORTED

ROOT = HERE.parents[1]
STUDENT = EXPORTED / "student_unet"
SITES = {"lits": 4, "kits": 2}  # dataset that the hospital holds, and how many of its volumes are training ones


def volumes(dataset: str) -> list[tuple[Path, Path]]:
    """Image and mask files of a phantom dataset, in order."""
    image, mask = {"lits": ("volume-", "segmentation-"), "kits": ("imaging", "segmentation")}[dataset]
    found = sorted(DATA.glob(f"{dataset}/**/{image}*.nii*"))
    return [(file, file.with_name(file.name.replace(image, mask))) for file in found]


def hospital(dataset: str, training: int, folder: Path) -> Path:
    """What a site prepares (docs/federated.md): its images with labels, data.json, and its copy of the bundle."""
    shutil.copytree(STUDENT, folder / STUDENT.name)
    (folder / "images").mkdir()
    items = []
    for number, (image, mask) in enumerate(volumes(dataset)[: training + 1]):
        scan = nibabel.load(mask)
        label = nibabel.Nifti1Image((np.asarray(scan.dataobj) == 2).astype(np.uint8), scan.affine)
        files = {"image": f"images/{number}.nii.gz", "label": f"images/{number}_label.nii.gz"}
        nibabel.save(nibabel.load(image), folder / files["image"])
        nibabel.save(label, folder / files["label"])
        items.append(files)
    (folder / "data.json").write_text(json.dumps({"training": items[:training], "validation": items[training:]}))
    return folder


def weights(file: Path) -> dict[str, torch.Tensor]:
    return torch.load(file, map_location="cpu", weights_only=True)


def federate(*arguments: str, expect: int = 0) -> str:
    """The output of scripts/federate.py."""
    command = [sys.executable, str(ROOT / "scripts" / "federate.py"), *arguments]
    run = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=900)
    assert run.returncode == expect, run.stdout[-4000:]
    return run.stdout


@pytest.fixture(scope="module")
def federation() -> Path:
    """The folder of a finished federation: a folder a hospital, and `out`."""
    folder = WORK / "federated"
    shutil.rmtree(folder, ignore_errors=True)
    sites = {name: hospital(name, training, folder / name) for name, training in SITES.items()}
    given = [word for name, place in sites.items() for word in ("--site", f"{name}={place}")]
    output = federate(str(STUDENT), "--out", str(folder / "out"), *given)
    assert output.rstrip().endswith(f"global model: {folder / 'out' / 'model.pt'}")
    return folder


def test_both_hospitals_took_part_in_both_rounds(federation: Path) -> None:
    (file,) = federation.glob("out/**/round_metrics.jsonl")
    rounds = [json.loads(line) for line in file.read_text().splitlines()]
    assert [entry["round"] for entry in rounds] == [0, 1]
    for entry in rounds:
        assert {site["name"]: site["weight"] for site in entry["sites"]} == SITES  # a step is a volume
        for site in entry["sites"]:
            (score,) = (metric["value"] for metric in site["metrics"] if metric["name"] == "score")
            assert 0 <= score <= 1


def test_the_global_model_is_the_mean_of_the_hospitals_weighted_by_their_steps(federation: Path) -> None:
    start, result = weights(STUDENT / "models" / "model.pt"), weights(federation / "out" / "model.pt")
    local = {name: weights(federation / name / STUDENT.name / "models" / "model_final.pt") for name in SITES}
    assert start.keys() == result.keys()
    learned = [key for key, value in start.items() if value.is_floating_point()]
    for key in learned:
        mean = sum(SITES[name] * local[name][key].double() for name in SITES) / sum(SITES.values())
        torch.testing.assert_close(result[key].double(), mean, rtol=1e-5, atol=1e-6)
    for other in (start, *local.values()):
        assert any(not torch.allclose(result[key], other[key], rtol=0, atol=1e-6) for key in learned)


def test_the_global_model_is_the_bundles_network(federation: Path) -> None:
    parser = ConfigParser()
    parser.read_config(str(STUDENT / "configs" / "inference.json"))
    network = parser.get_parsed_content("network_def")
    network.load_state_dict(weights(federation / "out" / "model.pt"), strict=True)
    with torch.no_grad():
        assert network.eval()(torch.rand(1, 1, 48, 48)).isfinite().all()


def test_no_image_leaves_its_hospital(federation: Path) -> None:
    """What the federation wrote holds no volume, and the server's model was not fine-tuned in place."""
    assert not list(federation.glob("out/**/*.nii*"))
    largest = max(file.stat().st_size for file in federation.glob("out/**/*") if file.is_file())
    assert largest < 4 * (STUDENT / "models" / "model.pt").stat().st_size + 1_000_000
    listed = json.loads((STUDENT / "manifest.json").read_text())["files"]
    assert "models/model_final.pt" not in listed and not (STUDENT / "models" / "model_final.pt").exists()


def test_a_job_for_real_sites_holds_no_path_of_this_machine(tmp_path: Path) -> None:
    sites = ["--site", "lits=/srv/federation", "--site", "kits=/data/federation"]
    federate(str(STUDENT), "--out", str(tmp_path), "--job", *sites)
    written = {str(file.relative_to(tmp_path / STUDENT.name)): file for file in tmp_path.rglob("*") if file.is_file()}
    configs = {name: file.read_text() for name, file in written.items() if name.endswith(".json")}
    assert "--bundle /srv/federation/student_unet --data /srv/federation/data.json" in "".join(configs.values())
    assert not [name for name, text in configs.items() if str(ROOT) in text or str(WORK) in text]
    assert {"app_lits/custom/federated_client.py", "app_kits/custom/federated_client.py"} <= set(written)
    assert weights(written["app_server/custom/model.pt"]).keys() == weights(STUDENT / "models" / "model.pt").keys()


@pytest.mark.parametrize(
    ("arguments", "culprit"),
    [
        ([str(STUDENT), "--site", "lits=/srv/a"], "at least two"),
        ([str(STUDENT), "--site", "lits=/srv/a", "--site", "kits=/srv/b c"], "has a space"),
        ([str(DATA), "--site", "lits=/srv/a", "--site", "kits=/srv/b"], "no exported bundle"),
    ],
)
def test_a_wrong_federation_is_refused_in_one_line(tmp_path: Path, arguments: list[str], culprit: str) -> None:
    output = federate(*arguments, "--out", str(tmp_path / "out"), expect=1)
    (line,) = output.strip().splitlines()[-1:]
    assert line.startswith("error: ") and culprit in line
    assert not (tmp_path / "out").exists()
