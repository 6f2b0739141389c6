# SPDX-License-Identifier: Apache-2.0
"""new_group measures tables, asks instead of guessing, and writes bundles that the group file's facts match."""

import json
import shutil
import sys
from pathlib import Path

import new_group
import nibabel
import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image

from common import bundle_files
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


def test_classes_that_every_dataset_json_names_alike_need_no_answer(
    tables: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each by its own value; what they name differently is asked, with the names."""
    arguments = ["lung", "--task", "segmentation", "--window=-1000,400", "--out", str(tmp_path / "out")]
    for name, value in (("ours", 1), ("theirs", 2)):
        folder = Path(shutil.copytree(tables / "msd_lung/Task06_Lung", tmp_path / name))
        table = folder / "dataset.json"
        table.write_text(json.dumps(json.loads(table.read_text()) | {"labels": {"background": 0, "cancer": value}}))
        for mask in (folder / "labelsTr").glob("[!.]*"):
            image = nibabel.load(mask)
            nibabel.save(nibabel.Nifti1Image(np.asarray(image.dataobj) * value, image.affine, image.header), mask)
        arguments += ["--dataset", f"{name}={folder}"]
    call(monkeypatch, *arguments)
    for name, value in (("ours", 1), ("theirs", 2)):
        assert load_facts(tmp_path / "out/lung.yaml", name).classes == {"cancer": (value,)}
    table.write_text(table.read_text().replace('"cancer"', '"tumour"'))
    with pytest.raises(SystemExit, match=r"ours has \[0, 1\] \(1 cancer\); theirs has \[0, 2\] \(2 tumour\)\. Answer"):
        call(monkeypatch, *arguments, "--force")
    table.write_text(json.dumps(json.loads(table.read_text()) | {"labels": {"all": [1, 2], "cancer": 2}}))
    with pytest.raises(SystemExit, match=r"theirs has \[0, 2\] \(1\+2 all, 2 cancer\)"):
        call(monkeypatch, *arguments, "--force")


def test_a_mask_that_is_annotated_in_part_is_refused_by_name(
    tables: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Path(shutil.copytree(tables / "msd_lung/Task06_Lung", tmp_path / "lung"))
    table = folder / "dataset.json"
    table.write_text(json.dumps(json.loads(table.read_text()) | {"labels": {"background": 0, "tumour": 2, "ignore": 1}}))
    arguments = ["lung", "--task", "segmentation", "--dataset", f"lung={folder}", "--dataset", "kits=common.data.kits"]
    with pytest.raises(SystemExit, match=r"labelsTr/lung_\d+.* has voxels of the label 'ignore' .*leave the case out"):
        call(monkeypatch, *arguments, "--classes", "lesion=2", "--out", str(tmp_path / "out"))


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ([], r"which label values are which class.*acdc has \[0, 1, 2, 3\]; sunnybrook has \[0, 1\].*--classes"),
        (["--classes", "lv=7"], r"'7' for acdc is not among its label values"),
        (["--classes", "lv"], r"write NAME=VALUES"),
        (["--classes", "lv=1+x"], r"'1\+x' for acdc is not among its label values"),
        (["--classes", "l-v=1"], r"the class's name 'l-v' is to be of letters"),
        (["--classes", "lv=elsewhere:1"], r"'elsewhere:1' for acdc is not among .*; the datasets are acdc, sunnybrook"),
        (["--classes", "lv=acdc:3/1"], r"give each value one dataset of acdc, sunnybrook"),
        (["--classes", "lv=acdc:3/elsewhere:1"], r"give each value one dataset of acdc, sunnybrook"),
        (["--classes", "lv=acdc:3"], r"dataset sunnybrook has none of the classes"),
        (["--preset", "huge", "--classes", "lv=1"], r"--preset huge is unknown; choose paper or small"),
        (["--dataset", "acdc=x/index.csv", "--classes", "lv=1"], r"acdc is given twice"),
        (
            ["--dataset", "train=x/index.csv", "--classes", "lv=1"],
            r"--dataset train: the name is one of a PyTorch module's own",
        ),
        (["--window=250,-100", "--classes", "lv=1"], r"--window \(250, -100\): write the lower limit and the upper one"),
        (["--window=5,x", "--classes", "lv=1"], r"--window \(5, 'x'\): write the lower limit"),
        (["--percentiles=1,150", "--classes", "lv=1"], r"`percentiles` is \[1.0, 150.0\]; they lie between 0 and 100"),
        (["--orientation", "ras", "--classes", "lv=1"], r"--orientation 'ras': name three axes"),
        (["--percentiles=99", "--classes", "lv=1"], r"--percentiles 99: .* as in --percentiles=1,99"),
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
    group_file = tmp_path / "heart.yaml"
    about = {"acdc": {"modality": "MR", "source": "ours", "licence": "CC0 1.0"}}
    written = yaml.safe_load(group_file.read_text())
    group_file.write_text(yaml.safe_dump(written | {"about": about | {"gone": {"source": "a dataset that has left"}}}))
    call(monkeypatch, *arguments, "--force", "--preset", "demo")
    assert yaml.safe_load(group_file.read_text()) == written | {"preset": "demo", "about": about}


def test_settings_stay_and_reach_the_bundles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tables = [f"--dataset={name}={write_dataset(name, tmp_path, cases=5, size=32)}" for name in ("kermany", "nih")]
    arguments = ["xray", "--task", "classification", *tables, "--preset", "small", "--out", str(tmp_path / "bundles")]
    call(monkeypatch, *arguments)
    group_file = tmp_path / "bundles/xray.yaml"
    group_file.write_text(group_file.read_text() + "settings:\n  kermany: {upright: true}\n")
    call(monkeypatch, *arguments, "--force")
    for name, upright in (("kermany", True), ("nih", False)):
        head = split_recipe((tmp_path / f"bundles/teacher_{name}/configs/train.yaml").read_text())[0]
        assert yaml.safe_load(head)["upright"] is upright


def test_datasets_with_files_of_their_own_keep_their_facts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    modules = [f"--dataset={name}=common.data.{name}" for name in ("lits", "kits")]
    arguments = ["liver", "--task", "segmentation", *modules, "--out", str(tmp_path)]
    with pytest.raises(SystemExit, match=r"--classes and --window: for tables, and lits, kits have files of their own"):
        call(monkeypatch, *arguments, "--window=-100,250", "--classes", "lesion=2")
    assert not list(tmp_path.iterdir())
    call(monkeypatch, *arguments)
    group_file = tmp_path / "liver.yaml"
    written = yaml.safe_load(group_file.read_text())
    written["datasets"]["lits"]["classes"] = {"liver": [1], "lesion": [2]}
    group_file.write_text(yaml.safe_dump(written))
    call(monkeypatch, *arguments, "--force")
    assert yaml.safe_load(group_file.read_text()) == written
    stock = yaml.safe_load((tmp_path / "student_lits/configs/inference.yaml").read_text())["network_def"]
    assert stock["out_channels"] == 3
    modules[0] = "--dataset=lits=common.data.msd_lung"  # another file: what was said of the old one is not of this one
    call(monkeypatch, *arguments[:3], *modules, *arguments[5:], "--force")
    assert yaml.safe_load(group_file.read_text())["datasets"]["lits"] == {"module": "common.data.msd_lung"}


def test_bundles_of_another_group_are_not_overwritten(tables: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = heart(tables, tmp_path, "--classes", "lv=acdc:3/sunnybrook:1")
    call(monkeypatch, *arguments)
    before = {path: path.read_text() for path in tmp_path.rglob("*.*") if path.is_file()}
    arguments[0] = "valves"
    for force in ([], ["--force"]):
        with pytest.raises(SystemExit, match=r"dataset acdc: .*teacher_acdc is a bundle of .*heart.yaml.*another name"):
            call(monkeypatch, *arguments, *force)
    assert before == {path: path.read_text() for path in tmp_path.rglob("*.*") if path.is_file()}


def volumes(folder: Path, affines: dict[str, np.ndarray]) -> str:
    """A table of volumes with masks, filled up to five by more of the first; returns the argument for new_group."""
    affines = affines | {f"z{number}": next(iter(affines.values())) for number in range(5 - len(affines))}
    folder.mkdir(parents=True)
    rows = ["image,mask,case_id"]
    for name, affine in affines.items():
        for kind in ("image", "mask"):
            values = np.random.default_rng(0).integers(0, 2, (8, 7, 6)).astype(np.uint8)
            nibabel.save(nibabel.Nifti1Image(values, affine), folder / f"{name}_{kind}.nii.gz")
        rows.append(f"{name}_image.nii.gz,{name}_mask.nii.gz,{name}")
    (folder / "index.csv").write_text("\n".join(rows) + "\n")
    return f"--dataset={folder.name}={folder}/index.csv"


def test_tables_that_no_fold_can_be_made_of_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before an image is read; every training would refuse them."""
    five = {name: np.eye(4) for name in "abcde"}
    whole, torn = volumes(tmp_path / "whole", five), volumes(tmp_path / "torn", five)
    start = ["few", "--task", "segmentation", "--classes", "lesion=1", "--out", str(tmp_path / "bundles"), whole, torn]
    table = tmp_path / "torn/index.csv"
    rows = table.read_text()
    table.write_text(rows.replace("e_mask.nii.gz", ""))
    with pytest.raises(SystemExit, match=r"torn: 4 labelled patients of 5 .*at least 5 are needed"):
        call(monkeypatch, *start)
    table.write_text(rows.replace("b_mask.nii.gz,b", "b_mask.nii.gz,a"))
    with pytest.raises(SystemExit, match=r"volume '' of case torn/a is listed twice .*b_image"):
        call(monkeypatch, *start)
    assert not (tmp_path / "bundles").exists()
    table.write_text(rows)
    call(monkeypatch, *start)


def test_the_axis_of_the_slices_is_asked_for_where_files_leave_it_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    axial, first = np.diag([0.8, 0.8, 5, 1]), np.diag([5, 0.8, 0.8, 1])
    coronal = np.array([[0, 0, 0.8, 0], [0.8, 0, 0, 0], [0, 5, 0, 0], [0, 0, 0, 1.0]])  # axes A, S, R: slices along S
    out = tmp_path / "bundles"
    start = ["vols", "--task", "segmentation", "--classes", "lesion=1", "--out", str(out)]

    def geometry(name: str, *datasets: str) -> tuple[str | None, int]:
        call(monkeypatch, name, *start[1:], *datasets)
        facts = load_facts(out / f"{name}.yaml", datasets[0].split("=")[1])
        return facts.orientation, facts.slice_axis

    same = [volumes(tmp_path / name, {"a": axial, "b": axial}) for name in ("a1", "a2")]
    assert geometry("alike", *same) == (None, 2)
    along = [volumes(tmp_path / name, {"a": first, "b": first}) for name in ("f1", "f2")]
    with pytest.raises(SystemExit, match=r"a_image\.nii\.gz of f1 has a spacing of 5 x 0\.8 x 0\.8 mm.*--slice-axis 0"):
        call(monkeypatch, *start, *along)
    assert not (out / "vols.yaml").exists()
    assert geometry("along", *along, "--slice-axis", "0") == (None, 0)
    mixed = [volumes(tmp_path / "m1", {"a": axial, "b": coronal}), volumes(tmp_path / "m2", {"a": axial})]
    with pytest.raises(
        SystemExit, match=r"a_image\.nii\.gz of m1 has RAS; .*b_image\.nii\.gz of m1 has ASR; .*Give --orientation"
    ):
        call(monkeypatch, *start, *mixed)
    assert geometry("mixed", *mixed, "--orientation", "RAS") == ("RAS", 2)
    with pytest.raises(SystemExit, match=r"has a spacing of 0\.8 x 5 x 0\.8 mm: are its slices along axis 1"):
        geometry("mixed", *mixed, "--orientation", "RSA", "--force")
    few = [volumes(tmp_path / name, {"a": np.eye(4), "b": first}) for name in ("i1", "i2")]  # the first tells nothing
    with pytest.raises(SystemExit, match=r"b_image\.nii\.gz of i1 has a spacing of 5 x 0\.8 x 0\.8 mm.*--slice-axis 0"):
        geometry("few", *few)


def test_bundles_in_the_repository_are_named_from_its_root(
    tables: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whatever folder the command is given in; values that are in no class are told."""
    monkeypatch.chdir(Path(shutil.copytree(tables / "acdc", tmp_path / "site/acdc")).parent)
    shutil.copytree(tables / "sunnybrook", "sunnybrook")
    for module in (new_group, bundle_files):
        monkeypatch.setattr(module, "ROOT", tmp_path)
    arguments = ["heart", "--task=segmentation", "--dataset=acdc=acdc", "--dataset=sunnybrook=sunnybrook", "--preset=small"]
    call(monkeypatch, *arguments, "--classes=lv=acdc:3/sunnybrook:1", "--out=../bundles")
    told = capsys.readouterr().out
    assert "acdc: 1, 2 are background" in told and "wrote bundles/heart.yaml" in told
    assert "scripts/study.py --group heart --targets acdc" in told
    head = yaml.safe_load(split_recipe((tmp_path / "bundles/student_acdc/configs/distill.yaml").read_text())[0])
    assert (head["group_file"], head["bundle_root"]) == ("bundles/heart.yaml", "bundles/student_acdc")


def test_spacing_is_known_for_all_images_or_none(tables: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folders = {name: shutil.copytree(tables / name, tmp_path / name) for name in ("acdc", "sunnybrook")}
    out = tmp_path / "bundles"
    arguments = heart(tmp_path, out, "--classes", "lv=acdc:3/sunnybrook:1")
    table = pd.read_csv(folders["acdc"] / "index.csv", dtype=str)
    assert "spacing" not in table
    table.assign(spacing=["1.5 1.5", *[""] * (len(table) - 1)]).to_csv(folders["acdc"] / "index.csv", index=False)
    with pytest.raises(SystemExit, match=rf"gives the spacing of 1 images but not of {len(table) - 1}, such as .*png"):
        call(monkeypatch, *arguments)
    table.assign(spacing="1.5 1.5").to_csv(folders["acdc"] / "index.csv", index=False)
    call(monkeypatch, *arguments)
    assert load_facts(out / "heart.yaml", "acdc").spacing_known
    assert not load_facts(out / "heart.yaml", "sunnybrook").spacing_known


def test_a_channel_of_a_dataset_json_is_picked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    names = [tmp_path / "data" / name for name in ("ours", "theirs")]
    for seed, folder in enumerate(names):
        for kind in ("imagesTr", "labelsTr"):
            (folder / kind).mkdir(parents=True)
        rng = np.random.default_rng(seed)
        for case in range(5):
            for channel, level in enumerate((20, 200)):
                picture = Image.fromarray((rng.integers(0, 20, (16, 16)) + level).astype(np.uint8))
                picture.save(folder / "imagesTr" / f"c{case}_{channel:04d}.png")
            Image.fromarray(rng.integers(0, 2, (16, 16)).astype(np.uint8)).save(folder / "labelsTr" / f"c{case}.png")
        content = {"channel_names": {"0": "T1", "1": "T2"}, "labels": {"background": 0, "lesion": 1}, "file_ending": ".png"}
        (folder / "dataset.json").write_text(json.dumps(content))
    out = tmp_path / "bundles"
    arguments = ["both", "--task", "segmentation", "--classes", "lesion=1", "--out", str(out)]
    ours, theirs = (f"--dataset={folder.name}={folder}" for folder in names)
    with pytest.raises(SystemExit, match=r"has 2 channels .*--dataset theirs=DIR:channel=N"):
        call(monkeypatch, *arguments, f"{ours}:channel=1", theirs)
    call(monkeypatch, *arguments, f"{ours}:channel=1", f"{theirs}:channel=0")
    assert "counts as a patient" not in capsys.readouterr().out  # c0, c1 and c2 begin alike, as numbers do
    for folder, channel in zip(names, (1, 0), strict=True):
        found = load_facts(out / "both.yaml", folder.name).reader(folder)
        assert [Path(item["image"]).name for item in found] == [f"c{case}_{channel:04d}.png" for case in range(5)]
    with pytest.raises(SystemExit, match="channel 2 is not among"):
        call(monkeypatch, *arguments, f"{ours}:channel=2", theirs, "--force")


@pytest.fixture
def hospitals(tmp_path: Path) -> Path:
    """Tables to classify: `kids` and `adults` with one set of labels, `other` with its own."""
    rng = np.random.default_rng(0)
    for name, labels in (("kids", ("normal", "ill")), ("adults", ("normal", "ill")), ("other", ("healthy", "covid 19", "flu"))):
        folder = tmp_path / "tables" / name
        folder.mkdir(parents=True)
        rows = ["image,label,case_id,age"]
        for number in range(12):
            Image.fromarray(rng.integers(0, 256, (16, 16), np.uint8)).save(folder / f"{number}.jpg")
            rows.append(f"{number}.jpg,{labels[number % len(labels)] if number < 11 else ''},p{number},5")
        (folder / "index.csv").write_text("\n".join(rows) + "\n")
    return tmp_path / "tables"


def cxr(hospitals: Path, out: Path, *datasets: str) -> list[str]:
    chosen = [f"--dataset={name}={hospitals}/{name}/index.csv" for name in datasets]
    return ["cxr", "--task", "classification", *chosen, "--preset", "demo", "--out", str(out)]


def test_labels_that_all_tables_share_are_the_classes(
    hospitals: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    out = tmp_path / "bundles"
    call(monkeypatch, *cxr(hospitals, out, "kids", "adults"))
    for name in ("kids", "adults"):
        facts = load_facts(out / "cxr.yaml", name)
        assert facts.task == "classification" and facts.classes == {"ill": ("ill",), "normal": ("normal",)}
        assert facts.label_values == ("ill", "normal") and facts.dims == 2 and facts.percentiles == (1, 99)
        assert [facts.class_of(item) for item in facts.reader(hospitals / name)][-3:] == [0, 1, 0]  # p7, p8, p9
    assert yaml.safe_load((out / "cxr.yaml").read_text())["task"] == "classification"
    assert "kids: 12 cases, 12 images (5 'ill', 6 'normal'), sizes 16 x 16" in capsys.readouterr().out
    roles = {f"{role}_{d}" for role in ("teacher", "student") for d in ("kids", "adults")}
    assert {p.name for p in out.iterdir() if p.is_dir()} == roles | {"joint_teacher_cxr", "multi_head_cxr"}


def test_labels_that_are_no_names_become_classes_of_names(
    hospitals: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(hospitals / "other", hospitals / "another")
    call(monkeypatch, *cxr(hospitals, tmp_path / "bundles", "other", "another"))
    classes = load_facts(tmp_path / "bundles" / "cxr.yaml", "another").classes
    assert classes == {"covid_19": ("covid 19",), "flu": ("flu",), "healthy": ("healthy",)}


def test_labels_that_differ_are_asked_for(
    hospitals: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    out = tmp_path / "bundles"
    arguments = cxr(hospitals, out, "kids", "other")
    seen = r"kids has \['ill', 'normal'\]; other has \['covid 19', 'flu', 'healthy'\].*--classes healthy=normal"
    with pytest.raises(SystemExit, match=rf"which label values are which class\? {seen}"):
        call(monkeypatch, *arguments)
    for classes, message in (
        ("well=kids:normal/other:Healthy,ill=kids:ill/other:flu", "'Healthy' for other is not among its label values"),
        ("well=kids:normal/other:healthy,ill=kids:ill/other:flu+healthy", "'flu\\+healthy' of other is already of class well"),
        ("well=normal", "'normal' for other is not among its label values"),
    ):
        with pytest.raises(SystemExit, match=message):
            call(monkeypatch, *arguments, "--classes", classes)
    assert not out.exists()
    call(monkeypatch, *arguments, "--classes", "well=kids:normal/other:healthy,ill=kids:ill/other:covid 19")
    assert load_facts(out / "cxr.yaml", "other").classes == {"well": ("healthy",), "ill": ("covid 19",)}
    assert "other: images labelled 'flu' are in no class and left out" in capsys.readouterr().out


def test_a_table_without_labels_and_an_unknown_task_are_refused(
    hospitals: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = cxr(hospitals, tmp_path / "bundles", "kids", "adults")
    with pytest.raises(SystemExit, match="--task detect is unknown; choose segmentation or classification"):
        call(monkeypatch, *["detect" if a == "classification" else a for a in arguments])
    table = hospitals / "adults" / "index.csv"
    text = table.read_text()
    table.write_text(text.replace("normal", "").replace("ill", ""))
    with pytest.raises(SystemExit, match="has no labels at all; fill the label column"):
        call(monkeypatch, *arguments)
    table.write_text(text.replace("label", "mask"))
    with pytest.raises(SystemExit, match=r"lacks the column\(s\) label"):
        call(monkeypatch, *arguments)
