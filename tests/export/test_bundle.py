# SPDX-License-Identifier: Apache-2.0
"""What an export holds, what it must not hold, and what is refused."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from monai.bundle import ConfigParser

from common.export import bundle as exporter
from common.export import export_bundle, formats
from common.runs import from_run

from .conftest import CARRIES, CLASSIFIES, KINDS, ROOT, Exported


@pytest.fixture(autouse=True)
def from_the_checkout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


def contents(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Every file, and every record of every archive, uncompressed."""
    for file in sorted(folder.rglob("*")):
        if file.is_file():
            yield str(file.relative_to(folder)), file.read_bytes()
        if file.is_file() and zipfile.is_zipfile(file):
            with zipfile.ZipFile(file) as archive:
                yield from ((f"{file.name}!{name}", archive.read(name)) for name in archive.namelist())


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_of_the_training_machine_or_its_patients_leaves(exported: Exported, kind: str) -> None:
    run = exported.runs[kind]
    folds = json.loads((run / "folds.json").read_text())["datasets"]
    cases = {case for split in folds.values() for part in split.values() for case in part}
    assert cases
    secrets = cases | {case.split("/", 1)[1] for case in cases if len(case.split("/", 1)[1]) > 3}
    secrets |= {str(ROOT), str(Path.home()), str(exported.phantoms), str(run.parents[2]), "site-packages"}
    for name, data in contents(exported.folders[kind]):
        for secret in secrets:
            assert secret.encode() not in data, (name, secret)


def test_what_is_planted_in_a_run_does_not_leave(exported: Exported, tmp_path: Path) -> None:
    run = Path(shutil.copytree(exported.runs["student_lits"], tmp_path / "run"))
    for name in ("config.json", "history.json", "test/lits/metrics.json"):
        value = json.loads((run / name).read_text())
        for unit in value.get("units", []):
            unit["case"] = "lits/MRN-4711"
        (run / name).write_text(json.dumps(value | {"note": "/ward-7/MRN-4711", "run": "/ward-7/runs"}))
    folds = json.loads((run / "folds.json").read_text())
    folds["datasets"]["lits"]["train"] = ["lits/MRN-4711"]
    (run / "folds.json").write_text(json.dumps(folds))
    export(exported, tmp_path / "liver", run)
    for name, data in contents(tmp_path / "liver"):
        assert b"MRN-4711" not in data and b"/ward-7" not in data, name


@pytest.mark.parametrize("kind", KINDS)
def test_the_manifest_names_every_file(exported: Exported, kind: str) -> None:
    folder = exported.folders[kind]
    listed = json.loads((folder / "manifest.json").read_text())["files"]
    present = {f.relative_to(folder).as_posix() for f in folder.rglob("*") if f.is_file()} - {"manifest.json"}
    assert set(listed) == present
    for name, digest in listed.items():
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == digest


@pytest.mark.parametrize("kind", KINDS)
def test_the_weights_are_the_runs_in_a_stock_class_or_in_carried_code(exported: Exported, kind: str) -> None:
    folder = exported.folders[kind]
    definition = json.loads((folder / "configs" / "inference.json").read_text())["network_def"]
    stock = "timm.create_model" if kind in CLASSIFIES else "monai.networks.nets.BasicUNet"
    assert definition["_target_"].startswith("scripts.") if kind in CARRIES else definition["_target_"] == stock
    assert (folder / "scripts").exists() == (kind in CARRIES)
    assert json.loads((folder / "configs" / "train.json").read_text())["network_def"] == definition
    network = from_run(exported.runs[kind])
    weights = torch.load(folder / "models" / "model.pt", weights_only=True)
    assert weights.keys() == network.state_dict().keys()
    image = torch.rand(2, 1, 32, 32)
    with formats.bundled_code(folder), torch.no_grad():
        built = ConfigParser({"network_def": definition}).get_parsed_content("network_def")
        built.load_state_dict(weights, strict=True)
        torch.testing.assert_close(built.eval()(image), network(image), atol=1e-4, rtol=0)


@pytest.mark.parametrize("kind", ["student_lits", "student_nih"])
def test_training_reads_each_file_once(exported: Exported, tmp_path: Path, kind: str) -> None:
    folder = exported.copy(kind, tmp_path)
    parser = ConfigParser()
    parser.read_config(folder / "configs" / "train.json")
    parser["bundle_root"] = str(folder)
    dataset = parser.get_parsed_content("train#dataset")

    def draw() -> torch.Tensor:
        item = dataset[0]
        return (item[0] if isinstance(item, list) else item)["image"]  # of a volume come several slices

    first = draw()
    shutil.rmtree(folder / "data")
    again = draw()
    assert again.shape == first.shape and not torch.equal(again, first)  # augmented anew


def test_figures_in_the_readme_are_the_runs(exported: Exported) -> None:
    mean = json.loads((exported.runs["student_lits"] / "test" / "lits" / "metrics.json").read_text())["mean"]
    text = (exported.folders["student_lits"] / "docs" / "README.md").read_text()
    for value in mean.values():
        assert f"| {value:.3f} |" in text
    assert "LiTS 2017" in text and "KiTS19" in text


