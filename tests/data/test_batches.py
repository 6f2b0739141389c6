# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
import torch
from torch import Tensor

from common.data.batches import adversarial_batch, labelled_first, per_dataset

CPU = torch.device("cpu")


def stream(value: float, n: int, labelled: bool = True) -> dict[str, Tensor]:
    image = torch.full((n, 1, 4, 4), value)
    return {"image": image, "case": ["c"] * n} | ({"label": image + 0.5} if labelled else {})


@pytest.mark.parametrize("order", ["abwx", "wabx", "xwab"])
def test_labelled_streams_come_first_each_image_beside_its_label(order: str) -> None:
    streams = {"a": stream(1, 2), "b": stream(2, 3), "w": stream(3, 2, False), "x": stream(4, 1, False)}
    image, label = labelled_first({name: streams[name] for name in order}, CPU)
    assert sorted(image[:5, 0, 0, 0].tolist()) == [1, 1, 2, 2, 2]
    assert sorted(image[5:, 0, 0, 0].tolist()) == [3, 3, 4]
    assert torch.equal(label, image[:5] + 0.5)


def test_one_labelled_stream_is_passed_on_as_it_is() -> None:
    image, label = labelled_first({"a": stream(1, 2)}, CPU, True)
    assert torch.equal(image, stream(1, 2)["image"]) and torch.equal(label, stream(1, 2)["label"])


def test_source_and_target_are_one_batch_source_first() -> None:
    image, labels, (n_source,), options = adversarial_batch({"s": stream(1, 3), "t": stream(2, 2)}, CPU)
    assert image[:, 0, 0, 0].tolist() == [1, 1, 1, 2, 2] and n_source == 3 and options == {}
    assert torch.equal(labels[0], image[:3] + 0.5) and torch.equal(labels[1], image[3:] + 0.5)
    assert adversarial_batch({"s": stream(1, 3), "t": stream(2, 2, False)}, CPU)[1][1] is None


def test_datasets_stay_apart() -> None:
    images, labels = per_dataset({"s": stream(1, 3), "t": stream(2, 2)}, CPU)
    assert list(images) == list(labels) == ["s", "t"]
    assert torch.equal(images["t"], stream(2, 2)["image"]) and torch.equal(labels["s"], stream(1, 3)["label"])


def classes(n: int, labelled: bool = True) -> dict[str, Tensor]:
    return stream(1, n, False) | ({"label": torch.arange(n)} if labelled else {})


def test_classes_are_passed_on_as_a_vector() -> None:
    image, label = labelled_first({"w": classes(3, False), "a": classes(2)}, CPU)
    assert image.shape == (5, 1, 4, 4) and label.tolist() == [0, 1] and label.dtype == torch.long
    _, labels, _, _ = adversarial_batch({"s": classes(2), "t": classes(2, False)}, CPU)
    assert labels[0].tolist() == [0, 1] and labels[1] is None
    images, by_name = per_dataset({"a": classes(2), "b": classes(3)}, CPU)
    assert len(images["b"]) == 3 and by_name["b"].tolist() == [0, 1, 2]
