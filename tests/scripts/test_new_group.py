# SPDX-License-Identifier: Apache-2.0
"""new_group measures tables, asks instead of guessing, and writes bundles that the group file's facts match."""

import sys
from pathlib import Path

import new_group
import pytest
import yaml

from common.bundle_files import split_recipe
from common.data.facts import load_facts
from common.phantoms.layouts import write_dataset


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("tables")
    for name in ("acdc", "sunnybrook", "msd_lung"):
        write_dataset(name, root, cases=5, size=32, slices=4)
    return root


def call(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    monkeypatch.setattr(sys, "argv", ["new_group.py", *arguments])
    new_group.main()


def heart(tables: Path, out: Path, *more: str) -> list[str]:
    datasets = ["--dataset", f"acdc={tables}/acdc/index.csv", f"--dataset=sunnybrook={tables}/sunnybrook/index.csv"]
    return ["heart", "--task", "segmentation", *datasets, "--preset", "small", "--out", str(out), *more]


def test_tables_become_a_group_with_its_bundles(tables: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    call(monkeypatch, *heart(tables, tmp_path, "--classes", "lv=acdc:3/sunnybrook:1"))
    acdc, sunnybrook = (load_facts(tmp_path / "heart.yaml", name) for name in ("acdc", "sunnybrook"))
    assert acdc.classes == {"lv": (3,)} and acdc.label_values == (0, 1, 2, 3)
    assert sunnybrook.classes == {"lv": (1,)} and sunnybrook.label_values == (0, 1)
    assert acdc.dims == 2 and not acdc.spacing_known and acdc.percentiles == (1, 99)
    names = {p.name for p in tmp_path.iterdir() if p.is_dir()}
    roles = {f"{role}_{d}" for role in ("teacher", "student") for d in ("acdc", "sunnybrook")}
    assert names == roles | {"joint_teacher_heart", "multi_head_heart"}
    head = yaml.safe_load(split_recipe((tmp_path / "student_acdc/configs/distill.yaml").read_text())[0])
    assert (
        head["sources"] == ["sunnybrook"] and head["dataset"] == "acdc" and head["group_file"] == str(tmp_path / "heart.yaml")
    )


def test_several_classes_and_a_dataset_without_one(tables: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    call(monkeypatch, *heart(tables, tmp_path, "--classes", "lv=acdc:3/sunnybrook:1,wall=acdc:1+2"))
    assert load_facts(tmp_path / "heart.yaml", "acdc").classes == {"lv": (3,), "wall": (1, 2)}
    assert load_facts(tmp_path / "heart.yaml", "sunnybrook").classes == {"lv": (1,)}
    stock = yaml.safe_load((tmp_path / "student_acdc/configs/inference.yaml").read_text())["network_def"]
    assert stock["out_channels"] == 3


def test_a_folder_with_dataset_json_is_accepted_and_ct_is_asked_for_its_window(
    tables: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lung = [
        "lung",
        "--task",
        "segmentation",
        "--dataset",
        f"msd_lung={tables}/msd_lung/Task06_Lung",
        "--dataset",
        "kits=common.data.kits",
    ]
    arguments = [*lung, "--classes", "lesion=1", "--out", str(tmp_path)]
    with pytest.raises(SystemExit, match=r"CT in Hounsfield units.*--window"):
        call(monkeypatch, *arguments)
    assert not list(tmp_path.iterdir())
    call(monkeypatch, *arguments, "--window=-1000,400")
    assert load_facts(tmp_path / "lung.yaml", "msd_lung").window == (-1000, 400)
    assert len(load_facts(tmp_path / "lung.yaml", "msd_lung").reader(tables / "msd_lung/Task06_Lung")) == 5


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ([], r"which label values are which class.*acdc has \[0, 1, 2, 3\]; sunnybrook has \[0, 1\].*--classes"),
        (["--classes", "lv=7"], r"'7' for acdc is not among its label values"),
        (["--classes", "lv"], r"write NAME=VALUES"),
        (["--classes", "lv=elsewhere:1"], r"dataset elsewhere is not among acdc, sunnybrook"),
        (["--classes", "lv=acdc:3"], r"dataset sunnybrook has none of the classes"),
        (["--preset", "huge", "--classes", "lv=1"], r"--preset huge is unknown; choose paper or small"),
        (["--dataset", "acdc=x/index.csv", "--classes", "lv=1"], r"acdc is given twice"),
        (["--dataset", "third=x/table.csv", "--classes", "lv=1"], r"must be named index.csv"),
        (["--dataset", "third=nowhere/index.csv", "--classes", "lv=1"], r"nowhere/index.csv does not exist"),
    ],
)
def test_what_it_cannot_know_it_asks(
    tables: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, more: list[str], message: str
) -> None:
    with pytest.raises(SystemExit, match=message):
        call(monkeypatch, *heart(tables, tmp_path, *more))
    assert not list(tmp_path.iterdir())


def test_a_group_is_not_overwritten_unasked(tables: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = heart(tables, tmp_path, "--classes", "lv=acdc:3/sunnybrook:1")
    call(monkeypatch, *arguments)
    with pytest.raises(SystemExit, match=r"heart.yaml exists.*--force"):
        call(monkeypatch, *arguments)
    call(monkeypatch, *arguments, "--force")
