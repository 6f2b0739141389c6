# SPDX-License-Identifier: Apache-2.0
"""One tiny trained, evaluated and exported bundle of each kind, and volumes in the layout that they read."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import monai.bundle
import nibabel
import pytest
import torch

from common.data.facts import load_facts
from common.export import export_bundle
from common.phantoms.layouts import write_dataset
from tests.trained_bundles import DATASETS

ROOT = Path(__file__).parents[2]
UNET = {"unet::features": [4, 4, 8, 8, 8, 4]}
TRANS = {"architecture": "TransResUNet", "transresunet::width": 4}
EFFICIENTNET = {"networks::EfficientNet::variant": "test_efficientnet"}
MEDVIT = {"networks::MedViT::variant": "tiny", "learning_rate": 0.001}
SEGMENTS = ("student_lits", "student_trans", "teacher_lits", "joint_teacher_ct")
CLASSIFIES = {"student_nih": ("normal", "pneumonia"), "student_adni": ("cn", "mci", "ad")}  # images, volumes
KINDS = (*SEGMENTS, *CLASSIFIES)
CARRIES = ("student_trans", "joint_teacher_ct", "student_adni")  # whose network is no stock class


@dataclass(frozen=True)
class Exported:
    """`folders` and `runs` are keyed by KINDS; nothing in them may be changed, `copy` gives a bundle of the test's own.

    `phantoms` are lits and kits in their official layouts; `volumes` holds imagesTr, labelsTr and imagesTs as an exported
    bundle reads them from its folder `data` (labels are class indices); `classified` holds, a kind, images or volumes in a
    folder a class.
    """

    folders: dict[str, Path]
    runs: dict[str, Path]
    phantoms: Path
    volumes: Path
    classified: dict[str, Path]

    def copy(self, kind: str, parent: Path, *, data: bool = True) -> Path:
        """A copy of a bundle under `parent`, with what it trains on, evaluates and infers in its `data`."""
        folder = Path(shutil.copytree(self.folders[kind], parent / kind))
        if data:
            shutil.copytree(self.classified.get(kind, self.volumes), folder / "data")
        return folder


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Exported]:
    """The kinds on phantoms of 32 pixels: two students, a teacher, a joint teacher; two students that classify."""
    threads, level = torch.get_num_threads(), logging.root.level
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        yield _export(tmp_path_factory.mktemp("exported"))
    torch.set_num_threads(threads)
    logging.root.setLevel(level)


def _export(root: Path) -> Exported:
    phantoms, runs, out = root / "phantoms", root / "runs", root / "bundles"
    for name in ("lits", "kits"):
        write_dataset(name, phantoms, cases=6, size=32, slices=6)
    write_dataset("nih", phantoms, cases=20, size=32)
    write_dataset("adni", phantoms, cases=15, size=32)
    places = {"data_dir": str(phantoms), "runs_dir": str(runs), "logging_file": False}
    # enough steps that something is segmented: an empty label is the same in every format and geometry
    steps = {"max_epochs": 6, "epoch_length": 15, "batch_size": 4, "learning_rate": 0.02, "image_size": 32}
    steps |= {"select_from": 0, "teacher_floor": 0, "quiet": True}

    def train(bundle: str, config: str, variant: str, **facts: object) -> Path:
        monai.bundle.run(
            "training", config_file=f"bundles/{bundle}/configs/{config}.yaml", variant=variant, **places, **(steps | facts)
        )
        run = runs / bundle / variant / "0"
        dataset = bundle.removeprefix("student_") if bundle in CLASSIFIES else "lits"
        evaluate = {"run_dir": str(run), "dataset": dataset, "data_dir": str(phantoms)}
        if config != "adapt":
            monai.bundle.run(
                "evaluating", config_file=f"bundles/{bundle}/configs/evaluate.yaml", logging_file=False, **evaluate
            )
        return run

    alone = train("teacher_lits", "train", "alone", **UNET)
    adapted = train("teacher_kits", "adapt", "for_lits", target="lits", **UNET)
    teachers = {"target": "lits", "sources": ["kits"], "teachers": [str(alone), str(adapted)]}
    joint = train("joint_teacher_ct", "train", "for_lits", **teachers)
    taught = {"teacher": str(joint), "sources": [], "warmup": 0, "ramp": 1}
    made = {
        "student_lits": train("student_lits", "distill", "distill", **taught, **UNET),
        "student_trans": train("student_lits", "distill", "trans", **taught, **TRANS),
        "teacher_lits": alone,
        "joint_teacher_ct": joint,
        "student_nih": train("student_nih", "train", "alone", **EFFICIENTNET),
        "student_adni": train("student_adni", "train", "alone", **MEDVIT),
    }
    for kind, run in made.items():
        export_bundle(run, out / kind)
    volumes = write_volumes(phantoms / "lits", root / "volumes")
    classified = {kind: write_classified(kind, phantoms, root / f"classified_{kind}") for kind in CLASSIFIES}
    return Exported({kind: out / kind for kind in made}, made, phantoms, volumes, classified)


def write_classified(kind: str, phantoms: Path, out: Path) -> Path:
    """Five images or volumes a class of a kind's phantom, and one to classify."""
    dataset = kind.removeprefix("student_")
    facts = load_facts(DATASETS[dataset], dataset)
    items = facts.reader(phantoms / dataset)
    for index, name in enumerate(CLASSIFIES[kind]):
        (out / "imagesTr" / name).mkdir(parents=True)
        for item in [item for item in items if facts.class_of(item) == index][:5]:
            shutil.copy(item["image"], out / "imagesTr" / name)
    (out / "imagesTs").mkdir()
    image = Path(items[-1]["image"])
    shutil.copyfile(image, out / "imagesTs" / f"scan_5{image.suffix}")
    return out


def write_volumes(lits: Path, out: Path) -> Path:
    """Five volumes of the LiTS phantom with their lesions as class 1, and one without a label."""
    for name in ("imagesTr", "labelsTr", "imagesTs"):
        (out / name).mkdir(parents=True)
    for number, image in enumerate(sorted(lits.rglob("volume-*.nii*"))):
        scan = nibabel.load(image)
        label = nibabel.load(image.with_name(image.name.replace("volume", "segmentation")))
        if number == 5:
            nibabel.save(scan, out / "imagesTs" / "scan_5.nii.gz")
            continue
        nibabel.save(scan, out / "imagesTr" / f"scan_{number}.nii.gz")
        lesion = (label.get_fdata() == 2).astype("uint8")
        nibabel.save(nibabel.Nifti1Image(lesion, label.affine), out / "labelsTr" / f"scan_{number}.nii.gz")
    return out
