"""The header of a GGUF file, read strictly: metadata and tensor directory.

The `gguf` package supplies the constants.  Its own reader is not used: it trusts counts and lengths (a lying count
never ends), and takes 11 s and 500 MB for Gemma's vocabulary where this takes under a second.

Rules: every count and length is checked against the bytes that are left before anything is read or allocated; keys and
tensor names are unique, UTF-8 and short; arrays hold scalars or strings, never arrays; dimensions, element and byte
counts are exact Python integers; a tensor starts aligned, ends inside the file and overlaps no other.
"""

from __future__ import annotations

import dataclasses
import math
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO, NoReturn

import numpy as np
from gguf.constants import GGML_QUANT_SIZES, GGUF_DEFAULT_ALIGNMENT, GGUF_MAGIC, GGMLQuantizationType, GGUFValueType

from .source import SourceError
from .tensor_span import TensorSpan, check_spans

__all__ = ["GgufHeader", "GgufTensor", "MetadataValue", "read_header"]

MetadataValue = bool | int | float | str | list[str] | np.ndarray

_VERSIONS = (2, 3)
_MAX_ENTRIES = 1 << 16  # of metadata, and of tensors
_MAX_NAME_BYTES = 1 << 10
_MAX_STRING_BYTES = 4 << 20  # the longest is a chat template, some kilobytes
_MAX_ARRAY = 1 << 21  # Gemma's vocabulary has 2^18 entries
_MAX_DIMS = 4
_SCALARS = {
    GGUFValueType.UINT8: "<u1",
    GGUFValueType.INT8: "<i1",
    GGUFValueType.UINT16: "<u2",
    GGUFValueType.INT16: "<i2",
    GGUFValueType.UINT32: "<u4",
    GGUFValueType.INT32: "<i4",
    GGUFValueType.FLOAT32: "<f4",
    GGUFValueType.BOOL: "?",
    GGUFValueType.UINT64: "<u8",
    GGUFValueType.INT64: "<i8",
    GGUFValueType.FLOAT64: "<f8",
}


@dataclasses.dataclass(frozen=True)
class GgufTensor:
    """A directory entry: where the bytes are and how they are encoded."""

    span: TensorSpan
    type: GGMLQuantizationType


@dataclasses.dataclass(frozen=True)
class GgufHeader:
    """Metadata by key (arrays of numbers as numpy arrays) and tensors by GGUF name, shapes row-major."""

    metadata: dict[str, MetadataValue]
    tensors: dict[str, GgufTensor]


def read_header(path: Path) -> GgufHeader:
    """Reads and checks the header of a GGUF file.  Raises `SourceError`."""
    with path.open("rb") as file:
        return _Reader(path, file).header()


