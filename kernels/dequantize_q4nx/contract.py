"""What the NPU's dequantisation engine promises: Q4NX units to blocks that a matrix multiplication takes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .. import bf16, bfp16
from ..contract import KernelContract, Limit, Tolerance, buffer, scalar
from ..matmul_nbits.packing import GROUP_COLUMNS, STRIP_ROWS, UNIT_BYTES

Array = np.ndarray[Any, np.dtype[Any]]


def weights(units: Any, strips: int, groups: int) -> Array:
    """The exact matrix `[16 strips, 32 groups]` in float64."""
    raw = np.ascontiguousarray(units, np.uint8).reshape(strips, groups, UNIT_BYTES[4])
    words = np.ascontiguousarray(raw[..., :64]).view(np.uint16).astype(np.uint32) << 16
    scale, minimum = np.split(words.view(np.float32).astype(np.float64), 2, axis=-1)
    packed = raw[..., 64:].reshape(strips, groups, GROUP_COLUMNS, STRIP_ROWS // 2)
    codes = np.stack([packed & 15, packed >> 4], axis=-1).reshape(strips, groups, GROUP_COLUMNS, STRIP_ROWS)
    w = scale[..., None, :] * codes + minimum[..., None, :]
    return w.transpose(0, 3, 1, 2).reshape(strips * STRIP_ROWS, groups * GROUP_COLUMNS)


def blocks_n_k(w: Array) -> Array:
    """`[n, k]` → `[n/16, k/8, 2, 8 n, 8 k]`: the order of matmul_bf16's operand b."""
    n, k = w.shape
    return np.ascontiguousarray(w.reshape(n // 16, 2, 8, k // 8, 8).transpose(0, 3, 1, 2, 4))


def _contract(
    form: str,
    dtype: Any,
    order: str,
    cycles_per_unit: int,
    to_b: Callable[[Array], Array],
    rounded: Callable[[Array], Array],
) -> KernelContract:
    def truth(units: Any, b: Any, strips: int, groups: int) -> dict[str, Array]:
        return {"b": to_b(weights(units, strips, groups))}

    def ideal(units: Any, b: Any, strips: int, groups: int) -> dict[str, Array]:
        return {"b": rounded(to_b(weights(units, strips, groups)))}

    return KernelContract(
        symbol=f"dequantize_q4nx_{form}_aie2p",
        source=f"dequantize_q4nx/aie2p_{form}.cc",
        args=(
            buffer("units", "uint8", "in", "strips", "groups", UNIT_BYTES[4], doc="matmul_nbits/packing.py"),
            buffer("b", dtype, "out", "strips", "4 * groups", 2, 8, 8, doc=order),
            scalar("strips", "of 16 rows"),
            scalar("groups", "of 32 columns"),
        ),
        numerics="scale·(128 + q) + (min - 128·scale) in fp32, one rounding to nearest even at the end",
        tolerance=Tolerance(
            "equal to the exact weight rounded once, in every one of 10^5 random weights (dequantize_q4nx_test.py)"
        ),
        reference=truth,
        ideal=ideal,
        cycles=lambda strips, groups, **_: cycles_per_unit * strips * groups + 6,
        limits=(Limit("strips >= 1 and groups >= 1", "a call has a unit at least"),),
    )


BF16 = _contract(
    "bf16",
    "bfloat16",
    "[n/16][k/8][2][8 k][8 n]",
    36,
    lambda w: np.ascontiguousarray(blocks_n_k(w).swapaxes(-1, -2)),
    bf16.rounded,
)
BFP16 = _contract("bfp16", "bfp16ebs8", "[n/16][k/8][2][8 n][8 k]", 46, blocks_n_k, bfp16.rounded)

CONTRACTS: tuple[KernelContract, ...] = (BF16, BFP16)
