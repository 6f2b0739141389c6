# SPDX-License-Identifier: Apache-2.0
import pytest
import torch

from common.networks import VGG19, EfficientNet, Hybrid, LevelSpec, ViT


def vgg(**options) -> VGG19:
    return VGG19(variant="vgg11", mlp_ratio=1 / 256, **options)


def vit(**options) -> ViT:
    return ViT(variant="test_vit", image_size=64, **options)


def test_parameters_of_vgg19_and_vit_b_16_with_their_imagenet_heads() -> None:
    with torch.device("meta"):
        options = {"in_channels": 3, "out_channels": 1000}
        network = Hybrid([VGG19(**options), ViT(**options)], 2)
    assert sum(p.numel() for p in network.parameters()) == 230_238_898
    assert network.level_specs[-2:] == (LevelSpec("conv_5", 512, 16), LevelSpec("fused", 1280, 32))


@pytest.mark.parametrize("kinds", [(vgg, vit), (vit, vgg), (vgg, vgg), (vit, vit)])
def test_output_is_a_linear_classifier_of_the_branches_logits(kinds: tuple) -> None:
    torch.manual_seed(0)
    branches = [kind(out_channels=3).double().eval() for kind in kinds]
    network = Hybrid(branches, 3).double().eval()
    image = torch.randn(2, 1, 64, 64, dtype=torch.float64)
    with torch.no_grad():
        logits = torch.cat([branch(image) for branch in branches], dim=1)
        want = logits @ network.classifier.weight.T + network.classifier.bias
        torch.testing.assert_close(network(image), want)
        pooled = torch.cat([branch.encode(image)[-1].mean((2, 3)) for branch in branches], dim=1)
        torch.testing.assert_close(network.encode(image)[-1].mean((2, 3)), pooled)
    assert network.classifier.weight.shape == (3, 6)


def test_branches_are_copies() -> None:
    branch = vit()
    network = Hybrid([branch, branch], 2)
    with torch.no_grad():
        network.encoders[0].cls_token.zero_()
    assert branch.cls_token.abs().sum() > 0 and network.encoders[1].cls_token.abs().sum() > 0
    assert branch.whole


@pytest.mark.parametrize(
    ("branches", "message"),
    [
        (lambda: [vgg()], "branches: 1; give at least two"),
        (lambda: [vgg(), vit(in_channels=3)], r"branches\[1\] reads 2-D images of 3 channels"),
        (lambda: [EfficientNet(variant="test_efficientnet"), Stride16()], r"branches\[0\] has a bottleneck of stride 32"),
    ],
)
def test_branches_that_do_not_fit_are_refused(branches, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Hybrid(branches(), 2)


class Stride16(EfficientNet):
    """A network whose bottleneck is claimed to be finer."""

    def __init__(self) -> None:
        super().__init__(variant="test_efficientnet")
        self.level_specs = (*self.level_specs[:-1], LevelSpec("head", 256, 16))
