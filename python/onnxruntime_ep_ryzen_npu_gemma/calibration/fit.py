"""Fits the Q4NX blocks of one matrix to the activations that it will get."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np

from onnxruntime_ep_ryzen_npu_gemma.graph_passes import q4nx
from onnxruntime_ep_ryzen_npu_gemma.graph_passes.quantizers.error_feedback import (
    Quantized,
    descend,
    error_feedback,
    quadratic_error,
)
from onnxruntime_ep_ryzen_npu_gemma.sources.affine_codes import AffineCodes

__all__ = ["Fit", "Moments"]

_DAMPING = 0.01  # of the mean second moment, added to all: the text is a sample
_SWEEPS = 4
_ROWS = 512  # of a matrix, a task: arrays of 32 columns stay in cache


class Moments:
    """Second moments of a matrix's input.

    Attributes:
        own_KK: X^T X of the run with quantised weights, float64.
        missing_KK: X^T (X0 - X), X0 the original's input.
    """

    def __init__(self, K: int) -> None:
        self.own_KK = np.zeros((K, K), np.float64)
        self.missing_KK = np.zeros((K, K), np.float64)

    def add(self, x_TK: np.ndarray, original_TK: np.ndarray) -> None:
        """Takes the inputs of one window, float32, of both runs."""
        self.own_KK += x_TK.T @ x_TK
        self.missing_KK += x_TK.T @ (original_TK - x_TK)


class Fit:
    """What all matrices that read the same input share."""

    def __init__(self, moments: Moments, catch_up: float) -> None:
        """Factors the moments.

        Args:
            moments: of the input.
            catch_up: how far to make up for what the input lacks, from 0 to 1: the weights to come near to are moved
                that far towards those that give the original's output from the quantised run's input.
        """
        own_KK = moments.own_KK
        mean = np.trace(own_KK) / len(own_KK)
        H_KK = own_KK + np.eye(len(own_KK)) * (_DAMPING * mean if mean > 0 else 1.0)
        inverse_KK = np.linalg.inv(H_KK)
        self._U_KK = np.linalg.cholesky((inverse_KK + inverse_KK.T) / 2).T.astype(np.float32)
        self._shift_KK = (catch_up * inverse_KK @ moments.missing_KK).T.astype(np.float32)
        self._H_KK = H_KK.astype(np.float32)

    def blocks(self, w_NK: np.ndarray, kept: AffineCodes | None) -> q4nx.ByteArray:
        """The Q4NX blocks of a matrix.

        Args:
            w_NK: float32.
            kept: codes that the source has; rows where they, improved, are better than new ones take them.
        """
        bounds = [slice(first, first + _ROWS) for first in range(0, len(w_NK), _ROWS)]
        with ThreadPoolExecutor() as pool:
            parts = list(pool.map(lambda rows: self._rows(w_NK[rows], _codes(kept, rows)), bounds))
        scale_NG, min_NG, q_NK = (np.concatenate(part) for part in zip(*parts, strict=True))
        q4nx.check_grids(w_NK, scale_NG, min_NG, 0)
        return q4nx.pack(q4nx.to_bfloat16(scale_NG), q4nx.to_bfloat16(min_NG), q_NK.astype(np.uint8))

    def _rows(self, w_NK: np.ndarray, kept: Quantized | None) -> Quantized:
        goal_NK = w_NK + w_NK @ self._shift_KK
        new = descend(error_feedback(goal_NK, self._U_KK), goal_NK, self._H_KK, _SWEEPS)
        if kept is None:
            return new
        old = descend(kept, goal_NK, self._H_KK, _SWEEPS)
        new_error, old_error = (quadratic_error(one.values(), goal_NK, self._H_KK) for one in (new, old))
        return Quantized(*(np.where((old_error < new_error)[:, None], o, n) for o, n in zip(old, new, strict=True)))


def _codes(kept: AffineCodes | None, rows: slice) -> Quantized | None:
    if kept is None:
        return None
    scale, minimum = (q4nx.from_bfloat16(q4nx.to_bfloat16(grid[rows])) for grid in (kept.scale_NG, kept.min_NG))
    return Quantized(scale, minimum, kept.q_NK[rows].astype(np.float32))
