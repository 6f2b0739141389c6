# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import bench
import bench_classification
import pytest
import torch

TINY = (4, 4, 4, 4, 4, 4)


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    """The benchmarks set one thread; the other tests keep theirs."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def check(rows: list[bench.Row], targets: list[str]) -> None:
    assert [r.target for r in rows] == targets
    for r in rows:
        assert 0 < r.low <= r.ratio <= r.high
        assert r.name and r.ours and r.other
        assert (r.met is None) == (r.target == "")


def test_steps_of_both_stages_are_compared_with_the_students_step() -> None:
    check(bench.stage3(features=TINY, size=32, repeats=2), ["at most 1.05", ""])
    check(bench.stage2(features=TINY, size=32, repeats=2), ["at most 2"])


def test_a_classifiers_joint_step_is_compared_with_a_teachers() -> None:
    rows = bench_classification.stage2(variant="test_efficientnet", size=32, repeats=2)
    check(rows, [""])
    assert "teacher's step" in rows[0].other and "test_efficientnet" in rows[0].name


def test_a_classifiers_distillation_is_compared_with_its_parts() -> None:
    rows = bench_classification.stage3(variant="test_efficientnet", size=32, repeats=2)
    check(rows, ["at most 1.05"])
    assert "student step + teacher" in rows[0].other and "late-3" in rows[0].name


def test_the_store_is_compared_with_a_cache_and_with_the_files(tmp_path: Path) -> None:
    rows = bench.store(folder=tmp_path, volumes=2, size=16, slices=4, repeats=1)
    check(rows, ["at least 0.8", "at least 0.8", "", "at least 50"])
    assert all("slices/s" in r.ours and "slices/s" in r.other for r in rows)


def test_memory_is_compared_between_few_volumes_and_many(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def here(function: Callable[..., Any], *arguments: Any) -> Any:
        return function(*arguments)

    monkeypatch.setattr(bench, "in_own_process", here)
    rows = bench.memory(folder=tmp_path, volumes=(1, 2), size=32, slices=4, steps=1)
    check(rows, ["at most 1.05"])
    assert "2 volumes (8 slices)" in rows[0].name


def test_arms_take_turns_after_one_round_that_does_not_count() -> None:
    order: list[str] = []
    seconds = bench.alternate({"a": lambda: order.append("a"), "b": lambda: order.append("b")}, 2)
    assert order == ["a", "b"] * 3
    assert {name: len(values) for name, values in seconds.items()} == {"a": 2, "b": 2}


@pytest.mark.parametrize("ending", [".md", ".json"])
def test_the_result_is_printed_and_written(
    ending: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found = [bench.row("fast", [1.0, 2.0, 3.0], ("at most", 2.5), "1 s", "2 s"), bench.row("slow", [3.0], None, "", "")]
    found.append(bench.row("bad", [3.0], ("at least", 4), "", ""))
    monkeypatch.setattr(bench, "store", lambda *, folder, repeats: found)
    out = tmp_path / f"result{ending}"
    bench.bench(only="store", out=str(out))
    printed = capsys.readouterr().out
    assert "| fast | 2 | 1.5 to 2.5 | at most 2.5: met | 1 s | 2 s |" in printed
    assert "| bad | 3 |  | at least 4: **missed** |" in printed
    if ending == ".md":
        assert out.read_text() == printed
    else:
        rows = json.loads(out.read_text())["rows"]
        assert [r["met"] for r in rows] == [True, None, False]


def test_wrong_arguments_are_named_before_anything_runs() -> None:
    with pytest.raises(ValueError, match="stage9 is no benchmark; there are stage3, stage2, store, memory"):
        bench.bench(only="stage2,stage9")
    with pytest.raises(ValueError, match=r"end in \.md or \.json"):
        bench.bench(out="result.txt")
