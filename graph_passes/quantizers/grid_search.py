"""Quantises a matrix by itself: each group gets the grid that loses least, each weight its nearest code."""

from __future__ import annotations

__all__ = ["quantize_by_search"]

from concurrent.futures import ThreadPoolExecutor

import numpy as np

from .. import q4nx
from .grid import encode, search

_SLAB_GROUPS = 1 << 13  # 1 MB an array: a slab's arrays stay in cache


def quantize_by_search(w_NK: q4nx.FloatArray) -> q4nx.ByteArray:
    """Quantises to 4 bits; on several threads, with the same result as on one.

    Args:
        w_NK: float [N, K], any strides, K a multiple of 32.

    Returns:
        Blocks, uint8 [block_count(N, K), 5120].

    Raises:
        ValueError: a weight is NaN or infinite, a group's range does not fit bfloat16, or a bad shape.
    """
    q4nx.check_matrix(w_NK)
    N, K = w_NK.shape
    blocks = np.empty((q4nx.block_count(N, K), q4nx.BLOCK_BYTES[4]), np.uint8)
    step = max(1, _SLAB_GROUPS * q4nx.GROUP_SIZE // (K * q4nx.BLOCK_ROWS)) * q4nx.BLOCK_ROWS
    blocks_per_step = q4nx.block_count(step, K)

    def slab(i: int) -> None:
        rows = w_NK[i * step : (i + 1) * step].astype(np.float32, order="C")
        blocks[i * blocks_per_step : (i + 1) * blocks_per_step] = _quantize(rows, i * step)

    with ThreadPoolExecutor() as pool:
        for _ in pool.map(slab, range(-(-N // step))):
            pass
    return blocks


def _quantize(w_NK: q4nx.FloatArray, first_row: int) -> q4nx.ByteArray:
    N, K = w_NK.shape
    w_cM = np.ascontiguousarray(w_NK.reshape(-1, q4nx.GROUP_SIZE).T)
    with np.errstate(invalid="ignore", over="ignore"):
        scale_M, min_M = search(w_cM, np.ones((q4nx.GROUP_SIZE, 1), np.float32))
    q4nx.check_grids(w_NK, scale_M, min_M, first_row)
    q_NK = encode(w_cM, scale_M, min_M).astype(np.uint8).T.reshape(N, K)
    scale_NG, min_NG = (q4nx.to_bfloat16(grid_M).reshape(N, -1) for grid_M in (scale_M, min_M))
    return q4nx.pack(scale_NG, min_NG, q_NK)
