"""How a conversion quantises each matrix, and what that cost.

In this order: blocks that calibration has made; codes that the source already holds in groups of 32, of which only
scale and minimum are rounded; else a quantiser that looks at the weights alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from .graph_passes import q4nx
from .graph_passes.quantizers import quantize_by_search
from .graph_passes.requantise_matmul_nbits import RequantisedWeights
from .sources import SourceError
from .sources.affine_codes import AffineCodes

if TYPE_CHECKING:
    from .calibration import CalibratedMatrix

__all__ = ["QUANTIZERS", "QuantizedTensor", "Quantizer", "kept_blocks", "requantised_tensor"]

QUANTIZERS: dict[str, Callable[[q4nx.FloatArray], q4nx.ByteArray]] = {
    "search": quantize_by_search,
    "rtn": q4nx.quantize_rtn,
}
_SLAB_ROWS = 4096
_HEAD_IN_8_BITS = "the head, which is the embedding too: --lm-head q8"


@dataclass(frozen=True)
class QuantizedTensor:
    """One line of the report.

    Attributes:
        name: canonical.
        source_type: the encoding in the source.
        bits: 4 or 8.
        how: "calibrated", "kept", the name of a quantiser, or "rtn" for 8 bits.
        N, K: rows and columns.
        nmse: squared error of the weights over their squares.
        weighted_error: the same of what the matrix computes on the calibration text; None without one.
        why: the reason for 8 bits; empty for 4.
    """

    name: str
    source_type: str
    bits: int
    how: str
    N: int
    K: int
    nmse: float
    weighted_error: float | None = None
    why: str = ""


class Described(Protocol):
    """What a quantizer asks of a source besides the weights."""

    path: Path

    def type_name(self, name: str) -> str:
        """The encoding of a tensor in the file."""

    def codes(self, name: str) -> AffineCodes | None:
        """The 4-bit codes of a matrix that is stored as such."""


class Quantizer:
    """The quantizer of one conversion, for `graph_passes.fuse`.

    Attributes:
        tensors: what was done, by name, in the order of the model file.
    """

    def __init__(self, source: Described, method: str, calibrated: Mapping[str, CalibratedMatrix]) -> None:
        self.tensors: dict[str, QuantizedTensor] = {}
        self._source, self._method, self._calibrated = source, method, calibrated

    def __call__(self, name: str, read: Callable[[], q4nx.FloatArray], bits: int) -> q4nx.ByteArray:
        """The blocks of a tensor of the source."""
        w_NK = read()
        N, K = w_NK.shape
        blocks, how = self._blocks(name, w_NK, bits)
        error = relative_error(blocks, w_NK)
        weighted = self._calibrated[name].weighted_error if name in self._calibrated else None
        why = _HEAD_IN_8_BITS if bits == 8 else ""
        self.tensors[name] = QuantizedTensor(name, self._source.type_name(name), bits, how, N, K, error, weighted, why)
        return blocks

    def _blocks(self, name: str, w_NK: q4nx.FloatArray, bits: int) -> tuple[q4nx.ByteArray, str]:
        if name in self._calibrated:
            return self._calibrated[name].blocks, "calibrated" if bits == 4 else "rtn"
        if bits == 8:
            return q4nx.quantize_rtn(w_NK, bits), "rtn"
        codes = self._source.codes(name)
        if codes is not None:
            return kept_blocks(codes, f"{self._source.path}: {name}"), "kept"
        return QUANTIZERS[self._method](w_NK), self._method


def requantised_tensor(weights: RequantisedWeights) -> QuantizedTensor:
    """The line of weights that an exported graph held in other blocks; they have been written."""
    source = weights.source
    how = "kept" if source.bits == 4 and source.block_size % q4nx.GROUP_SIZE == 0 else "again"
    kind = f"int{source.bits} in {source.block_size}s"
    name = source.codes.name or ""
    why = "8 bits in the exported graph" if source.bits == 8 else ""
    return QuantizedTensor(name, kind, source.bits, how, source.N, source.K, weights.nmse or 0.0, why=why)


def kept_blocks(codes: AffineCodes, where: str) -> q4nx.ByteArray:
    """Q4NX blocks with the codes as they are.

    Raises:
        SourceError: a scale or minimum is too large for bfloat16.
    """
    scale_NG, min_NG = q4nx.to_bfloat16(codes.scale_NG), q4nx.to_bfloat16(codes.min_NG)
    for grid in (scale_NG, min_NG):
        if not np.isfinite(q4nx.from_bfloat16(grid)).all():
            raise SourceError("a scale does not fit bfloat16", where, "infinity", "use an intact model")
    return q4nx.pack(scale_NG, min_NG, codes.q_NK)


def relative_error(blocks: q4nx.ByteArray, w_NK: q4nx.FloatArray) -> float:
    """Squared error of the blocks' weights over the squares of w_NK; 0 where all are zero."""
    N, K = w_NK.shape
    columns = q4nx.block_count(1, K)
    error = norm = 0.0
    for first in range(0, N, _SLAB_ROWS):
        w = w_NK[first : first + _SLAB_ROWS].astype(np.float32, order="C")
        slab = blocks[first // q4nx.BLOCK_ROWS * columns : -(-(first + len(w)) // q4nx.BLOCK_ROWS) * columns]
        difference = (q4nx.dequantize(slab, len(w), K) - w).ravel()
        error += float(np.dot(difference, difference))
        norm += float(np.dot(w.ravel(), w.ravel()))
    return error / norm if norm else 0.0
