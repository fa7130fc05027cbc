"""The header of a safetensors file, read strictly: name to encoding, shape and byte span.

The `safetensors` package is not used: it has no bfloat16 for numpy.  Rules: the header is bounded in size and depth and
has no duplicate key; dtype, shape and byte span of a tensor agree; spans end inside the file and do not overlap.
"""

from __future__ import annotations

import dataclasses
import math
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from . import strict_json
from .source import SourceError
from .tensor_span import TensorSpan, check_spans

__all__ = ["DECODERS", "StoredTensor", "read_header"]

_DO = "the file is damaged or not a safetensors file; get it again"


def _bf16_to_fp32(rows: np.ndarray) -> np.ndarray:
    return (rows.view("<u2").astype(np.uint32) << 16).view(np.float32)


DECODERS: dict[str, tuple[int, Callable[[np.ndarray], np.ndarray]]] = {
    "F32": (4, lambda rows: rows.view("<f4")),
    "F16": (2, lambda rows: rows.view("<f2").astype(np.float32)),
    "BF16": (2, _bf16_to_fp32),
}


@dataclasses.dataclass(frozen=True)
class StoredTensor:
    """A tensor of a safetensors file."""

    span: TensorSpan
    dtype: str

    def read(self) -> np.ndarray:
        """The values as float32.  `dtype` must be one of `DECODERS`.  Raises `SourceError`."""
        return self.span.read(DECODERS[self.dtype][1])


def read_header(path: Path) -> dict[str, StoredTensor]:
    """Reads and checks the header of one file.  Raises `SourceError`."""
    if not path.is_file():
        raise SourceError("a weight file is missing", path, "no regular file", "complete the model folder")
    size = path.stat().st_size
    with path.open("rb") as file:
        prefix = file.read(8)
        length = struct.unpack("<Q", prefix)[0] if len(prefix) == 8 else 0
        if not 2 <= length <= min(size - 8, strict_json.MAX_BYTES):
            raise SourceError("a header length that cannot be", path, f"{length} in a file of {size} bytes", _DO)
        header = strict_json.parse(file.read(length), f"{path}: header")
    header.pop("__metadata__", None)
    tensors = {name: _tensor(path, name, entry, 8 + length) for name, entry in header.items()}
    check_spans((tensor.span for tensor in tensors.values()), size)
    return tensors


def _tensor(path: Path, name: str, entry: Any, data_start: int) -> StoredTensor:
    def error(found: object) -> SourceError:
        return SourceError("a bad header entry", f"{path}: {name[:200]}", str(found)[:80], _DO)

    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        raise error(entry)
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or not _are_counts(shape) or not _are_counts(offsets) or len(offsets) != 2:
        raise error(entry)
    start, end = offsets
    if end < start or (dtype in DECODERS and end - start != math.prod(shape) * DECODERS[dtype][0]):
        raise error(f"{dtype} {shape} in bytes {start} to {end}")
    return StoredTensor(TensorSpan(name, path, data_start + start, end - start, tuple(shape)), dtype)


def _are_counts(values: Any) -> bool:
    return isinstance(values, list) and len(values) <= 8 and all(type(v) is int and 0 <= v < 1 << 63 for v in values)
