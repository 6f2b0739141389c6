# SPDX-License-Identifier: Apache-2.0
"""An annotator's day with two exported students on a real MONAI Label server, through its REST client.

The tests are one sequence: each works with the weights and labels that those above it left on the server.
"""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from environment import WORK
from monailabel.client import MONAILabelClient
from server import fine_tune, run_bundle
from students import EXPORTED, STUDENTS
from volumes import OTHER, TURNED, case, oriented, read_nrrd

EPOCHS = 1
IMAGE = "patient_0"  # the turned volume

each_student = pytest.mark.parametrize("student", list(STUDENTS))


def served(client: MONAILabelClient, student: str, image: str) -> nibabel.Nifti1Image:
    """The label of an image in the server's store, asked for as 3D Slicer does."""
    options = client.info()["models"][student]["config"]
    request = {key: value[0] if isinstance(value, list) else value for key, value in options.items()}
    file, _ = client.infer(student, image, request | {"result_extension": ".nrrd", "result_dtype": "uint8"})
    label = read_nrrd(file)
    Path(file).unlink()
    return label


def bundle(office: Path, student: str) -> Path:
    return office / "app" / "model" / student


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return torch.load(folder / "models" / "model.pt", weights_only=True)


def assert_same(label: nibabel.Nifti1Image, truth: nibabel.Nifti1Image, image: nibabel.Nifti1Image) -> None:
    """Voxel for voxel, in the image's own geometry, and not trivially."""
    voxels = np.asarray(label.dataobj)
    assert voxels.shape == image.shape
    assert np.allclose(label.affine, image.affine, atol=1e-3) and np.allclose(truth.affine, image.affine, atol=1e-3)
    assert np.array_equal(voxels, np.asarray(truth.dataobj))
    assert 0.005 < (voxels > 0).mean() < 0.9, "the student predicts nothing, or everything"


def upload(client: MONAILabelClient, office: Path, number: int) -> tuple[nibabel.Nifti1Image, Path]:
    image, label = case(number, office)
    client.upload_image(str(image), f"patient_{number}")
    return nibabel.load(image), label


def test_the_server_lists_the_students(client: MONAILabelClient) -> None:
    info = client.info()
    assert set(info["models"]) == set(info["trainers"]) == set(STUDENTS)
    for student in STUDENTS:
        assert info["models"][student]["labels"] == {"lesion": 1}
        assert info["models"][student]["config"]["model_filename"] == ["model.pt"]


def test_the_volume_is_a_hard_one(client: MONAILabelClient, office: Path) -> None:
    image, _ = upload(client, office, 0)
    assert len(set(image.shape)) == 3 and nibabel.aff2axcodes(image.affine) == TURNED
    assert (np.abs(image.affine[:3, :3]) > 0.05).sum() > 6, "not rotated"


@each_student
def test_labels_are_those_of_the_bundle(client: MONAILabelClient, office: Path, student: str) -> None:
    image = nibabel.load(office / f"{IMAGE}.nii.gz")
    truth = nibabel.load(run_bundle(EXPORTED / student, office / f"{IMAGE}.nii.gz", office / "run"))
    assert_same(served(client, student, IMAGE), truth, image)


@each_student
def test_a_reoriented_copy_gets_the_same_label(client: MONAILabelClient, office: Path, student: str) -> None:
    copy = oriented(nibabel.load(office / f"{IMAGE}.nii.gz"), OTHER)
    nibabel.save(copy, office / "copy.nii.gz")
    client.upload_image(str(office / "copy.nii.gz"), "copy")
    label = np.asarray(served(client, student, IMAGE).dataobj) > 0
    back = np.asarray(oriented(served(client, student, "copy"), TURNED).dataobj) > 0
    assert back.shape == label.shape
    assert 2 * (back & label).sum() / (back.sum() + label.sum()) > 0.999


@each_student
@pytest.mark.parametrize("labelled", [1, 2, 3])  # outer loop: labels are shared by the students
def test_fine_tuned_weights_are_served(client: MONAILabelClient, office: Path, labelled: int, student: str) -> None:
    """One epoch on 1 or 2 labelled volumes (MONAI Label keeps none for validation), then on 3 (it keeps one)."""
    submit(client, office, labelled)
    folder = bundle(office, student)
    before, old = weights(folder), served(client, student, IMAGE)
    log = office / "server.log"
    start = log.stat().st_size
    fine_tune(client, student, epochs=EPOCHS)
    trainings = log.read_text()[start:].count("SupervisedTrainer - INFO - Engine run finished")
    assert trainings == 1, 'an empty run_id must train once, which is what `"run": "@training"` is for'
    assert_moved_a_little(before, weights(folder))
    new = served(client, student, IMAGE)
    truth = nibabel.load(run_bundle(folder, office / f"{IMAGE}.nii.gz", office / "run"))
    assert_same(new, truth, nibabel.load(office / f"{IMAGE}.nii.gz"))
    changed = int((np.asarray(new.dataobj) != np.asarray(old.dataobj)).sum())
    print(f"\naccept: {student} fine-tuned on {labelled}: {changed} of {old.dataobj.size} voxels changed")
    assert changed > 0, "the old weights are served, or the test cannot tell them from the new"


def submit(client: MONAILabelClient, office: Path, wanted: int) -> None:
    """Submit labels until `wanted` images have one."""
    done = client.datastore()["objects"]
    for number in range(sum(bool(entry["labels"]) for entry in done.values()), wanted):
        _, label = upload(client, office, number)
        client.save_label(f"patient_{number}", str(label), params={"label_info": [{"name": "lesion", "idx": 1}]})
    assert sum("final" in entry["labels"] for entry in client.datastore()["objects"].values()) == wanted


def assert_moved_a_little(before: dict[str, torch.Tensor], after: dict[str, torch.Tensor]) -> None:
    """Same keys and shapes; training began at the weights that were served, not at new ones."""
    assert {key: value.shape for key, value in before.items()} == {key: value.shape for key, value in after.items()}
    learned = [key for key in before if not key.endswith(("running_mean", "running_var", "num_batches_tracked"))]
    steps = torch.stack([(after[key] - before[key]).abs().max() for key in learned])
    assert 0 < steps.max() < 0.01 and torch.isfinite(steps).all()


def test_the_log_is_clean(client: MONAILabelClient, office: Path) -> None:
    log = (office / "server.log").read_text()
    for sign in ("keys don't match", "Traceback (most recent call last)", "[ERROR]", "not supported", "size mismatch"):
        assert sign not in log, log[max(0, log.find(sign) - 1500) : log.find(sign) + 1500]


def test_nothing_was_written_beside_the_served_bundles(client: MONAILabelClient, office: Path) -> None:
    """The exports are as they were, and the server's current folder is empty."""
    assert not list((office / "cwd").iterdir())
    for student in STUDENTS:
        assert not list((EXPORTED / student).rglob("eval")) and WORK in (EXPORTED / student).parents
