"""What the NPU's tiled matmul promises: c += a·bᵀ, a in bf16, b in bfp16, fp32 sums kept over the tiles of K."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import bf16, bfp16
from ..contract import KernelContract, Limit, Tolerance, buffer, scalar

Array = np.ndarray[Any, np.dtype[Any]]


def blocks(matrix: Array) -> Array:
    """`[rows, columns]` → `[rows/8, columns/8, 8, 8]`: the order of a, c and y."""
    rows, columns = matrix.shape
    return np.ascontiguousarray(matrix.reshape(rows // 8, 8, columns // 8, 8).swapaxes(1, 2))


def unblocked(array: Any, rows: int, columns: int) -> Array:
    """The matrix of `blocks`."""
    return np.asarray(array).reshape(rows // 8, columns // 8, 8, 8).swapaxes(1, 2).reshape(rows, columns)


def _product(round_a: Any, a: Any, b: Any, c: Any, m: int, k: int, n: int, first: int) -> dict[str, Array]:
    left = round_a(unblocked(np.asarray(a, np.float64), m, k))
    right = bfp16.decode(np.asarray(b, np.uint8).reshape(-1)).reshape(n // 16, k // 8, 2, 8, 8)
    product = left @ right.transpose(0, 2, 3, 1, 4).reshape(n, k).T
    start = np.zeros((m, n)) if first else unblocked(np.asarray(c, np.float64), m, n)
    return {"c": blocks(start + product)}


def _matmul_cycles(m: int, k: int, n: int, first: int = 0, **_: int) -> int:
    """2 x 2 blocks of c: four multiplications, six loads and two conversions a step of 8 k; then c is stored."""
    tiles, steps = (m // 16) * (n // 16), k // 8
    loads = tiles * (6 * steps + (0 if first else 16)) + m // 16
    return max((loads + 1) // 2, tiles * (2 * steps + 16), tiles * (4 * steps + (4 if first else 0)))


MATMUL = KernelContract(
    symbol="matmul_bf16_aie2p",
    source="matmul_bf16/aie2p.cc",
    args=(
        buffer("a", "bfloat16", "in", "m // 8", "k // 8", 8, 8, doc="[m/8][k/8][8 m][8 k]"),
        buffer("b", "bfp16ebs8", "in", "n // 16", "k // 8", 2, 8, 8, doc="[n/16][k/8][2][8 n][8 k], dequantize_q4nx"),
        buffer("c", "float32", "inout", "m // 8", "n // 8", 8, 8, doc="[m/8][n/8][8 m][8 n]"),
        scalar("m"),
        scalar("k"),
        scalar("n"),
        scalar("first", "1: c starts at zero, whatever it held"),
    ),
    numerics="a rounds to bfp16 along k, nearest even; eight products are summed exactly and added to c in fp32",
    tolerance=Tolerance(
        "rms error 1.000 of exact sums over a in bfp16, 16 x 32 x 16 to 128 x 640 x 128 (matmul_bf16_test.py)"
    ),
    reference=lambda **args: _product(lambda a: a, **args),
    ideal=lambda **args: _product(bfp16.rounded, **args),
    cycles=_matmul_cycles,
    limits=(
        Limit("m % 16 == 0 and n % 16 == 0", "2 x 2 blocks of 8 x 8 are in registers"),
        Limit("k % 8 == 0 and k >= 32", "a block is 8 of k, and the loop is compiled for four rounds at least"),
    ),
)


def _stored(c: Any, m: int, first_row: int) -> Array:
    return np.asarray(c, np.float64)[first_row // 8 : (first_row + m) // 8]


STORE = KernelContract(
    symbol="matmul_bf16_store_aie2p",
    source="matmul_bf16/aie2p.cc",
    args=(
        buffer("c", "float32", "in", "rows // 8", "n // 8", 8, 8),
        buffer("y", "bfloat16", "out", "m // 8", "n // 8", 8, 8, doc="the block order of c"),
        scalar("m"),
        scalar("n"),
        scalar("first_row", "of c, the first of y"),
    ),
    numerics="rounded to nearest even",
    tolerance=Tolerance("equal to rounding, bit for bit (matmul_bf16_test.py)"),
    reference=lambda c, y, m, n, first_row: {"y": _stored(c, m, first_row)},
    ideal=lambda c, y, m, n, first_row: {"y": bf16.rounded(_stored(c, m, first_row))},
    cycles=lambda m, n, **_: 2 * (m * n // 64),
    limits=(
        Limit("m % 8 == 0 and n % 8 == 0 and first_row % 8 == 0", "c is in blocks of 8 x 8"),
        Limit("first_row + m <= rows", "y is a part of c"),
    ),
)

CONTRACTS: tuple[KernelContract, ...] = (MATMUL, STORE)
