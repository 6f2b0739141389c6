# SPDX-License-Identifier: Apache-2.0
"""Weights and exported networks, read record by record: pickles by their opcodes, TorchScript by its source."""

from __future__ import annotations

import ast
import io
import pickletools
import re
from collections.abc import Collection, Iterator

from .configs import check_config
from .known import PICKLE_GLOBALS, PICKLE_OPCODES, SCRIPT_GLOBALS
from .operators import METHODS, NAMES, OPERATORS
from .tree import READ_ERRORS, Finding, read_zip

__all__ = ["check_archive"]

RECORDS = r"data\.pkl|byteorder|version|data/\d+|\.format_version|\.storage_alignment|\.data/(serialization_id|version)"
WEIGHTS = re.compile(RECORDS)
SCRIPT = re.compile(rf"{RECORDS}|constants\.pkl|constants/\d+|code/__torch__(/\w+)*\.py|extra/\w+\.json")
OWN_CLASS = re.compile(r"__torch__(?!\.torch\.classes)(\.\w+)* \w+")  # torch.classes are libraries' own, in C++
ROOTS = ("torch", "ops", "__torch__")  # of names that are judged whole
MAX_PICKLE, MAX_SOURCE = 2**26, 2**23


def check_archive(name: str, data: bytes, *, carried: Collection[str] = ()) -> list[Finding]:
    """Findings of a torch zip: `.ts` is a TorchScript archive, all else a state dict. `carried` as in `check_config`."""
    if not data.startswith(b"PK\x03\x04"):
        reason = "no torch zip: older files are whole pickles, and run as such on loading"
        return [Finding(name, reason), *(Finding(name, *found) for found in _pickle(data, PICKLE_GLOBALS))]
    try:
        tree = read_zip(io.BytesIO(data))
    except READ_ERRORS as error:
        return [Finding(name, "a damaged torch zip", str(error))]
    script = name.endswith(".ts")
    out = [Finding(f"{name}!{found.file}", found.reason, found.text) for found in tree.findings]
    if "data.pkl" not in tree.names:
        out.append(Finding(name, "no torch zip: data.pkl is missing"))
    for record in tree.names:
        inner = f"{name}!{record}"
        if not (SCRIPT if script else WEIGHTS).fullmatch(record):
            out.append(Finding(inner, "a record that does not belong into such a file"))
        if record.endswith((".pkl", ".py", ".json")):
            try:
                found = list(_record(record, tree.read(record), script=script, carried=carried))
            except READ_ERRORS as error:
                found = [("cannot be read", str(error))]
            out += [Finding(inner, *reason) for reason in found]
    return out


def _record(record: str, data: bytes, *, script: bool, carried: Collection[str]) -> Iterator[tuple[str, str]]:
    if record.endswith(".py"):
        yield from _source(data)
    elif record.endswith(".json"):
        yield from check_config(record, data, carried=carried)
    else:
        yield from _pickle(data, SCRIPT_GLOBALS if script else PICKLE_GLOBALS, own=script)


def _pickle(data: bytes, known: Collection[str], *, own: bool = False) -> Iterator[tuple[str, str]]:
    """Opcodes and globals of a pickle that a file of tensors does not need; nothing is unpickled."""
    if len(data) > MAX_PICKLE:
        yield f"a pickle larger than {MAX_PICKLE} bytes", ""
        return
    odd: dict[tuple[str, str], None] = {}
    end = 0
    try:
        for code, argument, position in pickletools.genops(data):
            if code.name in ("GLOBAL", "INST") and not (argument in known or (own and OWN_CLASS.fullmatch(str(argument)))):
                odd["a pickle of something other than tensors: loading it may run", str(argument).replace(" ", ".")] = None
            if code.name not in PICKLE_OPCODES:
                odd["a pickle of something other than tensors: opcode", f"{code.name} {argument or ''}".strip()] = None
            end = (position or 0) + 1
    except Exception as error:  # pickletools raises whatever its readers of arguments raise
        odd["a damaged pickle", str(error)[:200]] = None
    if end < len(data) and not any(reason == "a damaged pickle" for reason, _ in odd):
        odd["bytes follow the end of a pickle", f"{len(data) - end} bytes"] = None
    yield from odd


def _source(data: bytes) -> Iterator[tuple[str, str]]:
    """Operators of TorchScript source that are not known to work on tensors and numbers only."""
    try:
        if len(data) > MAX_SOURCE:
            raise ValueError(f"larger than {MAX_SOURCE} bytes")
        tree = ast.parse(data.decode("utf-8"))
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        yield "TorchScript that cannot be read", str(error)[:200]
        return
    odd: dict[str, None] = {}
    inner: set[int] = set()  # names and attributes that are part of a longer chain
    for node in ast.walk(tree):  # outer nodes come first
        if isinstance(node, ast.Import | ast.ImportFrom):
            odd["import"] = None
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            root, *names = _chain(node.func)
            if root not in ROOTS and names[-1] not in METHODS:  # `x.f()` is the operator f if x is a tensor
                odd[f"{root}.{'.'.join(names)}()"] = None
        elif isinstance(node, ast.Call) and not (isinstance(node.func, ast.Name) and _callable(node.func.id)):
            odd[f"{ast.unparse(node.func)[:200]}()"] = None
        if isinstance(node, ast.Name | ast.Attribute) and id(node) not in inner:
            root, *names = _chain(node)
            inner |= {id(part) for part in ast.walk(node)} if root else set()
            dotted = ".".join([root, *names])
            known = dotted in OPERATORS if root in ("torch", "ops") else not _library(dotted)
            if not known:
                odd[dotted] = None
    for function in ast.walk(tree):
        if isinstance(function, ast.FunctionDef):
            odd |= dict.fromkeys(_aliases(function))
    for dotted in odd:
        yield "an operator of TorchScript that is not on the list of known ones", dotted


def _chain(node: ast.expr) -> list[str]:
    """`a.b.c` as its names; the first is empty if the chain begins with something else than a name."""
    names: list[str] = []
    while isinstance(node, ast.Attribute):
        names.insert(0, node.attr)
        node = node.value
    return [node.id if isinstance(node, ast.Name) else "", *names]


def _library(dotted: str) -> bool:
    """Whether it is, or leads to, a class of a library in C++ and not of the archive."""
    return f"{dotted}.".startswith("__torch__.torch.classes.") or dotted in ("__torch__", "__torch__.torch")


def _aliases(function: ast.FunctionDef) -> Iterator[str]:
    """Local names that are called and stand for something else than one function of the archive."""
    called = {node.func.id for node in ast.walk(function) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)}
    stored = [node.id for node in ast.walk(function) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)]
    stored += [node.arg for node in ast.walk(function) if isinstance(node, ast.arg)]
    once = [node for node in ast.walk(function) if isinstance(node, ast.Assign) and len(node.targets) == 1]
    own = {
        node.targets[0].id for node in once if isinstance(node.targets[0], ast.Name) and _chain(node.value)[0] == "__torch__"
    }
    for name in sorted(called):
        if stored.count(name) != (name not in NAMES) or (name not in NAMES and name not in own):
            yield f"{name}()"


def _callable(name: str) -> bool:
    """A name in the source of an archive that is called without a dot: known, or a local name (_0), see `_aliases`."""
    return name in NAMES or re.fullmatch(r"_\d+", name) is not None
