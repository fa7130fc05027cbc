"""What RMSNorm on the NPU promises: the fp32 residual stream in, a bf16 activation out, one rounding."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import bf16
from ..contract import KernelContract, Limit, Tolerance, buffer, scalar

Array = np.ndarray[Any, np.dtype[Any]]

EPSILON = 1e-6  # rms_norm_eps of every Gemma3
LANES = Limit("n % 64 == 0 and n > 0", "a vector is 64 lanes")


def normalised(x: Any, weight: Any) -> Array:
    """Rows over their root mean square, times 1 + weight; float64."""
    x64 = np.asarray(x, np.float64)
    rms = np.sqrt(np.mean(x64**2, axis=-1, keepdims=True) + EPSILON)
    y: Array = x64 / rms * (1.0 + np.asarray(weight, np.float64))
    return y


def _reference(x: Any, weight: Any, n: int, weight_offset: int, **_: Any) -> dict[str, Array]:
    return {"y": normalised(x, weight[weight_offset : weight_offset + n])}


def _cycles(rows: int, n: int, **_: int) -> int:
    """Narrowings of x (4, twice), of the gain (4) and of y (2) fill the store slot; short rows wait for broadcasts."""
    blocks = n // 64
    return rows * max(14 * blocks, 6 * blocks + 14)


RMS_NORM = KernelContract(
    symbol="rms_norm_aie2p",
    source="rms_norm/aie2p.cc",
    args=(
        buffer("x", "float32", "in", "rows", "n", doc="residual stream"),
        buffer("weight", "bfloat16", "in", "weights", doc="w, the 1 is added inside; row at weight_offset"),
        buffer("y", "bfloat16", "out", "rows", "n"),
        scalar("rows"),
        scalar("n"),
        scalar("weight_offset", "in elements"),
    ),
    numerics="sums of squares in fp32 over two bf16 limbs, products of two limbs (16 bits), y rounded to nearest even; "
    "what is not finite makes its row NaN",
    tolerance=Tolerance(
        "rms error 1.000 of correct rounding at n = 640, 1152, 2560 with one element of 1e5 in the row; at least 99 % "
        "of the elements are correctly rounded (norms_test.py)"
    ),
    reference=_reference,
    ideal=lambda **args: {"y": bf16.rounded(_reference(**args)["y"])},
    cycles=_cycles,
    limits=(LANES,),
)

CONTRACTS: tuple[KernelContract, ...] = (RMS_NORM,)
