# SPDX-License-Identifier: Apache-2.0
"""What the model zoo's CI and its guide for contributors demand, over every kind of exported bundle.

`meta_schema.json` restates the schema that the bundles name (meta_schema_20240725.json of MONAI's extra test data): the same
required keys and types, kept here because the tests may not download. The other rules are those of the zoo's
`ci/verify_bundle.py`, `ci/get_bundle_requirements.py`, `ci/unit_tests`, `.pre-commit-config.yaml` and `CONTRIBUTING.md`.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from importlib import metadata
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from monai.bundle import ConfigWorkflow, ckpt_export, load, verify_metadata, verify_net_in_out
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from common.export.card import full_metadata
from common.export.formats import TOLERANCE, bundled_code
from common.export.source import read_source
from common.networks import ViT

from .conftest import CARRIES, CLASSIFIES, KINDS, Exported

SCHEMA = Path(__file__).with_name("meta_schema.json")
LARGE = 25_000_000  # bytes; a larger file must be listed in large_files.yml and hosted elsewhere
ADDED = 1024 * 1024  # bytes; the limit of the pre-commit hook for what is not weights
STOCK = [kind for kind in KINDS if kind not in CARRIES]
TINY = {"max_epochs": 1, "logging_file": False}


@pytest.fixture(params=KINDS)
def bundle(request: pytest.FixtureRequest, exported: Exported, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder of a kind, importable as with PYTHONPATH at the bundle if it carries code."""
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])
    folder = exported.folders[request.param]
    if request.param not in CARRIES:
        yield folder
        return
    with bundled_code(folder):
        yield folder


def config(bundle: Path, name: str) -> dict:
    return json.loads((bundle / "configs" / f"{name}.json").read_text())


def own_files(bundle: Path) -> list[Path]:
    return sorted(path for path in bundle.rglob("*") if path.is_file() and "__pycache__" not in path.parts)


def test_necessary_and_preferred_files(bundle: Path) -> None:
    for name in ("configs/metadata.json", "LICENSE", "models/model.pt", "configs/inference.json", "docs/data_license.txt"):
        assert (bundle / name).stat().st_size > 0, name
    expected = {"LICENSE", "manifest.json", "configs", "docs", "models"} | ({"scripts"} if bundle.name in CARRIES else set())
    assert {path.name for path in bundle.iterdir()} == expected  # no eval/, no caches
    names = [path.name for path in bundle.glob("models/*.pt")]
    assert names == ["model.pt"]


def test_large_files_are_weights_of_large_networks(bundle: Path) -> None:
    """Of MedViT even the smallest is large; the command that exports names what must be hosted elsewhere."""
    for file in own_files(bundle):
        weights = file.parent.name == "models"
        assert file.stat().st_size <= (LARGE if weights else ADDED) or (weights and bundle.name == "student_adni"), file


def test_version_stands_in_the_changelog_and_sorts_as_text(bundle: Path) -> None:
    meta = config(bundle, "metadata")
    assert meta["version"] in meta["changelog"]
    assert re.fullmatch(r"\d\.\d\.\d", meta["version"])


def test_name_survives_the_hosting(bundle: Path) -> None:
    """Clients cut a published name at `_v<digits>`, and NGC lower-cases it."""
    assert re.split(r"_v\d*.", f"{bundle.name}_v1.0.0")[0] == bundle.name
    assert bundle.name == bundle.name.lower() and config(bundle, "metadata")["name"]


def test_metadata_follows_the_schema(bundle: Path, tmp_path: Path) -> None:
    local = tmp_path / "schema.json"
    local.write_text(SCHEMA.read_text())  # a file that exists is not downloaded
    verify_metadata(meta_file=str(bundle / "configs" / "metadata.json"), filepath=str(local))
    assert config(bundle, "metadata")["schema"].endswith("/meta_schema_20240725.json")


