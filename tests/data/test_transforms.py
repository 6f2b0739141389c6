# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from ignite.engine import Events
from monai.data import DataLoader, Dataset
from monai.engines import SupervisedEvaluator
from monai.transforms import (
    CenterScaleCropd,
    Compose,
    EnsureChannelFirstd,
    Lambdad,
    LoadImaged,
    Orientationd,
    Resized,
    ScaleIntensityRangePercentilesd,
)
from PIL import Image
from scipy.ndimage import label as components
from scipy.spatial.transform import Rotation
from torch import Tensor, nn

from common.data.facts import Facts, Item
from common.data.table import cases
from common.data.transforms import (
    LoadItemd,
    SliceMean,
    augmentation,
    evaluation,
    inferer,
    label_map,
    preprocessing,
    restore,
)
from common.phantoms.layouts import write_dataset

VOLUME = Facts(name="vol", reader=list, classes={"lv": (4,)}, label_values=(0, 1, 4), window=(0.0, 100.0))
IMAGE = replace(VOLUME, dims=2)
SIZE = 48
CLASSES = Facts(
    name="cxr",
    reader=list,
    task="classification",
    classes={"healthy": ("well",), "ill": ("flu", "covid")},
    label_values=("covid", "flu", "well", "unsure"),
    percentiles=(1.0, 99.0),
    dims=2,
)
LENGTHS = (12, 16, 24)  # SIZE is a multiple of each: then the way there and back is exact, whatever the mask


class Threshold(nn.Module):
    """Class k where the image is nearest k / classes; remembers the shapes that it saw."""

    def __init__(self, classes: int = 1) -> None:
        super().__init__()
        self.levels = torch.linspace(0, 1, classes + 1).view(1, -1, 1, 1)
        self.seen: list[tuple[int, ...]] = []

    def forward(self, image: Tensor) -> Tensor:
        self.seen.append(tuple(image.shape))
        return -1000 * (image - self.levels).abs()


def deploy(facts: Facts, items: list[Item], network: nn.Module, size: int = SIZE) -> list[dict]:
    """What the evaluate recipe does; the decollated outputs."""
    transform, found = evaluation(facts, size), []
    engine = SupervisedEvaluator(
        device=torch.device("cpu"),
        val_data_loader=DataLoader(Dataset(items, transform), batch_size=1),
        network=network,
        inferer=inferer(facts, size),
        postprocessing=restore(transform),
    )
    engine.add_event_handler(Events.ITERATION_COMPLETED, lambda e: found.extend(e.state.output))
    engine.run()
    return found


def write_volume(folder: Path, affine: np.ndarray, raw: np.ndarray, image: np.ndarray | None = None) -> Item:
    image = np.where(raw == 4, 100.0, 0.0) if image is None else image
    for name, array in (("image", image.astype(np.float32)), ("label", raw.astype(np.uint8))):
        nibabel.save(nibabel.Nifti1Image(array, affine), folder / f"{name}.nii.gz")
    return {"image": f"{folder}/image.nii.gz", "label": f"{folder}/label.nii.gz", "case": "vol/p1", "volume": "a"}


