# SPDX-License-Identifier: Apache-2.0
"""What a hostile bundle hides is reported, none of it runs, and what we export has nothing to report."""

import contextlib
import json
import re
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import inspect_bundle
import pytest
import torch
import yaml
from monai.bundle import ConfigParser
from torch._weights_only_unpickler import _get_allowed_globals

from common.bundle_tasks import deployed
from common.data.facts import load_facts
from common.export import bundle as exporter
from common.export.card import full_metadata
from common.export.formats import carry, network_def
from common.export.source import Source
from common.inspect import inspect_bundle as look
from common.inspect.configs import check_config
from common.inspect.known import CALLABLES, EXPRESSIONS, PICKLE_GLOBALS
from common.networks import FeatureNet, TransResUNet, UNet
from tests.hostile_bundles import FOLDERS, LIVE, ZIPS, Hostile, payload, sign, zipped
from tests.trained_bundles import DATASETS

ROOT = Path(__file__).parents[2]


def export(network: FeatureNet, folder: Path) -> Path:
    """What the exporter writes of a network, without a run that trained it."""
    facts = load_facts(ROOT / "bundles" / "ct.yaml", "lits")
    config = {"max_epochs": 1, "epoch_length": 1, "batch_size": 1, "learning_rate": 0.1, "seed": 0}
    metrics = {"mean": {"dice": 0.5}, "parameters": 1, "dataset": "lits"}
    about = {"lits": {"modality": "CT", "source": "a phantom", "licence": "none"}}
    source = Source(folder, network.eval(), facts, config, metrics, "segmentation", 32, about, 3)
    folder.mkdir()
    meta = full_metadata(source, folder.name, version="1.0.0", changelog="first", authors="nobody")
    exporter._write(source, folder, meta, torch.rand(1, 1, 32, 32, generator=torch.Generator().manual_seed(0)))
    return folder


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A student, and the same without its models, which is quicker to read."""
    root = tmp_path_factory.mktemp("exported")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        whole = export(UNet(features=(4, 4, 8, 8, 8, 4)), root / "whole")
    light = shutil.copytree(whole, root / "light")
    shutil.rmtree(light / "models")
    sign(light)
    return {"whole": whole, "light": light}


def reported(path: Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    code = inspect_bundle.main([str(path)])
    return code, capsys.readouterr().out


def test_what_we_export_has_nothing_unknown(
    exported: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for path in (exported["whole"], zipped(exported["whole"], tmp_path / "bundle.zip")):
        code, out = reported(path, capsys)
        assert (code, out) == (0, f"nothing unknown found in {path}\n")


def test_code_is_known_if_it_is_ours(exported: dict[str, Path], tmp_path: Path) -> None:
    folder = Path(shutil.copytree(exported["light"], tmp_path / "bundle"))
    network = TransResUNet(width=4)
    carry(network, folder)
    config = folder / "configs" / "inference.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"network_def": network_def(network)}))
    sign(folder)
    assert look(folder) == []
    ours = folder / "scripts" / "transresunet.py"
    ours.write_text(ours.read_text() + "\n")
    sign(folder)
    assert {finding.file for finding in look(folder)} >= {"scripts/transresunet.py", "configs/inference.json"}
    (folder / "scripts" / "__init__.py").write_text("from .feature_net import ConfigParser\n")
    ours.write_bytes((ROOT / "common" / "networks" / ours.name).read_bytes())
    sign(folder)
    assert {finding.file for finding in look(folder)} >= {"scripts/__init__.py", "configs/inference.json"}


@pytest.mark.parametrize("hostile", FOLDERS, ids=lambda hostile: hostile.name)
@pytest.mark.parametrize("form", ["folder", "zip"])
def test_hostile_bundles_are_reported_and_do_not_run(
    hostile: Hostile, form: str, exported: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = exported["whole" if hostile.file.startswith("models/") else "light"]
    folder, canary = Path(shutil.copytree(base, tmp_path / "bundle")), tmp_path / "canary"
    hostile.change(folder, canary)
    if hostile.signed:
        sign(folder)
    links = hostile.reason in ("symbolic link", "hard link", "pipe")  # of the file system: a zip has its own below
    path = zipped(folder, tmp_path / "bundle.zip") if form == "zip" and not links else folder
    loaded = set(sys.modules)
    code, out = reported(path, capsys)
    _, _, found = f"\n{out}".partition(f"\n{hostile.file}\n")
    assert re.match(rf"(  .*\n)*  .*{re.escape(hostile.reason)}", found), out
    assert code == 1 and "read this first" in out and "nothing unknown" not in out
    assert not canary.exists()
    assert not {name for name in set(sys.modules) - loaded if name.split(".")[0] in ("scripts", "torch", "evil")}


@pytest.mark.parametrize("name", ZIPS)
def test_hostile_zips_are_reported(
    name: str, exported: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, reason, added, change = ZIPS[name]
    folder = exported["light"]
    path = zipped(folder, tmp_path / "bundle.zip", extra=added and (lambda archive: added(archive, folder)))
    if change:
        path.write_bytes(change(path.read_bytes()))
    findings = look(path)
    assert any(reason in finding.reason and finding.file.removeprefix("light/") == file for finding in findings), findings
    code, out = reported(path, capsys)
    assert code == 1 and "\x1b" not in out
    assert sorted(p.name for p in tmp_path.iterdir()) == ["bundle.zip"]


@pytest.mark.parametrize("name", LIVE)
def test_the_payloads_are_real(name: str, tmp_path: Path) -> None:
    """Otherwise a canary that is missing would show nothing."""
    canary, file = tmp_path / "canary", tmp_path / "config.json"
    file.write_text(json.dumps(LIVE[name][1](payload(canary))))
    with warnings.catch_warnings(), contextlib.suppress(RuntimeError, TypeError, ValueError):  # the rest may be broken by it
        warnings.simplefilter("ignore")
        ConfigParser(ConfigParser.load_config_files(str(file))).get_parsed_content("")
    assert canary.exists()


def test_nothing_is_imported_from_the_folder_one_stands_in(exported: dict[str, Path], tmp_path: Path) -> None:
    folder, canary = Path(shutil.copytree(exported["light"], tmp_path / "bundle")), tmp_path / "canary"
    for name in ("json", "argparse", "yaml", "common", "sitecustomize", "encodings"):
        (folder / f"{name}.py").write_text(payload(canary))
    sign(folder)
    command = [sys.executable, str(ROOT / "scripts" / "inspect_bundle.py"), "."]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "argparse.py" in done.stdout and not done.stderr
    assert not canary.exists()


def test_input_that_is_no_bundle_ends_with_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.zip").write_text("no zip")
    (tmp_path / "b.zip").write_bytes(b"PK\x05\x06" + b"\1\0" * 9)
    (tmp_path / "empty").mkdir()
    for name in ("a.zip", "b.zip", "empty", "missing", "missing\x1b[2J"):
        assert inspect_bundle.main([str(tmp_path / name)]) == 2
        error = capsys.readouterr().err
        assert error.startswith("inspect_bundle: ") and error.count("\n") == 1 and "\x1b" not in error


def test_text_for_the_terminal_cannot_move_it() -> None:
    assert inspect_bundle.plain("a\x1b[2J\u202eb\n") == "a\\x1b[2J\\u202eb\\n"
    assert len(inspect_bundle.plain("x" * 10_000)) < 400


@pytest.mark.parametrize("file", sorted((ROOT / "common" / "recipes" / "export").glob("*.yaml")), ids=lambda file: file.stem)
def test_recipes_of_the_exporter_are_known(file: Path) -> None:
    assert check_config("configs/x.json", json.dumps(yaml.safe_load(file.read_text())).encode()) == []


@pytest.mark.parametrize("dataset", DATASETS)
def test_what_exports_say_of_a_dataset_is_known(dataset: str) -> None:
    facts = deployed(load_facts(DATASETS[dataset], dataset), 32)
    assert check_config("configs/x.json", json.dumps(facts).encode()) == []


def test_lists_are_exact() -> None:
    ours = {name.replace(" ", ".") for name in PICKLE_GLOBALS}
    assert ours <= set(_get_allowed_globals())
    for target in CALLABLES:
        assert "*" not in target and target.count(".") >= 1
    for code in EXPRESSIONS:  # one letter more and it is not known
        assert check_config("a.json", json.dumps({"x": f"${code}"}).encode()) == []
        assert check_config("a.json", json.dumps({"x": f"${code}.x"}).encode()) != []
