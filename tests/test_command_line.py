# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import importlib
import inspect
from collections.abc import Sequence
from pathlib import Path

import fire
import pytest

from common.command_line import command

SCRIPTS = ("study", "report", "new_group", "make_phantoms", "demo", "bench", "sync_recipes.sync")
called: list[dict[str, object]] = []


def example(
    name: str,
    *,
    runs: str | Path,
    seeds: str = "0",
    dataset: Sequence[str] = (),
    window: Sequence[float] | None = None,
    cores: int | None = None,
    force: bool = False,
) -> int:
    """What a script does.

    Args:
        name: a name.
        runs: a folder.
        seeds: whole numbers.
        dataset: several.
        window: two numbers.
        cores: a number.
        force: or not.
    """
    called.append(
        {"name": name, "runs": runs, "seeds": seeds, "dataset": dataset, "window": window, "cores": cores, "force": force}
    )
    return 3


@pytest.fixture(autouse=True)
def nothing_called() -> None:
    called.clear()


def test_texts_arrive_as_typed_and_numbers_as_numbers() -> None:
    """Fire reads 2024_01 as 202401 and 0,1 as a tuple."""
    assert command(example, ["a", "--runs", "2024_01", "--seeds=0,1", "--window=-100,250", "--cores", "2"]) == 3
    assert called == [
        {"name": "a", "runs": "2024_01", "seeds": "0,1", "dataset": (), "window": (-100, 250), "cores": 2, "force": False}
    ]


def test_an_option_that_is_a_sequence_is_given_several_times() -> None:
    command(example, ["a", "--dataset", "b=1,2", "--runs=r", "--dataset=c=2024_01"])
    assert called[0]["dataset"] == ["b=1,2", "c=2024_01"]


def test_what_is_left_out_has_its_default() -> None:
    command(example, ["a", "--runs", "r"])
    assert called == [{"name": "a", "runs": "r", "seeds": "0", "dataset": (), "window": None, "cores": None, "force": False}]


@pytest.mark.parametrize(("typed", "means"), [("--force", True), ("--force=true", True), ("--force=false", False)])
def test_a_word_for_true_or_false_is_not_a_text(typed: str, means: bool) -> None:
    command(example, ["a", "--runs", "r", typed])
    assert called[0]["force"] is means


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["a", "--runs", "r", "--seed", "1"], "Could not consume arg: --seed"),
        (["a", "--runs", "r", "more"], "Could not consume arg: more"),
        (["a"], "Missing required flags"),
        (["a", "--runs", "--cores", "2"], "--runs needs a value"),
        (["a", "--runs", "r", "--force", "no"], "--force no: write True or False"),
    ],
)
def test_nothing_is_called_with_arguments_that_are_not_its_own(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        command(example, arguments)
    assert stopped.value.code == 2 and not called
    assert message in capsys.readouterr().err


def test_help_shows_the_function(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        command(example, ["--help"])
    assert stopped.value.code == 0 and not called
    shown = "".join(capsys.readouterr())
    assert "What a script does." in shown and "--window" in shown and "two numbers" in shown


@pytest.mark.parametrize("script", SCRIPTS)
def test_help_of_a_script_is_its_whole_docstring(script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fire drops what follows a colon in a later line of an argument's description."""
    name, _, function = script.partition(".")
    monkeypatch.syspath_prepend(Path(__file__).parents[1] / "scripts")
    called = getattr(importlib.import_module(name), function or name)
    written = inspect.getdoc(called).partition("Args:")[2]
    shown = fire.docstrings.parse(inspect.getdoc(called)).args
    assert [argument.name for argument in shown] == list(inspect.signature(called).parameters)
    assert " ".join(f"{argument.name}: {argument.description}" for argument in shown).split() == written.split()
