# SPDX-License-Identifier: Apache-2.0
import socket

import numpy as np
import pytest
import torch
import torch.multiprocessing as mp
from hypothesis import given, settings
from hypothesis import strategies as st
from ignite.exceptions import NotComputableError
from monai.engines import SupervisedEvaluator

from common.metrics import CaseDice


def slow_dice(pred, label, cases, classes):
    """Every pixel visited once, in Python."""
    counts = {}
    for case, p, t in zip(cases, pred, label, strict=True):
        for k in range(1, classes + 1):
            both, size = counts.get((case, k), (0, [0, 0]))
            for x, y in zip(p.ravel().tolist(), t.ravel().tolist(), strict=True):
                both += x == k and y == k
                size = [size[0] + (x == k), size[1] + (y == k)]
            counts[case, k] = both, size
    values = [2 * both / sum(size) for both, size in counts.values() if size[1]]
    return sum(values) / len(values)


def logits_of(index, classes):
    return torch.nn.functional.one_hot(torch.as_tensor(index), classes + 1).movedim(-1, 1).double()


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 2**32 - 1), classes=st.integers(1, 3), slices=st.integers(1, 7), batch=st.integers(1, 4))
def test_equals_the_slow_loop_for_any_batching(seed, classes, slices, batch):
    rng = np.random.default_rng(seed)
    pred, label = rng.integers(0, classes + 1, (2, slices, 5, 4))
    label[0, 0, 0] = 1  # at least one truth
    cases = [f"a/{i}" for i in rng.integers(0, 3, slices)]
    metric = CaseDice([f"c{k}" for k in range(classes)])
    for start in range(0, slices, batch):
        part = slice(start, start + batch)
        truth = torch.as_tensor(label[part])[:, None].float()
        metric.update((logits_of(pred[part], classes), truth, cases[part]))
    assert metric.compute() == pytest.approx(slow_dice(pred, label, cases, classes), abs=1e-12)


def test_case_without_a_class_is_left_out_of_that_class_only():
    label = np.array([[[1, 1], [0, 0]], [[2, 2], [0, 0]]])
    pred = np.array([[[1, 0], [2, 0]], [[2, 2], [0, 0]]])  # case 0 predicts the class 2 it does not have
    metric = CaseDice(["a", "b"])
    metric.update((logits_of(pred, 2), torch.as_tensor(label)[:, None], ["x/0", "x/1"]))
    assert metric.compute() == pytest.approx((2 / 3 + 1) / 2)


def test_in_a_stock_evaluator():
    label = torch.zeros(3, 1, 4, 4)
    label[:, :, :2] = 1
    data = [{"image": label[i], "label": label[i], "case": f"a/{i // 2}"} for i in range(3)]

    class Network(torch.nn.Module):
        def forward(self, x):
            return torch.cat([0.5 - x, x - 0.5], dim=1)

    engine = SupervisedEvaluator(
        device=torch.device("cpu"),
        val_data_loader=torch.utils.data.DataLoader(data, batch_size=2),
        network=Network(),
        key_val_metric={"val_dice": CaseDice(["lv"])},
        decollate=False,
    )
    engine.run()
    assert engine.state.metrics["val_dice"] == 1.0
    assert engine.state.best_metric == 1.0
    assert isinstance(engine.state.metrics["val_dice"], float)
    engine.run()  # a second epoch starts from zero counts
    assert engine.state.metrics["val_dice"] == 1.0


def _rank(rank, port, values):
    torch.distributed.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    metric = CaseDice(["lv"])
    pred, label, cases = PARTS[rank]
    metric.update((logits_of(pred, 1), torch.as_tensor(label)[:, None], cases))
    values[rank] = metric.compute()
    torch.distributed.destroy_process_group()


# one case is split over the two ranks: its Dice must come from the counts of both
PARTS = [
    (np.array([[[1, 1], [0, 0]]]), np.array([[[1, 0], [0, 0]]]), ["a/0"]),
    (np.array([[[0, 1], [1, 0]], [[1, 0], [0, 0]]]), np.array([[[1, 1], [1, 1]], [[1, 0], [0, 0]]]), ["a/0", "a/1"]),
]


def test_counts_are_gathered_across_ranks():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with mp.Manager() as manager:
        values = manager.dict()
        mp.spawn(_rank, args=(port, values), nprocs=2)
        pred, label, cases = ([item for part in PARTS for item in part[i]] for i in range(3))
        expected = slow_dice(np.array(pred), np.array(label), cases, 1)
        assert list(dict(values).values()) == pytest.approx([expected] * 2)


@pytest.mark.parametrize(
    ("classes", "label", "cases", "message"),
    [
        (["a", "b"], torch.zeros(2, 1, 4, 4), ["x/0", "x/1"], "2 output channels but the 2 classes"),
        (["a"], torch.zeros(2, 4, 4), ["x/0", "x/1"], "do not match"),
        (["a"], torch.zeros(2, 1, 4, 4), ["x/0"], "do not match"),
    ],
)
def test_mismatch_is_refused(classes, label, cases, message):
    with pytest.raises(ValueError, match=message):
        CaseDice(classes).update((torch.zeros(2, 2, 4, 4), label, cases))


def test_nothing_to_measure_is_refused():
    with pytest.raises(ValueError, match="needs the foreground classes"):
        CaseDice([])
    metric = CaseDice(["tumour"])
    with pytest.raises(NotComputableError):
        metric.compute()
    metric.update((torch.zeros(1, 2, 4, 4), torch.zeros(1, 1, 4, 4), ["x/0"]))
    with pytest.raises(ValueError, match=r"none of the 1 validation cases contains any of the classes \['tumour'\]"):
        metric.compute()
