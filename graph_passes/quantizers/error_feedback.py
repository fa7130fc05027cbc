"""Quantises a matrix so that what it computes on real activations changes least.

With H = X^T X over calibration activations X [T, K], the error of a row is (v - w) H (v - w)^T, v its quantised values.

1. Error feedback (GPTQ): columns are rounded one after the other, and the error of each is taken up by the columns that
   follow, as far as H says they can. A group's grid is searched when its turn comes, on the weights as they are then.
2. Descent: given everything else, each code and each grid has a best value in closed form. Groups are gone through
   again and again; a grid changes only if the error falls.
"""

from __future__ import annotations

__all__ = ["Quantized", "descend", "error_feedback", "quadratic_error"]

from typing import NamedTuple

import numpy as np

from ..q4nx import GROUP_SIZE, AnyArray, FloatArray
from .grid import encode, round_grid, search


class Quantized(NamedTuple):
    """A quantised matrix, float32: scale and minimum [N, G] (values of bfloat16), codes [N, K]."""

    scale_NG: FloatArray
    min_NG: FloatArray
    q_NK: FloatArray

    def values(self) -> FloatArray:
        """The weights [N, K]."""
        N, K = self.q_NK.shape
        values_NGc: FloatArray = self.q_NK.reshape(N, -1, GROUP_SIZE) * self.scale_NG[..., None]
        values_NGc += self.min_NG[..., None]
        return values_NGc.reshape(N, K)


def quadratic_error(values_NK: FloatArray, w_NK: FloatArray, H_KK: FloatArray) -> FloatArray:
    """The error of each row, float32 [N]."""
    e_NK = values_NK - w_NK
    error_N: FloatArray = np.einsum("nk,nk->n", e_NK @ H_KK, e_NK)
    return error_N


def error_feedback(w_NK: FloatArray, U_KK: FloatArray) -> Quantized:
    """Step 1.

    Args:
        w_NK: float32, K a multiple of 32.
        U_KK: upper Cholesky factor of the inverse of H, float32. Column k, with all later ones free to make up for it,
            costs its squared error over U[k, k]^2.
    """
    N, K = w_NK.shape
    work_NK = w_NK.copy()
    out = Quantized(*(np.empty((N, width), np.float32) for width in (K // GROUP_SIZE, K // GROUP_SIZE, K)))
    importance_K = np.diag(U_KK) ** -2
    for g in range(K // GROUP_SIZE):
        group = slice(g * GROUP_SIZE, (g + 1) * GROUP_SIZE)
        w_cN = np.ascontiguousarray(work_NK[:, group].T)
        scale, minimum = search(w_cN, importance_K[group, None])
        U_cc = U_KK[group, group]
        error_cN = np.empty_like(w_cN)
        q_cN = np.empty_like(w_cN)
        for c in range(GROUP_SIZE):
            q_cN[c] = encode(w_cN[c], scale, minimum)
            error_cN[c] = (w_cN[c] - (scale * q_cN[c] + minimum)) / U_cc[c, c]
            w_cN[c + 1 :] -= U_cc[c, c + 1 :, None] * error_cN[c]
        work_NK[:, group.stop :] -= error_cN.T @ U_KK[group, group.stop :]
        out.scale_NG[:, g], out.min_NG[:, g], out.q_NK[:, group] = scale, minimum, q_cN.T
    return out


def descend(start: Quantized, w_NK: FloatArray, H_KK: FloatArray, sweeps: int) -> Quantized:
    """Step 2.

    Args:
        start: what to improve.
        w_NK: the weights to come near to, float32.
        H_KK: float32, symmetric, positive on its diagonal.
        sweeps: how often to go through all groups.
    """
    out = Quantized(*(array.copy() for array in start))
    gradient_NK = (start.values() - w_NK) @ H_KK
    for _ in range(sweeps):
        for g in range(out.scale_NG.shape[1]):
            group = slice(g * GROUP_SIZE, (g + 1) * GROUP_SIZE)
            H_cc = H_KK[group, group]
            grad_cN = np.ascontiguousarray(gradient_NK[:, group].T)
            q_cN = np.ascontiguousarray(out.q_NK[:, group].T)
            old_cN = out.scale_NG[:, g] * q_cN + out.min_NG[:, g]
            scale, minimum = _refit(q_cN, out.scale_NG[:, g], out.min_NG[:, g], grad_cN, H_cc)
            value_cN = scale * q_cN + minimum
            grad_cN += H_cc @ (value_cN - old_cN)
            for c in range(GROUP_SIZE):
                q_cN[c] = encode(value_cN[c] - grad_cN[c] / H_cc[c, c], scale, minimum)
                value = scale * q_cN[c] + minimum
                grad_cN += H_cc[c][:, None] * (value - value_cN[c])
                value_cN[c] = value
            out.scale_NG[:, g], out.min_NG[:, g], out.q_NK[:, group] = scale, minimum, q_cN.T
            gradient_NK += (value_cN - old_cN).T @ H_KK[group]
    return out


def _refit(
    q_cN: AnyArray, scale: AnyArray, minimum: AnyArray, grad_cN: AnyArray, H_cc: AnyArray
) -> tuple[AnyArray, AnyArray]:
    """The best scale and minimum for the codes, or the old ones where those are better once rounded.

    A change (s, m) moves half of the error by (s q + m) . grad + (s q + m) H (s q + m) / 2.
    """
    Hq_cN = H_cc @ q_cN
    qHq, qH1, oneH1 = (q_cN * Hq_cN).sum(axis=0), Hq_cN.sum(axis=0), H_cc.sum()
    q_grad, one_grad = (q_cN * grad_cN).sum(axis=0), grad_cN.sum(axis=0)
    determinant = qHq * oneH1 - qH1 * qH1
    usable = determinant > np.float32(1e-6) * qHq * abs(oneH1)
    numerator = qH1 * one_grad - oneH1 * q_grad
    s: AnyArray = np.where(usable, numerator, np.float32(0)) / np.where(usable, determinant, np.float32(1))
    new_scale = round_grid(scale + s)
    s = new_scale - scale
    m: AnyArray = -(one_grad + s * qH1) / oneH1 if oneH1 > 0 else np.zeros_like(s)  # the best for the rounded scale
    new_minimum = round_grid(minimum + m)
    m = new_minimum - minimum
    with np.errstate(over="ignore", invalid="ignore"):  # of huge weights; the comparison is false then
        change = 2 * (s * q_grad + m * one_grad) + s * s * qHq + 2 * s * m * qH1 + m * m * oneH1
    better = (change < 0) & (new_scale > 0)
    return np.where(better, new_scale, scale), np.where(better, new_minimum, minimum)
