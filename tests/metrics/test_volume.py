# SPDX-License-Identifier: Apache-2.0
import itertools
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from monai.data import DataLoader, MetaTensor
from monai.engines import SupervisedEvaluator
from monai.metrics import compute_hausdorff_distance
from monai.transforms import AsDiscreted
from scipy.spatial.distance import cdist

from common.metrics import CaseMetrics
from common.metrics.volume import surface_distances


def metrics(classes=("lv",), output="unused", **kwargs):
    return CaseMetrics(classes, output=output, run="/ward-7/runs/student_a/alone/0", dataset="a", **kwargs)


def slow_surface(mask):
    """Pixels with a face neighbour outside the mask or the image, by visiting each."""
    points = []
    for index in itertools.product(*map(range, mask.shape)):
        if not mask[index]:
            continue
        for axis, step in itertools.product(range(mask.ndim), (-1, 1)):
            near = list(index)
            near[axis] += step
            if not 0 <= near[axis] < mask.shape[axis] or not mask[tuple(near)]:
                points.append(index)
                break
    return np.array(points, dtype=float).reshape(-1, mask.ndim)


def slow_hd95(pairs, spacing):
    """Pooled over the pairs of images (pred, truth) by all-pairs distances."""
    forward, backward = [], []
    for pred, truth in pairs:
        p, t = slow_surface(pred) * spacing, slow_surface(truth) * spacing
        diagonal = float(np.sqrt(sum((n * s) ** 2 for n, s in zip(truth.shape, spacing, strict=True))))
        if len(p) and len(t):
            forward += cdist(p, t).min(1).tolist()
            backward += cdist(p, t).min(0).tolist()
        else:
            forward += [diagonal] * len(p)
            backward += [diagonal] * len(t)
    return max(np.percentile(d, 95) for d in (forward, backward) if d)


spacings = st.tuples(*[st.sampled_from([0.5, 1.0, 3.0])] * 3)


@settings(deadline=None, max_examples=40)
@given(pred=arrays(bool, (4, 5, 3)), truth=arrays(bool, (4, 5, 3)), spacing=spacings)
def test_volume_equals_brute_force(pred, truth, spacing):
    truth[1, 2, 1] = True
    metric = metrics()
    metric.update(pred.astype(int), truth.astype(int), "a/0", "", spacing)
    row = metric.compute()["units"][0]
    tp, fp, fn = (pred & truth).sum(), (pred & ~truth).sum(), (~pred & truth).sum()
    assert row["dice"] == pytest.approx(2 * tp / (2 * tp + fp + fn))
    assert row["iou"] == pytest.approx(tp / (tp + fp + fn))
    assert row["recall"] == pytest.approx(tp / (tp + fn))
    assert row["precision"] == pytest.approx(tp / (tp + fp) if tp + fp else 0)
    assert row["hd95"] == pytest.approx(slow_hd95([(pred, truth)], spacing), rel=1e-6)


@settings(deadline=None, max_examples=25)
@given(images=arrays(bool, (3, 2, 6, 5)))
def test_set_of_images_pools_counts_and_distances(images):
    images[0, 1, 2, 2] = True
    metric = metrics()
    for pred, truth in images:
        metric.update(pred.astype(int), truth.astype(int), "a/0", "", None)
    result = metric.compute()
    (row,) = result["units"]
    pred, truth = images[:, 0], images[:, 1]
    assert row["dice"] == pytest.approx(2 * (pred & truth).sum() / (pred.sum() + truth.sum()))
    assert row["hd95"] == pytest.approx(slow_hd95([(p, t) for p, t in images], (1, 1)), rel=1e-6)
    assert result["hd95_unit"] == "px"


