# SPDX-License-Identifier: Apache-2.0
"""Configurations read as MONAI's parser would take them apart, without evaluating anything."""

from __future__ import annotations

import ast
import configparser
import json
import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from typing import Any

import yaml

from .known import CALLABLES, EXPRESSIONS, IMPORTS, ROOTS, SCHEMA, VALUES

__all__ = ["check_config", "check_logging"]

Reason = tuple[str, str]  # why, and the text
MAX_JSON, MAX_YAML, MAX_DEPTH, MAX_EXPRESSION = 2**22, 2**18, 40, 2000
PARSE_ERRORS = (ValueError, RecursionError, MemoryError, yaml.YAMLError)  # ValueError: also Unicode and JSON errors
REFERENCE = re.compile(r"@\w*(?:::\w*)*")  # as in MONAI's ReferenceResolver
OVERRIDES = frozenset({"validate#handlers"})  # by which evaluate.json replaces a list of train.json
# What may stand for one of ROOTS: adding "/x" to it cannot leave the bundle (`_string` looks for "..").
PART = r"\w[\w.-]*"  # not hidden: a bundle started from a home folder could write its settings
INSIDE = re.compile(rf"\.|(\./)?{PART}(/{PART})*|\$@({'|'.join(ROOTS)}) \+ '(/{PART})+'")
NOTES = ("_target_", "_disabled_", "_requires_", "_desc_", "_mode_")  # keys that are no arguments
META = "metadata.json"
LOGGING = {"keys", "level", "handlers", "qualname", "propagate", "formatter", "format", "datefmt", "style", "validate"}


def check_config(name: str, data: bytes, *, carried: Collection[str] = ()) -> list[Reason]:
    """All in a JSON or YAML file that is not known: expressions, targets, arguments, paths, macros, keys.

    Args:
        name: the file's name; its ending says the format, as for MONAI.
        data: its content.
        carried: classes of the bundle's own code that may be targets, `scripts.Name`.
    """
    out: list[Reason] = []
    try:
        config = _parse_json(data, out) if name.lower().endswith("json") else _parse_yaml(data, out)
    except PARSE_ERRORS as error:
        return [*out, ("cannot be read", " ".join(str(error).split())[:200] or type(error).__name__)]
    if not isinstance(config, dict):
        return [*out, ("not a configuration: no mapping at the top", "")]
    meta = name.rsplit("/", 1)[-1] == META or name == "manifest.json"
    try:
        out += _walk(config, (), meta=meta, carried=carried)
    except RecursionError:
        out.append((f"nested deeper than {MAX_DEPTH} levels", ""))
    return out


def _parse_json(data: bytes, out: list[Reason]) -> Any:
    if len(data) > MAX_JSON:
        raise ValueError(f"larger than {MAX_JSON} bytes")

    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        out.extend(_twice(key for key, _ in items))
        return dict(items)

    return json.loads(data.decode("utf-8"), object_pairs_hook=pairs)


def _twice(keys: Iterable[str]) -> list[Reason]:
    return [("a key occurs twice: readers differ in which they take", key) for key, n in Counter(keys).items() if n > 1]


def _parse_yaml(data: bytes, out: list[Reason]) -> Any:
    if len(data) > MAX_YAML:
        raise ValueError(f"larger than {MAX_YAML} bytes")
    text = data.decode("utf-8")
    depth = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        if isinstance(event, yaml.AliasEvent):  # before anything is built: aliases of aliases grow without bound
            raise ValueError(f"an alias, *{event.anchor}")
        if getattr(event, "tag", None):
            raise ValueError(f"a tag, {getattr(event, 'tag', '')}")
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > MAX_DEPTH:
            raise ValueError(f"nested deeper than {MAX_DEPTH} levels")
    node = yaml.compose(text, Loader=yaml.SafeLoader)
    waiting = [node] if node else []
    while waiting:
        part = waiting.pop()
        if isinstance(part, yaml.MappingNode):
            out += _twice(str(key.value) for key, _ in part.value)
            waiting += [value for _, value in part.value]
        elif isinstance(part, yaml.SequenceNode):
            waiting += part.value
    return yaml.safe_load(text)


def _walk(value: Any, path: tuple[str, ...], *, meta: bool, carried: Collection[str]) -> Iterator[Reason]:
    if len(path) > MAX_DEPTH:
        raise RecursionError
    if isinstance(value, dict):
        for key, item in value.items():
            name = re.split("#|::", str(key))[-1]  # MONAI takes "a#_target_" for the key _target_ of a
            yield from _key(str(key), name, item, path, meta=meta, carried=carried)
            yield from _walk(item, (*path, str(key)), meta=meta, carried=carried)
        yield from _arguments(value)
    elif isinstance(value, list):
        for item in value:
            yield from _walk(item, (*path, "[]"), meta=meta, carried=carried)
    elif isinstance(value, str):
        yield from _string(value, path, meta=meta)


