"""The KV cache of one sequence, in either convention of the model's inputs and outputs.

    shared    each layer has one fixed buffer, bound as past and as present; position p lives in row p mod rows. A
              sliding layer needs no more rows than its window. Nothing is copied or allocated per token.
    growing   past holds exactly the rows so far, each call returns a present that is longer by the new ones. Every
              graph takes this, also a plain export; it copies the cache at each call.

Rows leave and enter a cache in the order of their positions, so that what was saved from one buffer fits another size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

if TYPE_CHECKING:
    import onnxruntime as ort

__all__ = ["GrowingCache", "KvCache", "KvTensor", "SharedCache", "ort_value"]


@dataclass(frozen=True)
class KvTensor:
    """One of the 2 x layers tensors of the cache, [1, heads, rows, head_dim]."""

    past: str
    present: str
    layer: int
    heads: int
    head_dim: int
    dtype: np.dtype

    def zeros(self, rows: int) -> np.ndarray:
        """An empty buffer."""
        return np.zeros((1, self.heads, rows, self.head_dim), self.dtype)


class KvCache(Protocol):
    """The cache's side of the binding of inputs and outputs."""

    def advance(self) -> None:
        """Takes over what a run has written."""

    def clear(self) -> None:
        """Forgets all rows."""

    def can_rewind(self, length: int, to: int) -> bool:
        """Whether the rows that position `to` attends to are still there, `length` positions having been written."""

    def rewind(self, to: int) -> None:
        """Forgets the rows from position `to` on."""

    def rows_kept(self, tensor: KvTensor, length: int) -> int:
        """How many rows of a tensor are there after `length` positions: the last ones."""

    def read(self, length: int) -> list[np.ndarray]:
        """A copy of the rows that are there, in the order of their positions."""

    def write(self, length: int, rows: Sequence[np.ndarray]) -> None:
        """Takes the rows of `length` positions, `rows_kept` of each tensor."""


class SharedCache:
    """One fixed buffer for each tensor."""

    def __init__(
        self, tensors: Sequence[KvTensor], context: int, windows: Sequence[int], binding: ort.IOBinding
    ) -> None:
        """Binds the buffers: `context` rows for a global layer (window 0), no more than its window for another."""
        self._windows = [windows[tensor.layer] or context for tensor in tensors]
        self._buffers = [
            tensor.zeros(min(context, window)) for tensor, window in zip(tensors, self._windows, strict=True)
        ]
        self._rows: dict[str, int] = {
            tensor.past: buffer.shape[2] for tensor, buffer in zip(tensors, self._buffers, strict=True)
        }
        self._values = [ort_value(buffer) for buffer in self._buffers]  # a binding does not own its memory
        for tensor, value in zip(tensors, self._values, strict=True):
            binding.bind_ortvalue_input(tensor.past, value)
            binding.bind_ortvalue_output(tensor.present, value)

    def advance(self) -> None:
        """Nothing: a run has written in place."""

    def clear(self) -> None:
        """Nothing: rows at or beyond the length are never read."""

    def can_rewind(self, length: int, to: int) -> bool:
        """True until a sliding layer has turned over, and then for the last token."""
        return all(
            length <= buffer.shape[2] or to >= length - buffer.shape[2] + window - 1
            for buffer, window in zip(self._buffers, self._windows, strict=True)
        )

    def rewind(self, to: int) -> None:
        """Nothing: as for `clear`."""

    def rows_kept(self, tensor: KvTensor, length: int) -> int:
        """All until the buffer is full."""
        return min(length, self._rows[tensor.past])

    def read(self, length: int) -> list[np.ndarray]:
        """Gathers each ring into the order of positions."""
        return [buffer[:, :, _slots(length, buffer)] for buffer in self._buffers]

    def write(self, length: int, rows: Sequence[np.ndarray]) -> None:
        """Scatters the rows to their places in each ring."""
        for buffer, new in zip(self._buffers, rows, strict=True):
            buffer[:, :, _slots(length, buffer)] = new


class GrowingCache:
    """New tensors at every call."""

    def __init__(self, tensors: Sequence[KvTensor], binding: ort.IOBinding) -> None:
        self._tensors = tensors
        self._binding = binding
        self.clear()

    def advance(self) -> None:
        """Binds each present as the next past."""
        self._bind(self._binding.get_outputs()[: len(self._tensors)])

    def clear(self) -> None:
        """Binds empty tensors."""
        self._bind([ort_value(tensor.zeros(0)) for tensor in self._tensors])

    def can_rewind(self, length: int, to: int) -> bool:
        """True: every row is kept."""
        return True

    def rewind(self, to: int) -> None:
        """Copies the rows that stay."""
        self.write(to, [past.numpy()[:, :, :to] for past in self._pasts])

    def rows_kept(self, tensor: KvTensor, length: int) -> int:
        """All."""
        return length

    def read(self, length: int) -> list[np.ndarray]:
        """All rows."""
        return [past.numpy() for past in self._pasts]

    def write(self, length: int, rows: Sequence[np.ndarray]) -> None:
        """Binds copies."""
        self._bind([ort_value(np.array(new, order="C")) for new in rows])

    def _bind(self, pasts: Sequence[ort.OrtValue]) -> None:
        self._pasts = pasts  # a binding does not own its memory
        for tensor, past in zip(self._tensors, pasts, strict=True):
            self._binding.bind_ortvalue_input(tensor.past, past)
            self._binding.bind_output(tensor.present)  # a new buffer at each run


def ort_value(array: np.ndarray) -> ort.OrtValue:
    """A view of the array, which must live as long as it is bound."""
    from onnxruntime import OrtValue

    return OrtValue.ortvalue_from_numpy(array)


def _slots(length: int, buffer: np.ndarray) -> np.ndarray:
    """The rows of the last positions, in the order of the positions."""
    rows: int = buffer.shape[2]
    positions = np.arange(max(0, length - rows), length)
    return np.remainder(positions, rows)