def test_agrees_with_monai_on_balls():
    grid = np.indices((20, 22, 12))
    ball = [sum((grid[i] - c[i]) ** 2 for i in range(3)) < 25 for c in ([9, 10, 6], [11, 9, 6])]
    metric = metrics()
    metric.update(ball[0].astype(int), ball[1].astype(int), "a/0", "", (1.5, 1.0, 2.0))
    one_hot = [torch.as_tensor(b[None, None]).float() for b in ball]
    expected = compute_hausdorff_distance(*one_hot, include_background=True, percentile=95, spacing=[1.5, 1.0, 2.0]).item()
    assert metric.compute()["units"][0]["hd95"] == pytest.approx(expected, rel=1e-6)


@settings(deadline=None, max_examples=20)
@given(mask=arrays(np.int64, (5, 4), elements=st.integers(0, 2)))
def test_identical_masks_are_perfect(mask):
    mask[0, :2] = [1, 2]
    metric = metrics(("a", "b"))
    metric.update(mask, mask, "a/0", "", None)
    for row in metric.compute()["units"]:
        assert [row[k] for k in ("dice", "iou", "recall", "precision", "hd95")] == [1, 1, 1, 1, 0]


@pytest.mark.parametrize("factor", [0.5, 3.0])
def test_hd_scales_with_the_spacing(factor):
    rng = np.random.default_rng(0)
    pred, truth = rng.integers(0, 2, (2, 7, 6, 5))
    values = []
    for spacing in ([1, 2, 3], [factor, 2 * factor, 3 * factor]):
        metric = metrics()
        metric.update(pred, truth, "a/0", "", spacing)
        values.append(metric.compute()["units"][0]["hd95"])
    assert values[1] == pytest.approx(factor * values[0], rel=1e-6)


def test_empty_truth_and_empty_prediction():
    zero, square = np.zeros((6, 8), int), np.zeros((6, 8), int)
    square[2:4, 2:4] = 1
    metric = metrics()
    metric.update(square, zero, "a/0", "", None)  # empty truth
    metric.update(zero, square, "a/1", "", None)  # missed
    metric.update(square, square, "a/2", "", None)
    result = metric.compute()
    empty, missed, perfect = result["units"]
    assert empty["empty_truth"] and not empty["empty_prediction"]
    assert [empty[k] for k in ("dice", "iou", "recall", "precision", "hd95")] == [None] * 5
    assert missed["empty_prediction"] and (missed["dice"], missed["precision"]) == (0, 0)
    assert missed["hd95"] == pytest.approx(10)  # diagonal of 6 x 8
    assert not (perfect["empty_truth"] or perfect["empty_prediction"])
    assert result["mean"]["dice"] == pytest.approx(0.5)  # the unit with an empty truth is not in the mean
    assert result["mean"]["hd95"] == pytest.approx(5)


def test_units_are_sorted_and_distinct_volumes_stay_apart():
    mask = np.ones((2, 2, 2), int)
    metric = metrics()
    for case, volume in (("a/1", "x"), ("a/0", "y"), ("a/0", "x")):
        metric.update(mask, mask, case, volume, (1, 1, 1))
    result = metric.compute()
    assert [(r["case"], r["volume"]) for r in result["units"]] == [("a/0", "x"), ("a/0", "y"), ("a/1", "x")]
    assert result["hd95_unit"] == "mm"


@pytest.mark.parametrize(
    ("calls", "message"),
    [
        ([((2, 2), (2, 3), None, 1)], "do not match"),
        ([((2, 2), (2, 2), (1, 1, 1), 1)], "do not match"),
        ([((2, 2), (2, 2), None, 2)], r"a/0 .*class index 2 but the classes are \['lv'\]"),
        ([((2, 2, 2), (2, 2, 2), None, 1)] * 2, r"volume \('a/0', ''\) was seen twice"),
        ([((2, 2), (2, 2), None, 1), ((2, 2), (2, 2), (1, 1), 1)], "some images of a have a known spacing"),
        ([], "no case was evaluated"),
    ],
)
def test_wrong_input_is_refused_by_name(calls, message):
    metric = metrics()
    with pytest.raises(ValueError, match=message):
        for pred, label, spacing, value in calls:
            metric.update(np.full(pred, value), np.full(label, value), "a/0", "", spacing)
        metric.compute()


