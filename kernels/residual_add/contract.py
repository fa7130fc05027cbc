"""What the residual addition on the NPU promises: h += RMSNorm(delta), h and the addend in fp32."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from ..contract import KernelContract, Tolerance, buffer, scalar
from ..rms_norm.contract import LANES, normalised

Array = np.ndarray[Any, np.dtype[Any]]


def _reference(delta: Any, weight: Any, h: Any, n: int, weight_offset: int, **_: Any) -> dict[str, Array]:
    return {"h": np.asarray(h, np.float64) + normalised(delta, weight[weight_offset : weight_offset + n])}


def _cycles_f32(rows: int, n: int, **_: int) -> int:
    """Narrowings of delta (4, twice) and of the gain (4), and h stored (4)."""
    blocks = n // 64
    return rows * max(16 * blocks, 6 * blocks + 14)


def _cycles_bf16(rows: int, n: int, **_: int) -> int:
    """Narrowings of the gain (4), and h stored (4)."""
    blocks = n // 64
    return rows * max(8 * blocks, 2 * blocks + 14, 7 * blocks + 7)


RESIDUAL_ADD_F32 = KernelContract(
    symbol="residual_add_f32_aie2p",
    source="residual_add/aie2p.cc",
    args=(
        buffer("delta", "float32", "in", "rows", "n", doc="sums of a projection (decode)"),
        buffer("weight", "bfloat16", "in", "weights", doc="w, the 1 is added inside; row at weight_offset"),
        buffer("h", "float32", "inout", "rows", "n", doc="residual stream"),
        scalar("rows"),
        scalar("n"),
        scalar("weight_offset", "in elements"),
    ),
    numerics="as rms_norm, but the addend stays a sum of products of two bf16 limbs (16 bits) and h is fp32; "
    "what is not finite in delta makes its row NaN",
    tolerance=Tolerance(
        "the ideal has no rounding but fp32's, so the floor decides: error 4e-8 to 2e-7 of max |h| with an addend of "
        "1e5 rms, n = 640, 1152, 2560 (norms_test.py)",
        floor=1e-6,
    ),
    reference=_reference,
    cycles=_cycles_f32,
    limits=(LANES,),
)

RESIDUAL_ADD_BF16 = replace(
    RESIDUAL_ADD_F32,
    symbol="residual_add_bf16_aie2p",
    args=(
        buffer("delta", "bfloat16", "in", "rows", "n", doc="a projection's output (prefill)"),
        *RESIDUAL_ADD_F32.args[1:],
    ),
    cycles=_cycles_bf16,
)

CONTRACTS: tuple[KernelContract, ...] = (RESIDUAL_ADD_F32, RESIDUAL_ADD_BF16)