@pytest.mark.parametrize("key", json.loads(SCHEMA.read_text())["required"])
def test_the_schema_misses_what_is_left_out(exported: Exported, tmp_path: Path, key: str) -> None:
    """The local schema is one that refuses."""
    meta = config(exported.folders["student_lits"], "metadata")
    del meta[key]
    (tmp_path / "metadata.json").write_text(json.dumps(meta))
    (tmp_path / "schema.json").write_text(SCHEMA.read_text())
    with pytest.raises(ValueError):
        verify_metadata(meta_file=str(tmp_path / "metadata.json"), filepath=str(tmp_path / "schema.json"))


def test_tensors_are_described_whole(bundle: Path) -> None:
    formats = config(bundle, "metadata")["network_data_format"]
    keys = {"type", "format", "modality", "num_channels", "spatial_shape", "dtype", "value_range", "is_patch_data"}
    for tensor in (formats["inputs"]["image"], formats["outputs"]["pred"]):
        assert keys | {"channel_def"} == set(tensor)
        assert len(tensor["channel_def"]) == tensor["num_channels"]
        assert len(tensor["spatial_shape"]) == (1 if tensor["type"] == "probabilities" else 2)
    labels = [name.lower() for name in formats["outputs"]["pred"]["channel_def"].values()]
    assert (labels[0] == "background") == (bundle.name not in CLASSIFIES) and len(set(labels)) == len(labels)
    assert next(iter(formats["inputs"])) == "image" and next(iter(formats["outputs"])) == "pred"


def test_a_network_of_one_size_says_so(exported: Exported) -> None:
    """The zoo tries the shape that is stated; a vision transformer takes no other than its position embeddings'."""
    source = replace(read_source(exported.runs["student_nih"]), image_size=64)
    told = {"version": "1.0.0", "changelog": "first", "authors": "nobody"}
    vit = ViT(in_channels=1, out_channels=2, variant="test_vit", image_size=64)
    for network, shape in ((vit, [64, 64]), (source.network, ["32*n", "32*n"])):
        meta = full_metadata(replace(source, network=network), "x", **told)
        assert meta["network_data_format"]["inputs"]["image"]["spatial_shape"] == shape


def test_requirements_resolve_together(bundle: Path) -> None:
    """The CI installs each at the version named; MONAI's is of whole numbers, the last one not 9 (the CI's increment fails)."""
    meta = config(bundle, "metadata")
    assert [int(part) for part in meta["monai_version"].split(".")][-1] != 9
    assert meta["supported_apps"] == {}
    pins = {"monai": meta["monai_version"], "torch": meta["pytorch_version"], "numpy": meta["numpy_version"]}
    pins |= meta["required_packages_version"] | meta.get("optional_packages_version", {})
    for name, version in pins.items():
        assert re.fullmatch(r"\d+(\.\d+)*", version), f"{name} {version}"  # as on PyPI: no +cpu, no commit
        distribution = metadata.distribution(name)  # a distribution's name, not a module's
        assert distribution.version.split("+")[0] == version
        for requirement in map(Requirement, distribution.requires or []):
            pin = pins.get(canonicalize_name(requirement.name))
            if pin and (requirement.marker is None or requirement.marker.evaluate({"extra": ""})):
                assert pin in requirement.specifier, f"{name} needs {requirement}"


def test_keys_of_the_guide(bundle: Path) -> None:
    inference, train = config(bundle, "inference"), config(bundle, "train")
    wanted = {"bundle_root", "device", "network_def", "inferer", "output_dir", "dataset_dir", "preprocessing", "postprocessing"}
    assert wanted <= set(inference)
    assert {"bundle_root", "device", "dataset_dir", "output_dir", "val_interval"} <= set(train)
    assert {"trainer", "dataset", "handlers", "inferer", "preprocessing"} <= set(train["train"])
    assert {"evaluator", "handlers", "dataset", "postprocessing", "key_metric"} <= set(train["validate"])
    assert "max_epochs" in train["train"]["trainer"] and "data" in train["train"]["dataset"]
    assert "data" in train["validate"]["dataset"]
    validation = next(h for h in train["train"]["handlers"] if h["_target_"].endswith("ValidationHandler"))
    assert validation["interval"] == "@val_interval"
    assert inference["bundle_root"] == train["bundle_root"] == "."  # no path of a person
    assert inference["network_def"] == train["network_def"]