class Threshold(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(3))

    def forward(self, x):
        return torch.cat([0.5 - x, x - 0.5], dim=1)


def evaluate(data, handler, **kwargs):
    engine = SupervisedEvaluator(
        device=torch.device("cpu"),
        val_data_loader=DataLoader(data, batch_size=1),
        network=Threshold(),
        postprocessing=AsDiscreted("pred", argmax=True),
        val_handlers=[handler],
        **kwargs,
    )
    engine.run()
    return engine


def item(case, volume, shape=(1, 4, 4, 3), value=1.0):
    label = torch.zeros(shape)
    label[:, 1:3, 1:3] = value
    label = MetaTensor(label, affine=torch.diag(torch.tensor([2.0, 2.0, 5.0, 1.0])))
    return {"image": label.clone(), "label": label, "case": case, "volume": volume}


def test_as_a_handler_of_a_stock_evaluator(tmp_path):
    output = tmp_path / "test" / "a" / "metrics.json"
    data = [item("a/0", "ed"), item("a/0", "es"), item("a/1", "ed", value=0.0)]
    data[1]["image"][:] = 0  # nothing predicted
    handler = metrics(output=output)
    engine = evaluate(data, handler)
    result = json.loads(output.read_text())
    assert (result["dataset"], result["run"], result["hd95_unit"], result["parameters"]) == ("a", "student_a/alone/0", "mm", 3)
    assert [row["dice"] for row in result["units"]] == [1.0, 0.0, None]
    assert result["units"][1]["hd95"] == pytest.approx(np.sqrt(8**2 + 8**2 + 15**2))
    assert result["mean"]["dice"] == 0.5
    assert result["seconds_per_case"] > 0
    assert list(output.parent.iterdir()) == [output]
    first = output.read_bytes()
    engine.run()  # counts start again, so that the volumes are not seen twice
    again = json.loads(output.read_text())
    assert again["units"] == json.loads(first)["units"]


def test_images_count_in_pixels_where_the_spacing_is_unknown(tmp_path):
    data = [item("a/0", "", (1, 4, 4)), item("a/0", "", (1, 4, 4))]
    data[1]["image"][:] = 0
    evaluate(data, metrics(output=tmp_path / "m.json", spacing_known=False))
    result = json.loads((tmp_path / "m.json").read_text())
    assert result["hd95_unit"] == "px"
    (row,) = result["units"]
    assert row["dice"] == pytest.approx(2 * 4 / 12)
    assert row["hd95"] == pytest.approx(np.sqrt(32))


def test_failed_write_keeps_the_earlier_result(tmp_path, monkeypatch):
    output = tmp_path / "m.json"
    output.write_text("earlier")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(OSError, match="No space left"):
        evaluate([item("a/0", "")], metrics(output=output))
    assert list(tmp_path.iterdir()) == [output] and output.read_text() == "earlier"


def test_handler_names_what_is_missing(tmp_path):
    handler = metrics(output=tmp_path / "m.json")
    data = item("a/0", "")
    del data["volume"]
    with pytest.raises(ValueError, match=r"needs the keys \['volume'\]"):
        evaluate([data], handler)
    plain = item("a/0", "") | {"label": torch.ones(1, 4, 4, 3)}
    with pytest.raises(ValueError, match=r"a/0 .*lost its affine"):
        evaluate([plain], handler)
    with pytest.raises(ValueError, match="leave `decollate` true"):
        evaluate([item("a/0", "")], handler, decollate=False)
    with pytest.raises(ValueError, match="needs the foreground classes"):
        metrics(())


def test_surface_of_a_filled_image_is_its_border():
    full = np.ones((5, 5), bool)
    forward, backward = surface_distances(full, full, None)
    assert len(forward) == len(backward) == 16
    assert not forward.any()
