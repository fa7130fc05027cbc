"""Grids of 16 values for groups of 32 weights: scale and minimum in bfloat16, codes 0..15 rounded against them.

`search` looks for the grid of least weighted squared error. Candidates lie around the group's range, in units of a
fifteenth of it; the codes of each give, by least squares, its best scale and minimum and how good those are. Groups are
columns of the arrays here, so that sums over a group run over whole rows. Letters: c weights of a group, M groups.
"""

from __future__ import annotations

__all__ = ["LEVELS", "encode", "round_grid", "search"]

import itertools

import numpy as np

from ..q4nx import FloatArray, from_bfloat16, to_bfloat16

LEVELS = 15
_CUTS = (0.0, 0.5, 1.1, 2.0)  # codes' worth of the range that may be given up at each end


def round_grid(x: FloatArray) -> FloatArray:
    """Rounds scales or minima to what bfloat16 holds."""
    return from_bfloat16(to_bfloat16(x))


def encode(w_cM: FloatArray, scale_M: FloatArray, minimum_M: FloatArray) -> FloatArray:
    """The nearest codes, float32 [c, M] or [M]; 0 where the scale is 0."""
    reciprocal = np.where(scale_M == 0, np.float32(0), 1 / np.where(scale_M == 0, np.float32(1), scale_M))
    codes = w_cM - minimum_M
    codes *= reciprocal
    np.rint(codes, out=codes)
    return np.clip(codes, 0, LEVELS, out=codes)


def search(w_cM: FloatArray, importance_cM: FloatArray) -> tuple[FloatArray, FloatArray]:
    """The best scale and minimum of each group.

    Args:
        w_cM: float32 weights.
        importance_cM: positive weights of the squared errors, float32, [c, M] or [c, 1].

    Returns:
        Scale and minimum, float32 [M], values of bfloat16.
    """
    low_M, high_M = w_cM.min(axis=0), w_cM.max(axis=0)
    unit_M = (high_M - low_M) / np.float32(LEVELS)
    unit_M[~(unit_M > np.finfo(np.float32).tiny)] = 0
    u_cM = w_cM - low_M  # in units: 0 to 15
    u_cM *= np.where(unit_M > 0, 1 / np.where(unit_M > 0, unit_M, np.float32(1)), np.float32(0))
    importance_cM = importance_cM / importance_cM.mean(axis=0)
    total_M = importance_cM.sum(axis=0)
    iu_cM = importance_cM * u_cM
    mean_u_M = iu_cM.sum(axis=0) / total_M
    best_M = np.full(len(unit_M), -1, np.float32)
    scale_M, minimum_M = np.ones_like(unit_M), np.zeros_like(unit_M)
    codes_cM, buffer_cM = np.empty_like(u_cM), np.empty_like(u_cM)
    for cut_low, cut_high in itertools.product(_CUTS, _CUTS):
        np.subtract(u_cM, np.float32(cut_low), out=codes_cM)
        codes_cM *= np.float32(LEVELS / (LEVELS - cut_low - cut_high))
        np.rint(codes_cM, out=codes_cM)
        np.clip(codes_cM, 0, LEVELS, out=codes_cM)
        # The best line u = s q + m lowers the error from var(u) by cov(q, u)^2 / var(q).
        np.multiply(iu_cM, codes_cM, out=buffer_cM)
        qu_M = buffer_cM.sum(axis=0)
        np.multiply(importance_cM, codes_cM, out=buffer_cM)
        q_M = buffer_cM.sum(axis=0)
        buffer_cM *= codes_cM
        variance_M = buffer_cM.sum(axis=0) - q_M * q_M / total_M
        covariance_M = qu_M - q_M * mean_u_M
        s_M = covariance_M / np.maximum(variance_M, np.float32(1e-6))
        gain_M = s_M * covariance_M
        better_M = (gain_M > best_M) & (s_M > 0)
        best_M = np.where(better_M, gain_M, best_M)
        scale_M = np.where(better_M, s_M, scale_M)
        minimum_M = np.where(better_M, mean_u_M - s_M * q_M / total_M, minimum_M)
    return round_grid(scale_M * unit_M), round_grid(low_M + minimum_M * unit_M)