def noise_mask(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    """Raw labels without any symmetry: another axis order, flip or shift is another mask."""
    return np.random.default_rng(seed).choice([0, 1, 4], shape, p=[0.5, 0.2, 0.3])


def affine(axes: tuple[int, int, int], signs: tuple[int, int, int], degrees: float = 0.0) -> np.ndarray:
    """Array axis i runs along world axis axes[i], turned by `degrees` about an oblique axis; spacing 1, 2, 3 mm."""
    out = np.eye(4)
    out[:3, :3] = 0
    for i, (axis, sign) in enumerate(zip(axes, signs, strict=True)):
        out[axis, i] = sign * (i + 1)
    turn = Rotation.from_rotvec(np.deg2rad(degrees) * np.array([1, 2, 2]) / 3)
    out[:3, :3] = turn.as_matrix() @ out[:3, :3]
    out[:3, 3] = (-7, 30, 11)
    return out


AFFINES = {
    "RAS": affine((0, 1, 2), (1, 1, 1)),
    "LPS": affine((0, 1, 2), (-1, -1, 1)),
    "PIR": affine((1, 2, 0), (-1, -1, 1)),
    "SRA": affine((2, 0, 1), (1, 1, 1)),
    "ALI, oblique": affine((1, 0, 2), (1, -1, -1), 20),
}


@pytest.mark.parametrize("slice_axis", [0, 1, 2])
@pytest.mark.parametrize("orientation", ["RAS", None])
@pytest.mark.parametrize("name", AFFINES)
def test_a_volume_comes_back_in_the_geometry_of_its_file(
    tmp_path: Path, name: str, orientation: str | None, slice_axis: int
) -> None:
    raw, geometry = noise_mask(LENGTHS), AFFINES[name]
    item = write_volume(tmp_path, geometry, raw)
    network = Threshold()
    facts = replace(VOLUME, orientation=orientation, slice_axis=slice_axis)
    (output,) = deploy(facts, [item], network)
    for key in ("pred", "label"):
        assert output[key].shape == (1, *LENGTHS)
        np.testing.assert_array_equal(output[key][0].numpy(), raw == 4)
        np.testing.assert_allclose(output[key].affine.numpy(), geometry, atol=1e-5)
    # the network saw every slice along the right axis, and no other
    image = nibabel.load(item["image"])
    turned = image if orientation is None else nibabel.as_closest_canonical(image)
    assert sum(shape[0] for shape in network.seen) == turned.shape[slice_axis]
    assert {shape[1:] for shape in network.seen} == {(1, SIZE, SIZE)}


def test_a_volume_comes_back_where_pixels_do_not_fit(tmp_path: Path) -> None:
    # a smooth body, 21 x 34 pixels to 32 x 32 and back: only pixels on its edge may differ
    x, y, z = np.meshgrid(*[np.linspace(-1, 1, n) for n in (21, 34, 9)], indexing="ij")
    raw = np.where((x / 0.5) ** 2 + (y - 0.2) ** 2 / 0.4 + z**2 < 1, 4, 0)
    facts = replace(VOLUME, orientation="RAS")
    (output,) = deploy(facts, [write_volume(tmp_path, AFFINES["LPS"], raw)], Threshold(), size=32)
    pred, truth = output["pred"][0].numpy() == 1, raw == 4
    assert 2 * (pred & truth).sum() / (pred.sum() + truth.sum()) > 0.97


def test_several_classes_come_back(tmp_path: Path) -> None:
    facts = replace(VOLUME, classes={"a": (4,), "b": (1,)})
    raw = noise_mask((16, 48, 5))
    image = np.select([raw == 4, raw == 1], [50.0, 100.0])
    (output,) = deploy(facts, [write_volume(tmp_path, AFFINES["LPS"], raw, image)], Threshold(2))
    index = np.select([raw == 4, raw == 1], [1, 2])
    np.testing.assert_array_equal(output["label"][0], index)
    np.testing.assert_array_equal(output["pred"][0], index)


def write_image(folder: Path, name: str, raw: np.ndarray, mode: str = "L") -> Item:
    Image.fromarray(np.where(raw == 4, 100, 0).astype(np.uint8)).convert(mode).save(folder / f"{name}.png")
    Image.fromarray(raw.astype(np.uint8)).save(folder / f"{name}_m.png")
    return {"image": f"{folder}/{name}.png", "label": f"{folder}/{name}_m.png", "case": "vol/p1", "volume": ""}


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA"])
@pytest.mark.parametrize("spacing", [None, [0.5, 2.0]])
def test_images_come_back_in_the_geometry_of_their_files(tmp_path: Path, mode: str, spacing) -> None:
    raws = [noise_mask(shape, seed) for seed, shape in enumerate([(24, 16), (12, 48)])]
    items = [write_image(tmp_path, f"i{n}", raw, mode) for n, raw in enumerate(raws)]
    items = [item | ({} if spacing is None else {"spacing": spacing}) for item in items]
    for output, raw in zip(deploy(IMAGE, items, Threshold()), raws, strict=True):
        for key in ("pred", "label"):
            np.testing.assert_array_equal(output[key][0].numpy(), raw.T == 4)  # MONAI reads a picture as (x, y)
            expected = np.diag([*(spacing or [1, 1]), 1, 1])
            np.testing.assert_allclose(np.diag(output[key].affine)[:2], np.diag(expected)[:2])


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_stacked_slices_come_back_as_a_volume_with_their_spacing(tmp_path: Path, mode: str) -> None:
    raw = noise_mask((16, 24, 3))
    parts = [write_image(tmp_path, f"s{z}", raw[..., z], mode) for z in range(3)]
    item = {
        "image": [part["image"] for part in parts],
        "label": [part["label"] for part in parts],
        "case": "vol/p1",
        "volume": "a",
        "spacing": [0.5, 0.75, 8.0],
    }
    (output,) = deploy(replace(VOLUME, orientation="RAS"), [item], Threshold())
    for key in ("pred", "label"):
        np.testing.assert_array_equal(output[key][0].numpy(), raw.transpose(1, 0, 2) == 4)
        np.testing.assert_allclose(output[key].affine, np.diag([0.5, 0.75, 8.0, 1.0]))


def test_spacing_is_that_of_the_file_unless_it_is_stacked(tmp_path: Path) -> None:
    """Of slices only the pixels are kept, also of NIfTI files; the affine of a DICOM series is not replaced by a table's."""
    spacing = [0.5, 0.75, 8.0]
    for z in range(3):
        nibabel.save(nibabel.Nifti1Image(noise_mask((16, 24)).astype(np.uint8), np.eye(4)), tmp_path / f"s{z}.nii.gz")
    load = LoadItemd(["image"], dims=3)
    stacked = load({"image": [str(tmp_path / f"s{z}.nii.gz") for z in range(3)], "spacing": spacing})["image"]
    np.testing.assert_allclose(stacked.affine, np.diag([*spacing, 1.0]))
    write_dataset("lits_dicom", tmp_path, cases=1, size=16, slices=4)
    series = str(next(path.parent for path in tmp_path.rglob("*.dcm")))
    told, own = load({"image": series, "spacing": spacing})["image"], load({"image": series})["image"]
    np.testing.assert_array_equal(told.affine, own.affine)
    assert not np.allclose(own.affine, np.diag([*spacing, 1.0]))


@pytest.mark.parametrize("orientation", ["RAS", None])
def test_training_and_deployment_see_the_same_image(tmp_path: Path, orientation: str | None) -> None:
    raw = noise_mask(LENGTHS)
    image = np.random.default_rng(1).normal(50, 60, LENGTHS)
    item = write_volume(tmp_path, AFFINES["PIR"], raw, image)
    facts = replace(VOLUME, orientation=orientation, window=None, percentiles=(2.0, 95.0), slice_axis=1)
    trained, deployed = preprocessing(facts, 20)(dict(item)), evaluation(facts, 20)(dict(item))
    assert torch.equal(trained["image"].as_tensor(), deployed["image"].as_tensor())
    assert trained["label"].shape == trained["image"].shape
    assert deployed["label"].shape == (1, *LENGTHS)


@pytest.mark.parametrize(
    "changes", [{}, {"window": None, "percentiles": (1.0, 99.0)}, {"window": None, "percentiles": (0.0, 100.0)}]
)
@pytest.mark.parametrize("kind", ["noise", "constant", "mostly black"])
def test_intensities_are_between_0_and_1(tmp_path: Path, changes: dict, kind: str) -> None:
    image = np.random.default_rng(1).normal(50, 600, (10, 20, 4))
    if kind == "constant":
        image[:] = 1000
    elif kind == "mostly black":
        image[:], image[3, 4, 1] = 0, 70000
    item = write_volume(tmp_path, np.eye(4), noise_mask(image.shape), image)
    found = preprocessing(replace(VOLUME, **changes), 20)(dict(item))["image"]
    assert torch.isfinite(found).all() and found.min() >= 0 and found.max() <= 1
    if kind == "noise":
        low, high = (0, 100) if not changes else np.percentile(image.astype(np.float32), changes["percentiles"])
        expected = np.clip((image - low) / (high - low), 0, 1).mean()
        assert float(found.mean()) == pytest.approx(expected, abs=0.01)


def test_raw_values_become_class_indices_in_the_order_of_the_classes() -> None:
    facts = replace(VOLUME, classes={"b": (4, 2), "a": (1,)}, label_values=(0, 1, 2, 4, 9))
    assert dict(zip(*label_map(facts), strict=True)) == {0: 0, 1: 2, 2: 1, 4: 1, 9: 0}


def test_an_unlabelled_item_has_no_label(tmp_path: Path) -> None:
    item = write_volume(tmp_path, AFFINES["LPS"], noise_mask(LENGTHS))
    labelled = preprocessing(replace(VOLUME, orientation="RAS"), 16)(dict(item))
    free = preprocessing(replace(VOLUME, orientation="RAS"), 16)(item | {"label": None})
    assert "label" not in free
    assert torch.equal(free["image"].as_tensor(), labelled["image"].as_tensor())


def refusal(item: Item, facts: Facts = VOLUME) -> str:
    with pytest.raises((ValueError, FileNotFoundError, RuntimeError)) as error:
        preprocessing(facts, 16)(dict(item))
    cause: BaseException = error.value
    while isinstance(cause, RuntimeError) and cause.__cause__ is not None:  # MONAI wraps what a transform raises
        cause = cause.__cause__
    return f"{type(cause).__name__}: {cause}"


def test_names_a_volume_that_cannot_be_trained_on(tmp_path: Path) -> None:
    raw = noise_mask((8, 9, 4))
    item = write_volume(tmp_path, np.eye(4), raw)

    def with_label(label: np.ndarray, geometry: np.ndarray | None = None) -> str:
        geometry = np.eye(4) if geometry is None else geometry
        nibabel.save(nibabel.Nifti1Image(label.astype(np.float32), geometry), tmp_path / "other.nii.gz")
        return refusal(item | {"label": f"{tmp_path}/other.nii.gz"})

    assert "other.nii.gz has shape (9, 8, 4) but its image" in with_label(raw.transpose(1, 0, 2))
    assert "other.nii.gz has another affine than its image" in with_label(raw, np.diag([-1.0, 1, 1, 1]))
    assert "other.nii.gz holds label values 3, 7; its dataset knows [0, 1, 4]" in with_label(
        np.where(raw == 1, 3, np.where(raw == 4, 7, 0))
    )
    assert "other.nii.gz holds label values 0.5" in with_label(raw / 2 * (raw == 1))
    assert "other.nii.gz has 4 channels" in with_label(np.stack([raw] * 4, -1))
    assert "other.nii.gz has 2 dimensions; 3 are expected" in with_label(raw[..., 0])
    assert "other.nii.gz holds values that are not finite" in with_label(np.where(raw == 1, np.nan, 0))
    assert "gone.nii.gz does not exist" in refusal(item | {"image": f"{tmp_path}/gone.nii.gz"})
    for content in (b"", b"not an image", Path(item["image"]).read_bytes()[:60]):
        (tmp_path / "torn.nii.gz").write_bytes(content)
        assert "torn.nii.gz cannot be read" in refusal(item | {"image": f"{tmp_path}/torn.nii.gz"})


def test_names_an_image_that_cannot_be_trained_on(tmp_path: Path) -> None:
    items = [write_image(tmp_path, f"i{n}", noise_mask((8, 8 + n))) for n in range(2)]
    assert "i0.png has 2 dimensions; 3 are expected" in refusal(items[0])
    assert "i1_m.png has shape (9, 8) but its image" in refusal(items[0] | {"label": items[1]["label"]}, IMAGE)
    stacked = items[0] | {"image": [item["image"] for item in items], "label": None}
    assert "i0.png and the other slices of its volume differ in size" in refusal(stacked)
    assert "i0.png has 3 dimensions; 2 are expected" in refusal(items[0] | {"image": [items[0]["image"]], "label": None}, IMAGE)
    assert "i0.png has 3 dimensions but a spacing of 2 numbers" in refusal(
        items[0] | {"image": [items[0]["image"]], "label": None, "spacing": [1.0, 1.0]}
    )


def test_a_mask_in_colours_is_refused_and_one_that_is_grey_in_colours_is_not(tmp_path: Path) -> None:
    item = write_image(tmp_path, "i", raw := noise_mask((8, 6)))
    grey = Image.open(item["label"])
    grey.convert("RGB").save(tmp_path / "rgb.png")
    loaded = LoadItemd(["image", "label"], dims=2)(item | {"label": f"{tmp_path}/rgb.png"})
    np.testing.assert_array_equal(loaded["label"][0].numpy(), raw.T)
    Image.merge("RGB", [grey, grey.point(lambda value: 255 * (value == 0)), grey]).save(tmp_path / "colours.png")
    assert "colours.png is a mask in colours" in refusal(item | {"label": f"{tmp_path}/colours.png"}, IMAGE)


def test_a_dicom_folder_is_a_volume(tmp_path: Path) -> None:
    root = write_dataset("lits_dicom", tmp_path, cases=1, size=16, slices=5, seed=0)
    (item,) = cases(root, "lits_dicom")
    assert Path(item["image"]).is_dir()
    loaded = LoadItemd(["image", "label"], dims=3)(dict(item))
    assert loaded["image"].shape == loaded["label"].shape == (1, 16, 16, 5)


@pytest.fixture
def augmented() -> Callable[[Tensor, Tensor, int], dict[str, Tensor]]:
    transform = augmentation()

    def augmented(image: Tensor, label: Tensor, seed: int) -> dict[str, Tensor]:
        transform.set_random_state(seed=seed)
        return transform({"image": image, "label": label})

    return augmented


def test_augmentation_keeps_image_and_label_together(augmented) -> None:
    # blobs in a corner; the image is the label, so that intensities tell where its classes went
    label = torch.zeros(1, 40, 40)
    label[0, 4:14, 5:22], label[0, 18:24, 8:13] = 1, 2
    changed = 0
    for seed in range(60):
        out = augmented(label / 2, label, seed)
        assert out["image"].shape == out["label"].shape == label.shape
        assert set(out["label"].unique().tolist()) <= {0.0, 1.0, 2.0}
        changed += not torch.equal(out["label"], label)
        for k in (1, 2):
            inside = out["label"] == k
            # gamma, noise and blur move values, not places: away from edges the classes stay apart
            edge = torch.nn.functional.max_pool2d((out["label"] != k).float(), 3, 1, 1) > 0
            core = inside & ~edge
            value, around = out["image"][core].median(), out["image"][out["label"] == 0].median()
            assert core.any() and value - around > 0.2 * k
        assert components(out["label"][0].numpy() > 0)[1] == 2
    assert changed > 40


def test_augmentation_does_every_kind_and_leaves_the_label_alone_by_intensity(augmented) -> None:
    label = torch.zeros(1, 40, 40)
    label[0, 4:14, 5:22] = 1
    image = torch.rand(1, 40, 40, generator=torch.Generator().manual_seed(0))
    flips = [torch.rot90(x, k, (1, 2)) for k in range(4) for x in (label, label.flip(1))]
    seen, zoomed, intensity = set(), 0, 0
    for seed in range(120):
        out = augmented(image, label, seed)
        same = [i for i, flip in enumerate(flips) if torch.equal(out["label"], flip)]
        seen |= set(same)
        zoomed += not same
        intensity += bool(same) and not torch.equal(out["image"].sort().values, image.sort().values)
    assert seen == set(range(8)) and zoomed > 10 and intensity > 10


def picture(folder: Path, mode: str = "L", suffix: str = "png", label: str | None = "flu") -> Item:
    image = np.random.default_rng(0).integers(0, 256, (20, 30), np.uint8)
    Image.fromarray(image).convert("RGB").convert(mode).save(folder / f"x.{suffix}")
    return {"image": f"{folder}/x.{suffix}", "label": label, "case": "cxr/p1", "volume": "", "origin": "index.csv, row 2"}


@pytest.mark.parametrize(("mode", "suffix"), [("L", "png"), ("RGB", "jpg"), ("RGBA", "png")])
def test_a_picture_to_classify_is_what_stock_transforms_make_of_it(tmp_path: Path, mode: str, suffix: str) -> None:
    item = picture(tmp_path, mode, suffix)
    stock = Compose(
        [
            LoadImaged("image"),
            EnsureChannelFirstd("image", channel_dim="no_channel" if mode == "L" else -1),
            Lambdad("image", lambda image: (image.squeeze(3) if image.ndim > 3 else image)[:3].mean(0, keepdim=True)),
            ScaleIntensityRangePercentilesd("image", 1, 99, 0, 1, clip=True),
            Resized("image", spatial_size=[16, 16], mode="bilinear"),
        ]
    )
    expected = stock({"image": item["image"]})["image"].as_tensor()
    for transform in (preprocessing(CLASSES, 16), evaluation(CLASSES, 16)):
        found = transform(dict(item))
        assert torch.equal(found["image"].as_tensor(), expected) and found["image"].shape == (1, 16, 16)
        assert found["label"].dtype == torch.long and found["label"].shape == () and int(found["label"]) == 1
        assert (found["case"], found["origin"]) == (item["case"], item["origin"])
        assert "label" not in transform(item | {"label": None})


def test_a_volume_to_classify_is_what_stock_transforms_make_of_it(tmp_path: Path) -> None:
    image = np.random.default_rng(1).normal(50, 60, LENGTHS)
    item = write_volume(tmp_path, AFFINES["PIR"], noise_mask(LENGTHS), image) | {"label": "well"}
    facts = replace(CLASSES, dims=3, orientation="RAS", slice_axis=1, middle_share=0.4)
    stock = Compose(
        [
            LoadImaged("image", ensure_channel_first=True),
            Orientationd("image", axcodes="RAS", labels=None),
            CenterScaleCropd("image", roi_scale=[1, 0.4, 1]),
            ScaleIntensityRangePercentilesd("image", 1, 99, 0, 1, clip=True),
            Resized("image", spatial_size=[20, -1, 20], mode="trilinear"),
        ]
    )
    expected = stock({"image": item["image"]})["image"].as_tensor()
    for transform in (preprocessing(facts, 20), evaluation(facts, 20)):
        found = transform(dict(item))
        assert torch.allclose(found["image"].as_tensor(), expected.clamp(max=1), atol=1e-6) and int(found["label"]) == 0


@pytest.mark.parametrize("slice_axis", [0, 1, 2])
def test_a_volumes_probabilities_are_the_mean_of_its_slices(slice_axis: int) -> None:
    volume = torch.rand(2, 1, 9, 10, 11, dtype=torch.float64, generator=torch.Generator().manual_seed(0))

    def network(slices: Tensor) -> Tensor:
        assert len(slices) <= 16, "memory would grow with the volume"
        return torch.stack([slices.flatten(1).sum(1), slices.flatten(1).max(1).values * 3], dim=1)

    found = SliceMean(slice_axis)(volume, network).softmax(1)
    for b in range(2):
        each = [network(s[None, None]).softmax(1)[0] for s in volume[b, 0].unbind(slice_axis)]
        torch.testing.assert_close(found[b].double(), torch.stack(each).mean(0), rtol=1e-5, atol=1e-6)
    assert isinstance(inferer(replace(CLASSES, dims=3, slice_axis=slice_axis), 8), SliceMean)


@pytest.mark.parametrize("mode", ["P", "CMYK", "LA"])
def test_names_a_picture_whose_numbers_are_no_intensities(tmp_path: Path, mode: str) -> None:
    item = picture(tmp_path, mode, "jpg" if mode == "CMYK" else "png")
    assert f"{item['image']} has the mode {mode}" in refusal(item, CLASSES)
    with pytest.raises(ValueError, match=f"has the mode {mode}"):
        LoadItemd(["image", "label"], dims=2)(item | {"label": None})


def test_names_a_picture_or_label_that_cannot_be_trained_on(tmp_path: Path) -> None:
    item = picture(tmp_path, suffix="jpg")
    assert "index.csv, row 2: " in refusal(item | {"label": "Flu"}, CLASSES)
    assert "has the label 'unsure', which is in no class" in refusal(item | {"label": "unsure"}, CLASSES)
    content = Path(item["image"]).read_bytes()
    for torn in (b"", content[: len(content) // 2], b"not an image"):
        Path(item["image"]).write_bytes(torn)
        assert f"{item['image']} cannot be read" in refusal(item, CLASSES)


def test_upright_images_stay_upright() -> None:
    image = torch.zeros(1, 24, 24)  # axes (x, y): a corner above left
    image[0, 2:8, 2:8] = 1
    seen = {}
    for upright in (True, False):
        transform, corners = augmentation(task="classification", upright=upright), set()
        for seed in range(60):
            transform.set_random_state(seed=seed)
            out = transform({"image": image, "label": torch.tensor(1)})
            assert torch.equal(out["label"], torch.tensor(1))
            x, y = (float((out["image"][0].sum(1 - axis) * torch.arange(24)).sum() / out["image"].sum()) for axis in (0, 1))
            corners.add((x > 12, y > 12))
        seen[upright] = corners
    assert seen[True] == {(False, False), (True, False)}
    assert len(seen[False]) == 4