def test_files_are_written_as_the_hooks_want(bundle: Path) -> None:
    names = set()
    for file in own_files(bundle):
        names.add(str(file.relative_to(bundle)).lower())
        if file.parent.name == "models":
            continue
        text = file.read_bytes().decode()
        assert text.endswith("\n") and not text.endswith("\n\n") and "\r" not in text and "\t" not in text, file
        assert all(line == line.rstrip() for line in text.splitlines()), file
        if file.suffix == ".json":
            assert text == json.dumps(json.loads(text), indent=4) + "\n", file
        if file.suffix == ".py":
            assert max(map(len, text.splitlines())) <= 120, file
        assert "PRIVATE KEY" not in text
    assert len(names) == len(own_files(bundle))  # no two differ in case only


@pytest.mark.parametrize("kind", CARRIES)
def test_carried_code_passes_the_zoos_linters(exported: Exported, kind: str) -> None:
    """flake8, isort and black at 120 columns, by the tool that this project has for them."""
    folder = str(exported.folders[kind] / "scripts")
    ruff = [sys.executable, "-m", "ruff"]
    for command in (["check", "--select", "E,F,W,I"], ["format", "--check"]):
        run = subprocess.run(
            [*ruff, *command, "--isolated", "--no-cache", "--line-length", "120", folder], capture_output=True, text=True
        )
        assert run.returncode == 0, run.stdout


def test_readme_has_the_sections_of_the_template(bundle: Path) -> None:
    text = (bundle / "docs" / "README.md").read_text()
    titles = [re.sub(r"[*#]", "", line).strip() for line in text.splitlines() if line.startswith("#")]
    order = ["Authors", "Tags", "Model Description", "Data", "Preprocessing", "Performance", "System Configuration"]
    assert [title for title in titles if title in order] == order
    assert {"Limitations", "References"} <= set(titles)
    carries = bundle.name in CARRIES
    assert ("PYTHONPATH" in text) == carries


def test_the_network_has_the_shapes_that_metadata_name(bundle: Path) -> None:
    files = {name: str(bundle / "configs" / f"{name}.json") for name in ("metadata", "inference")}
    verify_net_in_out("network_def", meta_file=files["metadata"], config_file=files["inference"], bundle_root=str(bundle))
    for n in (2, 3):
        verify_net_in_out(
            "network_def", meta_file=files["metadata"], config_file=files["inference"], bundle_root=str(bundle), n=n
        )


