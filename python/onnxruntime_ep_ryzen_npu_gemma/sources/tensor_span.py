"""A tensor's bytes in a file, and reading them as float32 a few rows at a time.

Plain reads instead of a memory map: a file that shrinks while it is read gives an error and not a SIGBUS, and the
pages of a large model do not count as ours.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import BinaryIO

import numpy as np

from .source import SourceError

__all__ = ["TensorSpan", "check_spans"]

_CHUNK_BYTES = 8 << 20  # of decoded float32; larger chunks were not faster


@dataclasses.dataclass(frozen=True)
class TensorSpan:
    """`nbytes` bytes at `offset` that hold `shape`, row-major, in an encoding where every row is whole bytes."""

    name: str
    file: Path
    offset: int
    nbytes: int
    shape: tuple[int, ...]

    def read(self, decode: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
        """Reads the tensor.

        Args:
            decode: maps rows of bytes, uint8 [R, row bytes], to float32 [R, shape[-1]].

        Raises:
            SourceError: the file is shorter than it was when it was opened, or a value is NaN or infinite.
        """
        cols = self.shape[-1]
        out_RC = np.empty((int(np.prod(self.shape[:-1])), cols), np.float32)
        row_bytes = self.nbytes // len(out_RC)
        step = max(1, _CHUNK_BYTES // (4 * cols))
        with self.file.open("rb") as file:
            file.seek(self.offset)
            for start in range(0, len(out_RC), step):
                chunk_RC = out_RC[start : start + step]
                data = self._take(file, len(chunk_RC) * row_bytes)
                chunk_RC[:] = decode(data.reshape(len(chunk_RC), row_bytes))
                self.check_finite(chunk_RC)
        return out_RC.reshape(self.shape)

    def read_bytes(self) -> np.ndarray:
        """Reads the tensor's rows as they are, uint8 [R, row bytes].  Raises `SourceError` if the file is shorter."""
        with self.file.open("rb") as file:
            file.seek(self.offset)
            return self._take(file, self.nbytes).reshape(int(np.prod(self.shape[:-1])), -1)

    def check_finite(self, values: np.ndarray) -> None:
        """Raises `SourceError` if a value that was decoded from this tensor is NaN or infinite."""
        if not np.isfinite(values).all():
            raise self._error("a weight is not a finite number", "NaN or infinity", "use an intact model")

    def _take(self, file: BinaryIO, nbytes: int) -> np.ndarray:
        data = file.read(nbytes)
        if len(data) != nbytes:
            raise self._error("the file was cut while it was read", f"{len(data)} bytes left", "get it again")
        return np.frombuffer(data, np.uint8)

    def _error(self, what: str, found: object, do: str) -> SourceError:
        return SourceError(what, f"{self.file}: {self.name}", found, do)


def check_spans(spans: Iterable[TensorSpan], file_size: int) -> None:
    """Raises `SourceError` if a span of one file passes its end or overlaps another."""
    end, previous = 0, ""
    for span in sorted(spans, key=lambda s: (s.offset, s.nbytes)):
        if span.offset + span.nbytes > file_size:
            found = f"bytes {span.offset} to {span.offset + span.nbytes} in a file of {file_size}"
            raise span._error("a tensor lies outside of the file", found, "the file is cut or damaged; get it again")
        if span.offset < end:
            raise span._error("two tensors overlap", f"a start inside {previous}", "the file is damaged; get it again")
        end, previous = span.offset + span.nbytes, span.name