def _key(key: str, name: str, item: Any, path: tuple[str, ...], *, meta: bool, carried: Collection[str]) -> Iterator[Reason]:
    if path and meta:
        plain = "#" not in key and "::" not in key  # names of packages and versions
    else:
        plain = re.fullmatch(r"\w+", key) is not None or (not path and key in OVERRIDES)
    if not plain:  # "a#b" and "+a" change a component that is defined elsewhere, with arguments that are not seen together
        yield "a key that changes another part of the configuration, or that MONAI copies into expressions", key
    name = name.removeprefix("+")
    if name == "_target_":
        if not isinstance(item, str) or (item not in CALLABLES and item not in carried):
            yield "calls what is not on the list of known callables", _short(item)
    elif (name in VALUES and not VALUES[name].fullmatch(repr(item))) or name == "_debug_":
        yield "an argument that decides what is run or written", f"{key}: {_short(item)}"
    if name in ROOTS and not (isinstance(item, str) and (INSIDE.fullmatch(item) or (path and item[1:] in ROOTS))):
        yield "not a folder inside the bundle", f"{key}: {_short(item)}"


def _arguments(value: dict[Any, Any]) -> Iterator[Reason]:
    """Arguments of a known callable that it is not known to be given (some make it import what they name)."""
    target = value.get("_target_")
    if isinstance(target, str) and target in CALLABLES:
        known = (*CALLABLES[target].split(), *NOTES)
        for key in value:
            if key not in known:
                yield f"an argument that is not known for {target}", f"{key}: {_short(value[key])}"


def _string(value: str, path: tuple[str, ...], *, meta: bool) -> Iterator[Reason]:
    if value.startswith("$"):
        reason = _expression(value[1:])
        if reason:
            yield reason, value
        return
    if value.startswith("%") and not re.fullmatch(r"%\w+((#|::)\w+)*", value):
        yield "copies in another file, or another part of the configuration by a path that is not plain", value
    url = not SCHEMA.fullmatch(value) if meta and path == ("schema",) else "://" in value and not meta
    if url:
        yield "an address on the net", value
    if _leaves(value) and not (meta and url):
        yield "a path that leaves the bundle", value


def _leaves(value: str) -> bool:
    return bool(re.match(r"[/\\~]|[A-Za-z]:[\\/]", value)) or ".." in re.split(r"[/\\]", value)


def _substituted(code: str) -> ast.expr:
    """Parse an expression after MONAI's own textual replacement of references, which also reaches into string literals."""
    code = code.replace("#", "::")
    for found in sorted(REFERENCE.findall(code), key=len, reverse=True):
        code = code.replace(found, f"__local_refs['{found[1:]}']")
    return ast.parse(code, mode="eval").body


KNOWN = frozenset(ast.dump(_substituted(code)) for code in EXPRESSIONS)


def _expression(code: str) -> str | None:
    """Why an expression is not known; None if it is one of the exact list, or cannot but combine plain values."""
    if len(code) > MAX_EXPRESSION:
        return "an expression too long to be read here"
    if code in IMPORTS:
        return None
    if re.search("[@%](#|::)", code):
        return "an expression with a relative reference, into which MONAI copies the names of keys"
    try:
        tree = _substituted(code)
        known = ast.dump(tree) in KNOWN or _plain(tree)
    except (SyntaxError, *PARSE_ERRORS):
        return "code that is run (it cannot be parsed here)"
    return None if known else "code that is run"


def _plain(node: ast.expr) -> bool:
    """Constants, references, lists and dictionaries of these, comparisons with `is`, `not`, and paths below a known root."""
    match node:
        case ast.Constant(value=value):
            return not isinstance(value, str) or not (_leaves(value) or "://" in value or value[:1] in ("$", "%", "@"))
        case ast.Subscript(value=ast.Name(id="__local_refs"), slice=ast.Constant(value=str())):
            return True
        case ast.List(elts=parts) | ast.Tuple(elts=parts):
            return all(map(_plain, parts))
        case ast.Dict(keys=keys, values=values):
            # a network of ours may build what a `_target_` in its arguments names
            plain = (isinstance(key, ast.Constant) and _plain(key) and not str(key.value).startswith("_") for key in keys)
            return all(plain) and all(map(_plain, values))
        case ast.UnaryOp(op=ast.Not() | ast.USub(), operand=operand):
            return _plain(operand)
        case ast.Compare(left=left, ops=[ast.Is() | ast.IsNot()], comparators=[right]):
            return _plain(left) and _plain(right)
        case ast.BinOp(
            left=ast.Subscript(value=ast.Name(id="__local_refs"), slice=ast.Constant(value=root)),
            op=ast.Add(),
            right=ast.Constant(value=str(tail)),
        ):
            return root in ROOTS and tail.startswith("/") and not _leaves(tail[1:])
    return False


def check_logging(data: bytes) -> list[Reason]:
    """logging.conf: `class` and `args` are evaluated by logging.config; only a stream handler to the terminal is known."""
    parser = configparser.RawConfigParser()
    try:
        parser.read_string(data.decode("utf-8"))
    except (configparser.Error, ValueError) as error:
        return [("cannot be read", " ".join(str(error).split())[:200])]
    known = {
        "class": ("StreamHandler", "logging.StreamHandler", "logging.Formatter"),
        "args": ("(sys.stdout,)", "(sys.stderr,)", "()"),
        "kwargs": ("{}",),
    }
    sections = {section: dict(parser.items(section)) for section in parser.sections()} | {"DEFAULT": dict(parser.defaults())}
    out = []
    for section, options in sections.items():
        for key, value in options.items():
            if key in known and value.strip() not in known[key]:
                out.append((f"[{section}] {key} is run as code", value))
            elif key not in known and key not in LOGGING:  # Python 3.12 evaluates `defaults` as well
                out.append((f"[{section}] {key} is not known and may be run as code", value))
    return out


def _short(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, default=str)[:200]