def test_the_checkpoint_exports_to_the_torchscript_beside_it(bundle: Path, tmp_path: Path) -> None:
    ckpt_export(
        "network_def",
        filepath=str(tmp_path / "verify_model.ts"),
        ckpt_file=str(bundle / "models" / "model.pt"),
        meta_file=str(bundle / "configs" / "metadata.json"),
        config_file=str(bundle / "configs" / "inference.json"),
        bundle_root=str(bundle),
    )
    theirs, ours = (torch.jit.load(str(file)).eval() for file in (tmp_path / "verify_model.ts", bundle / "models" / "model.ts"))
    image = torch.rand(2, 1, 32, 32)
    torch.testing.assert_close(theirs(image), ours(image), atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize("workflow", ["train", "inference"])
def test_load_gives_the_trained_weights(bundle: Path, exported: Exported, workflow: str) -> None:
    network = load(bundle.name, bundle_dir=str(bundle.parent), workflow_type=workflow, source="local")
    trained = torch.load(exported.runs[bundle.name] / "model.pt", weights_only=True)
    assert isinstance(network, torch.nn.Module)
    assert network.state_dict().keys() == trained.keys()
    for key, value in network.state_dict().items():
        assert torch.equal(value, trained[key]), key


def workflow_of(folder: Path, name: str, *, root: str | None, **override: object) -> ConfigWorkflow:
    """A workflow as the zoo's unit tests make it; without `root`, paths and bundle_root as written, for a run from inside."""
    where = Path(root) / "configs" if root else Path("configs")
    files = [str(where / "train.json"), str(where / "evaluate.json")] if name == "evaluate" else str(where / f"{name}.json")
    override |= {"bundle_root": root} if root else {}
    kind = "inference" if name == "inference" else "train"
    return ConfigWorkflow(
        config_file=files, meta_file=str(where / "metadata.json"), logging_file=False, workflow_type=kind, **override
    )


@pytest.mark.parametrize("name", ["train", "evaluate", "inference"])
def test_properties_are_complete(bundle: Path, exported: Exported, tmp_path: Path, name: str) -> None:
    folder = exported.copy(bundle.name, tmp_path)
    workflow = workflow_of(folder, name, root=str(folder))
    workflow.initialize()
    assert workflow.check_properties() == []


def check_inferred(folder: Path) -> None:
    if folder.name in CLASSIFIES:
        head, row = (folder / "eval" / "probabilities.csv").read_text().split()
        assert head == ",".join(("image", *CLASSIFIES[folder.name])) and Path(row.split(",")[0]).stem == "scan_5"
        assert sum(map(float, row.split(",")[1:])) == pytest.approx(1, abs=1e-5)
        return
    scan = nibabel.load(folder / "data" / "imagesTs" / "scan_5.nii.gz")
    label = nibabel.load(next(folder.glob("eval/**/scan_5*.nii.gz")))
    assert label.shape == scan.shape and set(np.unique(label.get_fdata())) <= {0, 1}
    np.testing.assert_allclose(label.affine, scan.affine, atol=1e-4)


@pytest.mark.parametrize("inside", [True, False], ids=["from inside", "from elsewhere"])
def test_train_evaluate_and_inference_run(
    bundle: Path, exported: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, inside: bool
) -> None:
    folder = exported.copy(bundle.name, tmp_path)
    monkeypatch.chdir(folder if inside else tmp_path)
    root = None if inside else str(folder)
    before = (folder / "models" / "model.pt").read_bytes()
    for name in ("inference", "train", "evaluate"):
        workflow = workflow_of(folder, name, root=root, **({"max_epochs": 1} if name != "inference" else {}))
        workflow.initialize()
        workflow.run()
        workflow.finalize()
        assert name != "inference" or (folder / "models" / "model.pt").read_bytes() == before
    check_inferred(folder)
    tuned = torch.load(folder / "models" / "model.pt", weights_only=True)
    assert tuned.keys() == torch.load(exported.runs[bundle.name] / "model.pt", weights_only=True).keys()
    assert (folder / "models" / "model.pt").read_bytes() != before
    assert list(folder.glob("eval/metrics.csv")), "evaluation writes its metrics"
    assert sorted(path.name for path in tmp_path.iterdir()) == [bundle.name]  # nothing is written beside the bundle


def test_the_readmes_commands_run_on_the_command_line(exported: Exported, tmp_path: Path) -> None:
    """A bundle with code, a real command line: fine-tuning from inside, segmentation from elsewhere with PYTHONPATH."""
    folder = exported.copy("student_trans", tmp_path)
    run = [sys.executable, "-m", "monai.bundle", "run"]
    quiet = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    inside = subprocess.run([*run, "--config_file", "configs/train.json", "--max_epochs", "1"], cwd=folder, **quiet)
    assert inside.returncode == 0, inside.stdout[-2000:]
    elsewhere = subprocess.run(
        [*run, "--config_file", f"{folder}/configs/inference.json", "--bundle_root", str(folder)],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(folder)},
        **quiet,
    )
    assert elsewhere.returncode == 0, elsewhere.stdout[-2000:]
    assert list(folder.glob("eval/**/scan_5*.nii.gz"))
