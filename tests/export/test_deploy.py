# SPDX-License-Identifier: Apache-2.0
"""model.ts as MONAI Deploy's MonaiBundleInferenceOperator reads and runs it; its steps are restated here.

The operator opens the TorchScript archive alone, without the bundle's folder: metadata and the configuration `inference` come
from the archive's `<stem of the file>/extra`, transforms that load or save are dropped (what is to add the channel axis must be
a transform of its own), and an image comes as an array without a channel axis together with its affine.
"""

from __future__ import annotations

import json
import sys
import zipfile
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser, ConfigWorkflow
from monai.data import MetaTensor
from monai.transforms import Compose, MapTransform
from monai.utils import MetaKeys, SpaceKeys

from common.export.formats import bundled_code

from .conftest import KINDS, SEGMENTS, Exported


def operators_parser(file: Path, folder: Path) -> ConfigParser:
    """The configuration as the operator gets it; `folder` is where it unpacks."""
    parser, root = ConfigParser(), file.stem
    with zipfile.ZipFile(file) as archive:
        parser.read_meta(f=json.loads(archive.read(f"{root}/extra/metadata.json")))
        member = f"{root}/extra/inference.json"
        archive.extractall(members=[member], path=folder)
    parser.read_config([str(folder / member)])
    parser.parse()
    return parser


def without(compose: Compose, *names: str) -> Compose:
    """The Compose with transforms dropped whose class name holds one of `names`."""
    assert isinstance(compose, Compose)
    compose.transforms = tuple(t for t in compose.transforms if not any(name in type(t).__name__ for name in names))
    assert isinstance(compose.transforms[0], MapTransform)  # by the first it decides that data go in as a dictionary
    return compose


def operators_result(file: Path, image: nibabel.Nifti1Image, scratch: Path) -> np.ndarray:
    """The label volume that the operator emits for an image, as (W, H, D)."""
    parser = operators_parser(file, scratch)
    device, inferer = (parser.get_parsed_content(key) for key in ("device", "inferer"))
    before, after = (without(parser.get_parsed_content(f"{p}processing"), "LoadImage", "SaveImage") for p in ("pre", "post"))
    formats = parser["_meta_"]["network_data_format"]
    assert list(formats["inputs"]) == ["image"] and list(formats["outputs"]) == ["pred"]
    assert {port["type"] for ports in formats.values() for port in ports.values()} == {"image"}
    network = torch.jit.load(str(file), map_location=device).eval()
    voxels = image.get_fdata(dtype=np.float32)
    meta = {
        MetaKeys.AFFINE: torch.as_tensor(image.affine),
        MetaKeys.ORIGINAL_AFFINE: image.affine,
        MetaKeys.SPACE: SpaceKeys.RAS,
        MetaKeys.SPATIAL_SHAPE: np.asarray(voxels.shape),
        MetaKeys.ORIGINAL_CHANNEL_DIM: "no_channel",
    }
    with torch.no_grad():
        inputs = before({"image": MetaTensor.ensure_torch_and_prune_meta(voxels, meta)})
        output = inferer(inputs=inputs["image"][None].to(device), network=network)
        outputs = after({"pred": output[0], **inputs})
    return np.squeeze(outputs["pred"].cpu().numpy(), 0).astype(np.uint8)


@pytest.mark.parametrize("kind", KINDS)
def test_the_archive_is_laid_out_for_the_operator(exported: Exported, tmp_path: Path, kind: str) -> None:
    file = exported.folders[kind] / "models" / "model.ts"
    with zipfile.ZipFile(file) as archive:
        assert {name.split("/")[0] for name in archive.namelist()} == {"model"}
    parser = operators_parser(file, tmp_path)
    for name in ("metadata", "inference"):
        beside = json.loads((exported.folders[kind] / "configs" / f"{name}.json").read_text())
        inside = parser["_meta_"] if name == "metadata" else parser.config
        assert beside.items() <= {key: inside[key] for key in beside}.items(), name


@pytest.mark.parametrize("kind", SEGMENTS)
def test_the_operator_gives_the_bundles_own_labels(
    exported: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """From the archive alone, away from the bundle and without its code; voxel for voxel what `monai.bundle run` writes."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    folder = exported.copy(kind, tmp_path)
    with bundled_code(folder):
        workflow = ConfigWorkflow(
            config_file=str(folder / "configs" / "inference.json"), logging_file=False, workflow_type="inference",
            bundle_root=str(folder), dataset_dir=str(folder / "data" / "imagesTr"),
        )  # fmt: skip
        workflow.initialize()
        workflow.run()
        workflow.finalize()
    written = {file.name.removesuffix("_pred.nii.gz"): nibabel.load(file) for file in folder.glob("eval/*.nii.gz")}
    assert len(written) == 5
    alone = tmp_path / "alone" / "model.ts"
    alone.parent.mkdir()
    alone.write_bytes((folder / "models" / "model.ts").read_bytes())
    monkeypatch.chdir(alone.parent)
    found = 0
    for name, label in sorted(written.items()):
        image = nibabel.load(folder / "data" / "imagesTr" / f"{name}.nii.gz")
        ours = operators_result(alone, image, tmp_path / "unpacked")
        np.testing.assert_array_equal(ours, np.asarray(label.dataobj))
        found += int(ours.sum())
    assert found > 0  # else the volumes would be equal in any geometry


def test_a_renamed_file_is_not_read(exported: Exported, tmp_path: Path) -> None:
    """The operator's rule that the bundle's README warns of."""
    renamed = tmp_path / "student.ts"
    renamed.write_bytes((exported.folders["student_lits"] / "models" / "model.ts").read_bytes())
    with pytest.raises(KeyError):
        operators_parser(renamed, tmp_path)
    assert "Do not rename" in (exported.folders["student_lits"] / "docs" / "README.md").read_text()
