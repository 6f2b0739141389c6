# SPDX-License-Identifier: Apache-2.0
"""An ONNX file by its protobuf fields: tensors kept in other files, operators from libraries."""

from __future__ import annotations

from collections.abc import Iterator

__all__ = ["check_onnx"]

# Fields that hold messages, by message (onnx.proto); everything else is skipped.
MESSAGES: dict[str, dict[int, str]] = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {13: "entry"},
    "entry": {},
    "function": {7: "node", 11: "attribute"},
}
DOMAINS = (b"", b"ai.onnx")  # the standard's own operators
MAX_DEPTH, MAX_FIELDS = 32, 2_000_000


def check_onnx(data: bytes) -> list[tuple[str, str]]:
    """Reasons and texts: what running the file would read beside it, and operators that are no part of the standard."""
    try:
        found = list(_model(data))
    except (ValueError, RecursionError) as error:
        return [("no ONNX that can be read", str(error))]
    return list(dict.fromkeys(found))


def _model(data: bytes) -> Iterator[tuple[str, str]]:
    nodes: list[tuple[bytes, bytes]] = []
    own: set[tuple[bytes, bytes]] = set()
    waiting = [("model", memoryview(data), 0)]
    left = MAX_FIELDS
    if not any(number == 7 for number, _ in _fields(waiting[0][1])):
        raise ValueError("it has no graph")
    while waiting:
        kind, part, depth = waiting.pop()
        if depth > MAX_DEPTH:
            raise ValueError(f"nested deeper than {MAX_DEPTH} levels")
        text: dict[int, bytes] = {}
        for number, value in _fields(part):
            left -= 1
            if left < 0:
                raise ValueError(f"more than {MAX_FIELDS} fields")
            if isinstance(value, int):
                if kind == "tensor" and number == 14 and value:
                    yield "a tensor kept in another file", "data_location EXTERNAL"
            elif number in MESSAGES[kind]:
                waiting.append((MESSAGES[kind][number], value, depth + 1))
            elif kind in ("node", "entry", "function") and len(value) < 4096:
                text[number] = bytes(value)
        if kind == "node":
            nodes.append((text.get(7, b""), text.get(4, b"")))
        elif kind == "function":
            own.add((text.get(10, b""), text.get(1, b"")))
        elif kind == "entry":
            yield "a tensor kept in another file", b"=".join(text.values()).decode("utf-8", "replace")
    for domain, name in nodes:
        if domain not in DOMAINS and (domain, name) not in own:
            yield "an operator from a library", b"::".join((domain, name)).decode("utf-8", "replace")


def _fields(data: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Field numbers with their values: whole numbers, or the bytes of what has a length."""
    position = 0
    while position < len(data):
        tag, position = _varint(data, position)
        wire = tag & 7
        if wire == 0:
            value, position = _varint(data, position)
            yield tag >> 3, value
            continue
        if wire == 2:
            length, position = _varint(data, position)
        elif wire in (1, 5):
            length = 8 if wire == 1 else 4
        else:
            raise ValueError("it is damaged")
        if position + length > len(data):
            raise ValueError("it is cut off")
        yield tag >> 3, data[position : position + length]
        position += length


def _varint(data: memoryview, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if position >= len(data) or shift > 63:
            raise ValueError("it is cut off")
        byte = data[position]
        position += 1
        value |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            return value, position
