# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
import torch
from monai.losses import DiceCELoss

from common.multi_head import PerDataset, PerDatasetLoss
from common.networks import MultiHead, UNet
from tests.tiny_classifier import images as noise
from tests.tiny_classifier import tiny


@pytest.fixture
def network() -> MultiHead:
    torch.manual_seed(0)
    return MultiHead(UNet(features=(4, 4, 6, 6, 8, 4)), {"a": 2, "b": 3}, "a")


@pytest.fixture
def images() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return {
        "b": 2 + torch.randn(3, 1, 32, 32, generator=generator),
        "a": torch.randn(2, 1, 32, 32, generator=generator),
    }


def test_each_dataset_has_its_own_head(network: MultiHead, images: dict[str, torch.Tensor]) -> None:
    module = PerDataset(network).eval()
    found = module(images)
    assert {name: tuple(output.shape[:2]) for name, output in found.items()} == {"b": (3, 3), "a": (2, 2)}
    for name, image in images.items():
        expected = network.decode_head(name, network.encode(image), image)
        torch.testing.assert_close(found[name], expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(found["a"], network(images["a"]), rtol=1e-5, atol=1e-5)


def test_batch_norm_sees_all_datasets_in_one_batch(network: MultiHead, images: dict[str, torch.Tensor]) -> None:
    module = PerDataset(network).train()
    module(images)
    first = network.encoder.conv_0.conv_0
    seen = first.conv(torch.cat(list(images.values())))
    # one update from (0, 1) with momentum 0.1, the variance unbiased
    norm = first.adn.N
    torch.testing.assert_close(norm.running_mean, 0.1 * seen.mean((0, 2, 3)), rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(norm.running_var, 0.9 + 0.1 * seen.var((0, 2, 3)), rtol=1e-4, atol=1e-6)
    assert norm.num_batches_tracked == 1


def test_every_dataset_counts_equally_whatever_its_size(network: MultiHead, images: dict[str, torch.Tensor]) -> None:
    task = DiceCELoss(include_background=False, to_onehot_y=True, softmax=True)
    generator = torch.Generator().manual_seed(2)
    labels = {name: torch.randint(0, 2, image.shape, generator=generator) for name, image in images.items()}
    outputs = PerDataset(network).eval()(images)
    loss = PerDatasetLoss(task=task)
    found = loss(outputs, labels)
    parts = {name: task(outputs[name], labels[name]) for name in ("a", "b")}
    torch.testing.assert_close(found, (parts["a"] + parts["b"]) / 2)
    assert loss.terms.keys() == parts.keys()
    for name, part in parts.items():
        assert torch.equal(loss.terms[name], part) and not loss.terms[name].requires_grad
    assert not list(loss.parameters())


def test_the_gradient_reaches_the_encoder_and_every_decoder(network: MultiHead, images: dict) -> None:
    module = PerDataset(network).train()
    labels = {name: (image > 0).long() for name, image in images.items()}
    task = DiceCELoss(include_background=False, to_onehot_y=True, softmax=True)
    PerDatasetLoss(task=task)(module(images), labels).backward()
    assert all(parameter.grad is not None for parameter in module.parameters())
    assert network.encoder.conv_0.conv_0.conv.weight.grad.abs().sum() > 0
    for name in ("a", "b"):
        assert network.decoders[name].final_conv.weight.grad.abs().sum() > 0


def test_classifiers_of_different_classes_share_an_encoder() -> None:
    network = MultiHead(tiny(), {"a": 2, "b": 4}, "a")
    batch = {"b": noise(3, seed=1), "a": noise(2)}
    labels = {"b": torch.tensor([3, 0, 1]), "a": torch.tensor([1, 0])}
    found = PerDataset(network).eval()(batch)
    assert {name: tuple(output.shape) for name, output in found.items()} == {"b": (3, 4), "a": (2, 2)}
    torch.testing.assert_close(found["a"], network(batch["a"]), rtol=1e-5, atol=1e-5)
    task = torch.nn.CrossEntropyLoss()
    value = PerDatasetLoss(task=task)(found, labels)
    torch.testing.assert_close(value, (task(found["a"], labels["a"]) + task(found["b"], labels["b"])) / 2)
    value.backward()
    assert all(parameter.grad is not None for parameter in network.parameters())


def test_a_loss_a_dataset() -> None:
    pred = {"a": torch.randn(3, 2, dtype=torch.float64), "b": torch.randn(3, 2, dtype=torch.float64)}
    label = {"a": torch.tensor([0, 1, 1]), "b": torch.tensor([1, 0, 0])}
    first, second = torch.nn.CrossEntropyLoss(), torch.nn.CrossEntropyLoss(weight=torch.tensor([0.3, 0.7], dtype=torch.float64))
    loss = PerDatasetLoss(task={"b": second, "a": first})
    expected = (first(pred["a"], label["a"]) + second(pred["b"], label["b"])) / 2
    torch.testing.assert_close(loss(pred, label), expected)
