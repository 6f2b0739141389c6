# SPDX-License-Identifier: Apache-2.0
import json

import numpy as np
import pytest
import torch
from monai.data import DataLoader, MetaTensor
from monai.engines import SupervisedEvaluator
from monai.transforms import Activationsd

from common.metrics import ImageMetrics


def metrics(output="unused", classes=("normal", "sick")):
    return ImageMetrics(classes, output=output, run="runs/x", dataset="a", root="/data/a")


class Mean(torch.nn.Module):
    """Logits (-mean, mean) of the image."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(5))

    def forward(self, image):
        mean = image.flatten(1).mean(1)
        return torch.stack([-mean, mean], dim=1)


def item(case, name, value, label):
    image = MetaTensor(torch.full((1, 4, 4), float(value)), meta={"filename_or_obj": f"/data/a/{name}"})
    return {"image": image, "label": torch.tensor(label), "case": case}


def evaluate(data, handler, **kwargs):
    engine = SupervisedEvaluator(
        device=torch.device("cpu"),
        val_data_loader=DataLoader(data, batch_size=2),
        network=Mean(),
        postprocessing=Activationsd("pred", softmax=True),
        val_handlers=[handler],
        **kwargs,
    )
    engine.run()
    return engine


DATA = [item("a/1", "images/z.png", 1, 1), item("a/0", "images/y.png", -1, 0), item("a/0", "images/x.png", 2, 0)]


def test_as_a_handler_of_a_stock_evaluator(tmp_path):
    output = tmp_path / "test" / "a" / "metrics.json"
    engine = evaluate(DATA, metrics(output))
    result = json.loads(output.read_text())
    assert [result[key] for key in ("task", "dataset", "run")] == ["classification", "a", "runs/x"]
    assert [result[key] for key in ("classes", "undefined", "parameters")] == [["normal", "sick"], {}, 5]
    assert [(row["case"], row["image"], row["label"]) for row in result["units"]] == [
        ("a/0", "images/x.png", 0), ("a/0", "images/y.png", 0), ("a/1", "images/z.png", 1)
    ]  # fmt: skip
    sick = 1 / (1 + np.exp(-2 * np.array([2, -1, 1])))
    assert [row["probabilities"][1] for row in result["units"]] == pytest.approx(sick)
    assert result["confusion"] == [[1, 1], [0, 1]]
    gap = abs(1 - sick[2] + 1 - (1 - sick[1])) / 3 + sick[0] / 3  # two images share a bin
    assert result["mean"] == pytest.approx(
        {"accuracy": 2 / 3, "balanced_accuracy": 0.75, "macro_f1": 2 / 3, "auroc": 0.5, "ece": gap}
    )
    assert result["seconds_per_case"] > 0
    first = output.read_text()
    engine.run()  # starts again, so that no image is seen twice
    assert json.loads(output.read_text())["units"] == json.loads(first)["units"]


def test_a_class_without_test_images_gives_no_auroc_and_the_reason(tmp_path):
    output = tmp_path / "m.json"
    evaluate(DATA[1:], metrics(output))
    result = json.loads(output.read_text())
    assert result["mean"]["auroc"] is None
    assert result["undefined"] == {"auroc": "no test image of class sick"}
    assert result["mean"]["accuracy"] == 0.5
    assert result["confusion"] == [[1, 1], [0, 0]]


def test_files_elsewhere_keep_their_path():
    handler = metrics()
    image = MetaTensor(torch.zeros(1, 2, 2), meta={"filename_or_obj": "/other/b.png"})
    assert handler._name({"case": "a/0", "image": image}) == "/other/b.png"


@pytest.mark.parametrize(
    ("calls", "message"),
    [
        ([([0.5, 0.25, 0.25], 0)], r"a/0 x.png: pred .* not the probabilities of the classes \['normal', 'sick'\]"),
        ([([3.0, -2.0], 0)], "add a softmax"),
        ([([0.1, 0.1], 0)], "add a softmax"),
        ([([0.5, 0.5], 2)], r"class index 2 but the classes"),
        ([([0.5, 0.5], 0)] * 2, r"\('a/0', 'x.png'\) was seen twice"),
        ([], "no case was evaluated"),
    ],
)
def test_wrong_input_is_refused_by_name(calls, message):
    handler = metrics()
    with pytest.raises(ValueError, match=message):
        for probabilities, label in calls:
            handler.update(np.array(probabilities), label, "a/0", "x.png")
        handler.compute()


def test_handler_names_what_is_missing(tmp_path):
    handler = metrics(tmp_path / "m.json")
    with pytest.raises(ValueError, match=r"needs the keys \['case', 'label'\]"):
        evaluate([{"image": DATA[0]["image"]}], handler)
    with pytest.raises(ValueError, match="leave `decollate` true"):
        evaluate(DATA, handler, decollate=False)
    with pytest.raises(ValueError, match="a/1: the image has lost the name of its file"):
        evaluate([DATA[0] | {"image": torch.zeros(1, 4, 4)}], handler)
    with pytest.raises(ValueError, match="at least two classes"):
        metrics(classes=["a"])
    assert not (tmp_path / "m.json").exists()
