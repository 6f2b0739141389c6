# SPDX-License-Identifier: Apache-2.0
"""A function as a command line."""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable, Sequence
from types import UnionType
from typing import Any, get_args, get_type_hints

import fire

__all__ = ["command"]


def command(function: Callable[..., Any], arguments: Sequence[str] | None = None) -> Any:
    """Call `function` with the command line's arguments, once all of them are known to be its own.

    Fire alone calls first, and complains of an argument that it could not use when everything is written. An option whose
    parameter is a `str`, alone or in a union, gets what was typed (to Fire 2024_01 is the number 202401); one that is a
    `Sequence[str]` may be given several times (Fire keeps the last).

    Raises:
        SystemExit: an argument is unknown or missing, or is --help; Fire has printed the usage.
    """
    hints = get_type_hints(function)
    kinds = {name: hints[name] for name in inspect.signature(function).parameters}
    texts = {n for n, kind in kinds.items() if kind is str or (isinstance(kind, UnionType) and str in get_args(kind))}
    lists: dict[str, list[str]] = {name: [] for name, kind in kinds.items() if kind == Sequence[str]}
    rest: list[str] = []
    given = iter(sys.argv[1:] if arguments is None else arguments)
    for argument in given:
        option, equals, value = argument.partition("=")
        name = option[2:].replace("-", "_") if option.startswith("--") else ""
        if name not in texts and name not in lists:
            rest.append(argument)
            continue
        text = value if equals else next(given, "")
        if not equals and (not text or text.startswith("--")):
            print(f"ERROR: {option} needs a value; see --help", file=sys.stderr)
            raise SystemExit(2)
        if name in texts:
            rest.append(f"{option}={text!r}")  # as a Python string, which Fire reads as such
        else:
            lists[name].append(text)

    calls: list[tuple[tuple[Any, ...], dict[str, Any]]] = []

    @functools.wraps(function)
    def note(*positional: Any, **named: Any) -> None:
        calls.append((positional, named))

    fire.Fire(note, command=[*rest, *(f"--{name}={several!r}" for name, several in lists.items() if several)])
    positional, named = calls[0]
    for name, value in named.items():
        if kinds[name] is bool and not isinstance(value, bool):
            if str(value).lower() not in ("true", "false"):
                print(f"ERROR: --{name} {value}: write True or False; see --help", file=sys.stderr)
                raise SystemExit(2)
            named[name] = str(value).lower() == "true"
    return function(*positional, **named)
