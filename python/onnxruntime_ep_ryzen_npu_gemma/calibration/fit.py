"""Fits the Q4NX blocks of a matrix to the activations that it will get."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Executor
from typing import NamedTuple

import numpy as np

from onnxruntime_ep_ryzen_npu_gemma.graph_passes import q4nx
from onnxruntime_ep_ryzen_npu_gemma.graph_passes.q4nx import AnyArray, FloatArray
from onnxruntime_ep_ryzen_npu_gemma.graph_passes.quantizers.error_feedback import (
    Quantized,
    descend,
    error_feedback,
    quadratic_error,
)
from onnxruntime_ep_ryzen_npu_gemma.sources.affine_codes import AffineCodes

__all__ = ["CalibratedMatrix", "Fit"]

_DAMPING = 0.01  # of the mean second moment, added to all: the text is a sample
_SWEEPS = 2
_ROWS = 512  # of a matrix, a task: arrays of 32 columns stay in cache
_COLUMNS = 256  # of the moments, a task


class CalibratedMatrix(NamedTuple):
    """What calibration gives for a matrix.

    Attributes:
        blocks: Q4NX.
        weighted_error: squared error of what it computes on the text, over the squares of what the original computes.
    """

    blocks: q4nx.ByteArray
    weighted_error: float


class Fit:
    """What all matrices that read the same input share: its second moments, factored."""

    def __init__(self, inputs: Sequence[FloatArray], pool: Executor) -> None:
        """Takes the inputs, float32 [T, K], one array a window."""
        self._pool = pool
        K = inputs[0].shape[1]
        strips = [slice(first, first + _COLUMNS) for first in range(0, K, _COLUMNS)]
        moments_KK = np.concatenate(list(pool.map(lambda columns: _moments(inputs, columns), strips)))
        mean = np.trace(moments_KK) / len(moments_KK)
        moments_KK[np.diag_indices_from(moments_KK)] += _DAMPING * mean if mean > 0 else 1.0
        inverse_KK = np.linalg.inv(moments_KK)
        self._U_KK = np.linalg.cholesky((inverse_KK + inverse_KK.T) / 2).T.astype(np.float32)
        self._H_KK = moments_KK.astype(np.float32)

    def matrix(self, w_NK: FloatArray, kept: AffineCodes | None) -> CalibratedMatrix:
        """Quantises a matrix.

        Args:
            w_NK: float32.
            kept: codes that the source has; rows where they, improved, are better than new ones take them.
        """
        bounds = [slice(first, first + _ROWS) for first in range(0, len(w_NK), _ROWS)]
        parts = list(self._pool.map(lambda rows: self._rows(w_NK[rows], _start(kept, rows)), bounds))
        scale_NG, min_NG, q_NK = (np.concatenate(part) for part in zip(*parts, strict=True))
        q4nx.check_grids(w_NK, scale_NG, min_NG, 0)
        blocks = q4nx.pack(q4nx.to_bfloat16(scale_NG), q4nx.to_bfloat16(min_NG), q_NK.astype(np.uint8))
        return CalibratedMatrix(blocks, self.weighted_error(q4nx.dequantize(blocks, *w_NK.shape), w_NK))

    def weighted_error(self, values_NK: FloatArray, w_NK: FloatArray) -> float:
        """That of `CalibratedMatrix`, for values in the place of weights."""

        def sums(rows: slice) -> tuple[float, float]:
            w, zero = w_NK[rows], np.zeros(1, np.float32)
            errors = (quadratic_error(values_NK[rows], w, self._H_KK), quadratic_error(w, zero, self._H_KK))
            return float(errors[0].sum(dtype=np.float64)), float(errors[1].sum(dtype=np.float64))

        bounds = [slice(first, first + _ROWS) for first in range(0, len(w_NK), _ROWS)]
        error, power = np.sum(list(self._pool.map(sums, bounds)), axis=0)
        return float(error / power) if power else 0.0

    def _rows(self, w_NK: FloatArray, kept: Quantized | None) -> Quantized:
        new = descend(error_feedback(w_NK, self._U_KK), w_NK, self._H_KK, _SWEEPS)
        if kept is None:
            return new
        old = descend(kept, w_NK, self._H_KK, _SWEEPS)
        new_error, old_error = (quadratic_error(one.values(), w_NK, self._H_KK) for one in (new, old))
        return Quantized(*(np.where((old_error < new_error)[:, None], o, n) for o, n in zip(old, new, strict=True)))


def _moments(inputs: Sequence[FloatArray], columns: slice) -> AnyArray:
    """Rows `columns` of X^T X, summed over the windows in float64."""
    moments_CK: AnyArray = np.zeros((inputs[0][:, columns].shape[1], inputs[0].shape[1]), np.float64)
    for x_TK in inputs:
        moments_CK += x_TK[:, columns].T @ x_TK
    return moments_CK


def _start(kept: AffineCodes | None, rows: slice) -> Quantized | None:
    if kept is None:
        return None
    scale, minimum = (q4nx.from_bfloat16(q4nx.to_bfloat16(grid[rows])) for grid in (kept.scale_NG, kept.min_NG))
    return Quantized(scale, minimum, kept.q_NK[rows].astype(np.float32))