class _Reader:
    """A cursor that knows how many bytes are left."""

    def __init__(self, path: Path, file: BinaryIO) -> None:
        self._path, self._file = path, file
        self._size = self._left = path.stat().st_size

    def header(self) -> GgufHeader:
        if self._left < 24 or self._u32() != GGUF_MAGIC:
            raise SourceError("not a GGUF file", self._path, "no GGUF magic", "give a .gguf file or a model folder")
        if (version := self._u32()) not in _VERSIONS:
            self._fail("unsupported GGUF version", "version", version, f"versions {_VERSIONS}, little-endian, are read")
        tensor_count, entry_count = self._u64(), self._u64()
        for what, count in (("tensor count", tensor_count), ("metadata count", entry_count)):
            if count > _MAX_ENTRIES:
                self._fail(f"absurd {what}", what, count, f"at most {_MAX_ENTRIES} are read; the file is damaged")
        metadata: dict[str, MetadataValue] = {}
        for _ in range(entry_count):
            key = self._name("metadata key", metadata)
            metadata[key] = self._value(key)
        alignment = metadata.get("general.alignment", GGUF_DEFAULT_ALIGNMENT)
        if type(alignment) is not int or not 1 <= alignment <= 1 << 20 or alignment & (alignment - 1):
            self._fail("bad alignment", "general.alignment", alignment, "it must be a power of two")
        entries: dict[str, tuple[tuple[int, ...], GGMLQuantizationType, int]] = {}
        for _ in range(tensor_count):
            name = self._name("tensor name", entries)
            entries[name] = self._tensor_entry(name)
        data_start = -(-(self._size - self._left) // alignment) * alignment
        tensors = {}
        for name, (shape, type_, offset) in entries.items():
            if offset % alignment:
                self._fail("a tensor is not aligned", name, f"offset {offset}", f"it must be a multiple of {alignment}")
            tensors[name] = self._tensor(name, shape, type_, data_start + offset)
        check_spans((t.span for t in tensors.values()), self._size)
        return GgufHeader(metadata, tensors)

    def _tensor_entry(self, name: str) -> tuple[tuple[int, ...], GGMLQuantizationType, int]:
        n_dims = self._u32()
        if not 1 <= n_dims <= _MAX_DIMS:
            self._fail("bad number of dimensions", name, n_dims, f"1 to {_MAX_DIMS} are possible")
        shape = tuple(self._u64() for _ in range(n_dims))[::-1]  # GGUF lists the fastest dimension first
        try:
            type_ = GGMLQuantizationType(raw := self._u32())
        except ValueError:
            self._fail("unknown tensor type", name, raw, "use a file with types that the gguf package knows")
        return shape, type_, self._u64()

    def _tensor(self, name: str, shape: tuple[int, ...], type_: GGMLQuantizationType, offset: int) -> GgufTensor:
        block_elements, block_bytes = GGML_QUANT_SIZES[type_]
        if 0 in shape or shape[-1] % block_elements:
            must = f"every dimension must be at least 1 and a row a multiple of {block_elements} for {type_.name}"
            self._fail("bad tensor shape", name, list(shape), must)
        nbytes = math.prod(shape) // block_elements * block_bytes
        return GgufTensor(TensorSpan(name, self._path, offset, nbytes, shape), type_)

    def _value(self, key: str) -> MetadataValue:
        kind = self._kind(key)
        if kind is GGUFValueType.STRING:
            return self._string(key, _MAX_STRING_BYTES)
        if kind is not GGUFValueType.ARRAY:
            value: MetadataValue = self._numbers(kind, 1, key)[0].item()
            return value
        kind, count = self._kind(key), self._u64()
        if kind is GGUFValueType.ARRAY:
            self._fail("an array of arrays", key, kind.name, "Gemma3 files have none; the file is damaged")
        if count > _MAX_ARRAY:
            self._fail("absurd array length", key, count, f"at most {_MAX_ARRAY} are read; the file is damaged")
        if kind is not GGUFValueType.STRING:
            return self._numbers(kind, count, key)
        return [self._string(key, _MAX_STRING_BYTES) for _ in range(count)]

    def _kind(self, key: str) -> GGUFValueType:
        try:
            return GGUFValueType(raw := self._u32())
        except ValueError:
            self._fail("unknown metadata type", key, raw, "the file is damaged")

    def _numbers(self, kind: GGUFValueType, count: int, key: str) -> np.ndarray:
        dtype = np.dtype(_SCALARS[kind])
        return np.frombuffer(self._take(count * dtype.itemsize, key), dtype)

    def _name(self, what: str, taken: Mapping[str, object]) -> str:
        name = self._string(what, _MAX_NAME_BYTES)
        if not name or name in taken:
            self._fail(f"bad {what}", what, "an empty one" if not name else f"{name!r} twice", "the file is damaged")
        return name

    def _string(self, where: str, limit: int) -> str:
        if (length := self._u64()) > limit:
            self._fail("a string is too long", where, f"{length} bytes", f"at most {limit} are possible here")
        try:
            return self._take(length, where).decode("utf-8")
        except UnicodeDecodeError:
            self._fail("a string is not UTF-8", where, "other bytes", "the file is damaged")

    def _u32(self) -> int:
        return int(struct.unpack("<I", self._take(4, "header"))[0])

    def _u64(self) -> int:
        return int(struct.unpack("<Q", self._take(8, "header"))[0])

    def _take(self, count: int, where: str) -> bytes:
        data = self._file.read(count) if count <= self._left else b""
        if len(data) != count:
            self._fail("the file is cut", where, f"{self._left} bytes where {count} are needed", "get the file again")
        self._left -= count
        return data

    def _fail(self, what: str, where: str, found: object, do: str) -> NoReturn:
        raise SourceError(what, f"{self._path}: {where}", found, do)
