# SPDX-License-Identifier: Apache-2.0
"""A group of one dataset with named teachers: figshare states cross-architecture distillation as its section 3 prints it."""

from pathlib import Path

import pytest
import torch
import yaml
from monai.bundle import ConfigParser
from torch import Tensor

from common.bundle_files import write_group
from common.distillation import DistillationLoss, TeacherStudent
from common.networks import VGG19, EfficientNet, FeatureNet, Features, Hybrid, ViT

ROOT = Path(__file__).parents[2]
TINY: dict[str, FeatureNet] = {"VGG19": VGG19(out_channels=3, variant="vgg11", mlp_ratio=0.01)}
TINY |= {"ViT": ViT(out_channels=3, variant="test_vit", image_size=64)}


def read(bundle: str, config: str) -> ConfigParser:
    return ConfigParser(ConfigParser.load_config_file(str(ROOT / "bundles" / bundle / "configs" / f"{config}.yaml")))


VGG, VIT = 139_581_379, 85_407_747  # torchvision's counts with 1 input channel and 3 outputs
TEACHERS = {"hybrid": ("VGG19", "ViT"), "dual_vgg": ("VGG19", "VGG19"), "dual_vit": ("ViT", "ViT")}


@pytest.mark.parametrize("name", TEACHERS)
def test_a_teacher_is_two_networks_of_the_papers_size_with_an_output_a_class(name: str) -> None:
    parser = read(f"teacher_figshare_{name}", "train")
    with torch.device("meta"):
        network = parser.get_parsed_content("network_def")
    assert isinstance(network, Hybrid)
    assert [type(encoder).__name__ for encoder in network.encoders] == list(TEACHERS[name])
    branches = [{"VGG19": VGG, "ViT": VIT}[branch] for branch in TEACHERS[name]]
    assert sum(p.numel() for p in network.parameters()) == sum(branches) + 3 * 6 + 3  # W z + b, z of 2 x 3 logits
    assert parser["class_weights"] is False and parser["image_size"] == 224


def features(seed: int) -> Features:
    generator = torch.Generator().manual_seed(seed)
    draw = [torch.randn(4, 3, generator=generator, dtype=torch.float64)]
    draw += [torch.randn(4, 5, 6, 6, generator=generator, dtype=torch.float64) for _ in range(2)]
    return Features(draw[0], draw[1:2], draw[2:])


def expected_loss(student: Features, teacher: Features, label: Tensor) -> float:
    """0.1 CE + 0.9 T^2 KL(teacher || student) at T = 4, and the squared difference of the maps, written out."""
    log_p = student.output.log_softmax(1)
    task = -sum(log_p[i, int(y)] for i, y in enumerate(label)) / len(label)
    p, q = (teacher.output / 4).softmax(1), (student.output / 4).softmax(1)
    soft = 16 * (p * (p / q).log()).sum(1).mean()
    return float(0.1 * task + 0.9 * soft + (student.adapted[0] - teacher.adapted[0]).square().mean())


def test_the_student_minimises_the_printed_loss_from_the_first_epoch() -> None:
    parser = read("student_figshare", "distill")
    parser["data"] = None  # the task loss is unweighted: it reads no counts
    loss = parser.get_parsed_content("loss")
    assert isinstance(loss, DistillationLoss)
    assert (parser["warmup"], parser["ramp"], parser["ceiling"]) == (0, 0, 1.0)  # the curriculum's factor is 1 throughout
    loss.cf = 1.0
    student, teacher, label = features(0), features(1), torch.tensor([0, 2, 1, 1])
    assert float(loss((student, teacher), label)) == pytest.approx(expected_loss(student, teacher, label))
    assert set(loss.terms) == {"task", "soft_output", "geometric"}


@pytest.mark.parametrize(("name", "geometric"), [("hybrid", 1), ("dual_vgg", 1), ("hybrid", 0), ("dual_vit", 0)])
def test_the_geometric_term_compares_the_last_convolution_with_block_3(name: str, geometric: int) -> None:
    parser = read("student_figshare", "distill")
    parser["geometric"] = geometric
    parser["network_def"] = EfficientNet(out_channels=3, variant="test_efficientnet")
    parser["teacher_network"] = Hybrid([TINY[branch] for branch in TEACHERS[name]], 3)
    module = parser.get_parsed_content("module_def")
    assert isinstance(module, TeacherStudent)
    student, teacher = module(torch.rand(2, 1, 64, 64))
    assert student.output.shape == teacher.output.shape == (2, 3)
    pairs = [(module.student.level_specs[i].name, module.teacher.level_specs[j].name) for i, j in module.pairs]
    assert (pairs == [("blocks_3", "conv_5")]) == bool(geometric)
    assert not geometric or teacher.adapted[0].shape == student.adapted[0].shape == (2, 48, 4, 4)


def test_a_teacher_without_that_convolution_is_named() -> None:
    parser = read("student_figshare", "distill")
    parser["network_def"] = EfficientNet(out_channels=3, variant="test_efficientnet")
    parser["teacher_network"] = Hybrid([TINY["ViT"], TINY["ViT"]], 3)
    with pytest.raises(RuntimeError) as error:
        parser.get_parsed_content("module_def")
    assert "blocks_3: conv_5" in str(error.value.__cause__)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"teachers": {"odd": ["VGG19", "ResNet"]}}, "odd is made of ResNet; choose of VGG19, ViT"),
        ({"teachers": {}}, "needs a target and at least one source"),
        ({"datasets": {"a": {"module": "common.data.oasis"}, "b": {"module": "common.data.adni"}}}, "`teachers` are for a"),
        ({"task": "segmentation"}, "`teachers` are for a classification group of one dataset"),
    ],
)
def test_what_cannot_be_written_is_named(tmp_path: Path, change: dict[str, object], message: str) -> None:
    group = yaml.safe_load((ROOT / "bundles" / "figshare.yaml").read_text()) | change
    (tmp_path / "figshare.yaml").write_text(yaml.safe_dump(group))
    with pytest.raises(ValueError, match=message):
        write_group(tmp_path / "figshare.yaml")