def test_the_command_names_the_files_that_the_zoo_wants_hosted_elsewhere(exported: Exported, tmp_path: Path) -> None:
    command = [sys.executable, "scripts/export_bundle.py", str(exported.runs["student_adni"])]
    command += ["--out", str(tmp_path / "memory")]
    run = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert run.returncode == 0, run.stdout
    for file in (tmp_path / "memory" / "models").iterdir():
        assert f"{file} has {file.stat().st_size / 1e6:.0f} MB" in run.stdout and "large_files.yml" in run.stdout


def test_data_licences_are_those_of_all_data_that_taught_it(exported: Exported) -> None:
    student = (exported.folders["student_lits"] / "docs" / "data_license.txt").read_text()
    assert "CC BY-NC-ND 4.0" in student and "CC BY-NC-SA 4.0" in student
    teacher = (exported.folders["teacher_lits"] / "docs" / "data_license.txt").read_text()
    assert "CC BY-NC-ND 4.0" in teacher and "CC BY-NC-SA 4.0" not in teacher


def export(exported: Exported, out: Path, run: Path | None = None, **options: str) -> None:
    export_bundle(run or exported.runs["student_lits"], out, **options)


@pytest.mark.parametrize(
    ("name", "culprit"),
    [
        ("liver_vessel", "_v"),
        ("student_v2", "_v"),
        ("my-student", "my-student"),
        ("2nd", "2nd"),
        ("liver_detection", "detection"),
        ("deepedit_liver", "deepedit"),
    ],
)
def test_a_name_that_clients_mangle_is_refused(exported: Exported, tmp_path: Path, name: str, culprit: str) -> None:
    with pytest.raises(ValueError, match=culprit):
        export(exported, tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_a_name_that_differs_in_case_only_is_refused(exported: Exported, tmp_path: Path) -> None:
    (tmp_path / "Liver").mkdir()
    with pytest.raises(ValueError, match="Liver"):
        export(exported, tmp_path / "liver")


@pytest.mark.parametrize("version", ["1.0", "0.10.0", "1.0.0rc1", "v1.0.0"])
def test_a_version_that_clients_sort_wrongly_is_refused(exported: Exported, tmp_path: Path, version: str) -> None:
    with pytest.raises(ValueError, match="--version"):
        export(exported, tmp_path / "liver", version=version)


def test_an_existing_folder_is_left_alone(exported: Exported, tmp_path: Path) -> None:
    (tmp_path / "liver").mkdir()
    (tmp_path / "liver" / "mine.txt").write_text("kept")
    with pytest.raises(FileExistsError, match="liver exists"):
        export(exported, tmp_path / "liver")
    assert (tmp_path / "liver" / "mine.txt").read_text() == "kept"


def broken(exported: Exported, tmp_path: Path, change: str) -> Path:
    run = Path(shutil.copytree(exported.runs["student_lits"], tmp_path / "run"))
    match change:
        case "missing":
            shutil.rmtree(run)
        case "unfinished":
            (run / "model.pt").unlink()
        case "half-written":
            (run / "model.pt").write_bytes((run / "model.pt").read_bytes()[:1000])
        case "another network":
            shutil.copyfile(exported.runs["student_trans"] / "model.pt", run / "model.pt")
        case "other weights":
            shutil.copyfile(exported.runs["teacher_lits"] / "model.pt", run / "model.pt")
        case "no record":
            (run / "config.json").write_text('{"seed": 0}')
        case "not evaluated":
            shutil.rmtree(run / "test")
        case "torn metrics":
            (run / "test" / "lits" / "metrics.json").write_text('{"mean": ')
        case "a bundle":
            return ROOT / "bundles" / "student_lits"
    return run


@pytest.mark.parametrize(
    ("change", "culprit"),
    [
        ("missing", "does not exist"),
        ("unfinished", "model.pt"),
        ("half-written", "damaged"),
        ("another network", "architecture"),
        ("other weights", "figures of other weights"),
        ("no record", r"config\.json is damaged \(no group_file"),
        ("not evaluated", "Evaluate the run first"),
        ("torn metrics", "metrics.json"),
        ("a bundle", "a bundle, not a run"),
    ],
)
def test_a_run_that_cannot_leave_is_refused(exported: Exported, tmp_path: Path, change: str, culprit: str) -> None:
    run = broken(exported, tmp_path, change)
    with pytest.raises((ValueError, FileNotFoundError), match=culprit):
        export(exported, tmp_path / "out" / "liver", run)
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())


def test_formats_that_disagree_are_refused(exported: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(network: torch.nn.Module, *arguments: object) -> None:
        with torch.no_grad():
            next(network.parameters()).mul_(1.5)
        formats.write_torchscript(network, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(exporter, "write_torchscript", wrong)
    with pytest.raises(ValueError, match=r"model\.ts differs"):
        export(exported, tmp_path / "liver")
    assert not list(tmp_path.iterdir())


def test_a_full_disk_leaves_nothing(exported: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(exporter, "write_onnx", full)
    with pytest.raises(OSError, match="No space left on device"):
        export(exported, tmp_path / "liver")
    assert not list(tmp_path.iterdir())


def test_classes_that_differ_in_case_only_are_refused() -> None:
    meta = {"network_data_format": {"outputs": {"pred": {"channel_def": {"0": "background", "1": "LV", "2": "lv"}}}}}
    with pytest.raises(ValueError, match="lv"):
        exporter._check_labels(meta)
