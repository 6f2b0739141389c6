# SPDX-License-Identifier: Apache-2.0
import pytest
import torch
import torchvision

from common.networks import LevelSpec, ViT


def tiny(**options) -> ViT:
    return ViT(**{"variant": "test_vit", "image_size": 64} | options)


def test_the_default_is_vit_b_16() -> None:
    with torch.device("meta"):
        network, imagenet = ViT(), ViT(in_channels=3, out_channels=1000)
        reference = torchvision.models.vit_b_16(weights=None)
    assert sum(p.numel() for p in imagenet.parameters()) == 86_567_656 == sum(p.numel() for p in reference.parameters())
    assert network.level_specs == (
        *(LevelSpec(f"block_{i}", 768, 16) for i in (3, 6, 9)),
        LevelSpec("class_token", 768, 224),
    )


def test_maps_are_the_patch_tokens_in_the_images_order() -> None:
    torch.manual_seed(0)
    network = tiny().eval()
    with torch.no_grad():
        for block in network.blocks:  # each token then stays what the patch embedding made of it
            block.attn.proj.weight.zero_()
            block.attn.proj.bias.zero_()
            block.mlp.fc2.weight.zero_()
            block.mlp.fc2.bias.zero_()
        image = torch.randn(1, 1, 64, 64)
        level = network.encode(image)[0]
        kernel, bias = network.patch_embed.proj.weight, network.patch_embed.proj.bias
        for i, j in [(0, 0), (1, 3), (3, 2)]:
            patch = image[0, :, 16 * i : 16 * i + 16, 16 * j : 16 * j + 16]
            token = (kernel * patch).sum((1, 2, 3)) + bias + network.pos_embed[0, 1 + 4 * i + j]
            torch.testing.assert_close(level[0, :, i, j], token, rtol=1e-4, atol=1e-5)


def test_the_class_token_alone_is_classified() -> None:
    torch.manual_seed(0)
    network = tiny(out_channels=3).eval()
    with torch.no_grad():
        levels = network.encode(torch.randn(2, 1, 64, 64))
        token = levels[-1][:, :, 0, 0]
        assert levels[-1].shape == (2, 64, 1, 1)
        torch.testing.assert_close(network.decode(levels, levels[0]), token @ network.head.weight.T + network.head.bias)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"image_size": 70}, "image_size: 70; give a multiple of 16"),
        ({"variant": "test_vit2"}, "does not classify a class token"),
    ],
)
def test_wrong_options_are_refused(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        tiny(**options)
