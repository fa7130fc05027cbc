"""What an ONNX graph says of itself: metadata, inputs, nodes, sizes of constants; read from its bytes alone.

A model is looked at before a session of it is made, and a process that only runs it needs no more of it than that: onnx
and onnx_ir, with what they import, would be 86 MiB of its memory and half a second.
"""

from __future__ import annotations

import dataclasses
import math
import mmap
from collections.abc import Iterator
from pathlib import Path

__all__ = ["Node", "Outline", "read_outline"]

_FLOATS = frozenset((1, 10, 11, 16))  # TensorProto.DataType: float, float16, double, bfloat16
_INT = 2  # AttributeProto.AttributeType


@dataclasses.dataclass(frozen=True)
class Node:
    """A node of the graph. `integers` are its attributes; None for one of another type."""

    domain: str
    op_type: str
    name: str
    inputs: tuple[str, ...]
    integers: dict[str, int | None]


@dataclasses.dataclass(frozen=True)
class Outline:
    """A model. `float_sizes` has the elements of each initializer of a floating-point type."""

    metadata: dict[str, str]
    inputs: tuple[str, ...]
    nodes: tuple[Node, ...]
    float_sizes: dict[str, int]


def read_outline(path: Path) -> Outline:
    """Reads a model's graph; functions and the data of tensors are passed over.

    Raises:
        ValueError: it is not a protobuf message of that shape.
        OSError: the file cannot be read.
    """
    with path.open("rb") as file:
        model = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    metadata: dict[str, str] = {}
    inputs: list[str] = []
    nodes: list[Node] = []
    sizes: dict[str, int] = {}
    for number, value in _fields(model):
        if number == 14:
            key, text = (_text(_last(value, i)) for i in (1, 2))
            metadata[key] = text
        elif number == 7:
            for part, message in _fields(_bytes(value)):
                if part == 1:
                    nodes.append(_node(message))
                elif part == 5:
                    sizes |= _float_size(message)
                elif part == 11:
                    inputs.append(_text(_last(message, 1)))
    return Outline(metadata, tuple(inputs), tuple(nodes), sizes)


def _node(message: int | memoryview) -> Node:
    texts: dict[int, str] = {3: "", 4: "", 7: ""}
    inputs: list[str] = []
    integers: dict[str, int | None] = {}
    for number, value in _fields(_bytes(message)):
        if number == 1:
            inputs.append(_text(value))
        elif number in texts:
            texts[number] = _text(value)
        elif number == 5:
            integer = _last(value, 3) if _last(value, 20) == _INT else None
            integers[_text(_last(value, 1))] = integer if integer is None else _signed(_integer(integer))
    return Node(texts[7], texts[4], texts[3], tuple(inputs), integers)


def _float_size(message: int | memoryview) -> dict[str, int]:
    dims: list[int] = []
    name, kind = "", 0
    for number, value in _fields(_bytes(message)):
        if number == 1:  # one by one, or packed
            dims += [value] if isinstance(value, int) else _varints(value)
        elif number == 2:
            kind = _integer(value)
        elif number == 8:
            name = _text(value)
    return {name: math.prod(dims)} if kind in _FLOATS else {}


def _fields(message: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Protobuf's wire format: field numbers and values; a message, a text and packed numbers are all bytes."""
    at = 0
    while at < len(message):
        tag, at = _varint(message, at)
        kind = tag & 7
        if kind == 0:
            value, at = _varint(message, at)
            yield tag >> 3, value
            continue
        if kind == 2:
            size, at = _varint(message, at)
        elif kind in (1, 5):
            size = 8 if kind == 1 else 4
        else:
            raise ValueError(f"a field of the unknown wire type {kind}")
        if size > len(message) - at:
            raise ValueError("it ends in the middle of a field")
        yield tag >> 3, message[at : at + size]
        at += size


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    value = 0
    for i in range(10):
        if at + i >= len(message):
            raise ValueError("it ends in the middle of a number")
        byte = message[at + i]
        value |= (byte & 127) << 7 * i
        if byte < 128:
            return value, at + i + 1
    raise ValueError("a number of more than ten bytes")


def _varints(message: memoryview) -> list[int]:
    values, at = [], 0
    while at < len(message):
        value, at = _varint(message, at)
        values.append(value)
    return values


def _last(message: int | memoryview, number: int) -> int | memoryview:
    """A field of a message; a field that is not there is empty, or zero."""
    found: int | memoryview = memoryview(b"")
    for this, value in _fields(_bytes(message)):
        if this == number:
            found = value
    return found


def _bytes(value: int | memoryview) -> memoryview:
    if isinstance(value, int):
        raise ValueError("a number in the place of a message")
    return value


def _text(value: int | memoryview) -> str:
    return str(_bytes(value), "utf-8")


def _integer(value: int | memoryview) -> int:
    return value if isinstance(value, int) else 0


def _signed(value: int) -> int:
    return value - (1 << 64) if value >= 1 << 63 else value
