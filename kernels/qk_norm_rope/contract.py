"""What QK-RMSNorm and RoPE on the NPU promise: one rounding, to bf16, with the attention's scale inside of q."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import bf16
from ..contract import KernelContract, Limit, Tolerance, buffer, scalar
from ..rms_norm.contract import normalised

Array = np.ndarray[Any, np.dtype[Any]]

HEAD_DIM = 256
HALF = HEAD_DIM // 2


def rope_table(positions: Any, theta: float, factor: float = 1.0) -> Array:
    """`[positions, 256]` fp32: 128 cosines, then 128 sines, of position / (factor * theta^(i / 128))."""
    inverse = 1.0 / (factor * theta ** (np.arange(HALF) / HALF))
    angle = np.asarray(positions, np.float64)[:, None] * inverse
    return np.concatenate([np.cos(angle), np.sin(angle)], axis=-1).astype(np.float32)


def _rotated(x: Any, weight: Any, table: Any, query_scalar: int) -> Array:
    factor = np.log2(np.e) / np.sqrt(query_scalar) if query_scalar else 1.0
    n = normalised(x, weight) * factor
    cos, sin = np.asarray(table[..., :HALF], np.float64), np.asarray(table[..., HALF:], np.float64)
    a, b = n[..., :HALF], n[..., HALF:]
    return np.concatenate([a * cos - b * sin, b * cos + a * sin], axis=-1)


def _one_head(
    x: Any, weight: Any, table: Any, y: Any, query_scalar: int, weight_offset: int, table_offset: int, y_offset: int
) -> dict[str, Array]:
    whole = np.array(y, np.float64)
    whole[y_offset : y_offset + HEAD_DIM] = _rotated(
        x, weight[weight_offset : weight_offset + HEAD_DIM], table[table_offset : table_offset + HEAD_DIM], query_scalar
    )
    return {"y": whole}


def _many(x: Any, weight: Any, table: Any, query_scalar: int, **_: Any) -> dict[str, Array]:
    return {"y": _rotated(x, weight, np.asarray(table)[:, None, :], query_scalar)}


_NUMERICS = (
    "sum of squares in fp32; norm, scale and rotation by products of two bf16 limbs (16 bits) with fp32 cosines and "
    "sines; y rounded to nearest even; what is not finite makes its head NaN"
)
_TOLERANCE = Tolerance(
    "rms error 1.00 of correct rounding at positions 0 to 32767; with a bf16 table it would be 1.1 to 1.3 "
    "(qk_norm_rope_test.py), which alone moves the last hidden state of Gemma3-270M by 0.26e-2 over 620 tokens"
)

QK_NORM_ROPE_F32 = KernelContract(
    symbol="qk_norm_rope_f32_aie2p",
    source="qk_norm_rope/aie2p.cc",
    args=(
        buffer("x", "float32", "in", HEAD_DIM, doc="one head's sums (decode)"),
        buffer("weight", "bfloat16", "in", "weights", doc="w, the 1 is added inside; 256 at weight_offset"),
        buffer("table", "float32", "in", "table_size", doc="128 cos, 128 sin of the position, at table_offset"),
        buffer("y", "bfloat16", "inout", "width", doc="written at y_offset, 256 elements"),
        scalar("query_scalar", "query_pre_attn_scalar for q, 0 for k"),
        scalar("weight_offset"),
        scalar("table_offset"),
        scalar("y_offset"),
    ),
    numerics=_NUMERICS,
    tolerance=_TOLERANCE,
    reference=_one_head,
    ideal=lambda **args: {"y": bf16.rounded(_one_head(**args)["y"])},
    cycles=lambda **_: 88,  # narrowings
    limits=(
        Limit("weight_offset % 32 == 0 and table_offset % 16 == 0 and y_offset % 32 == 0", "vectors are 64 bytes"),
    ),
)

QK_NORM_ROPE_BF16 = KernelContract(
    symbol="qk_norm_rope_bf16_aie2p",
    source="qk_norm_rope/aie2p.cc",
    args=(
        buffer("x", "bfloat16", "in", "positions", "heads", HEAD_DIM, doc="q or k of a projection (prefill)"),
        buffer("weight", "bfloat16", "in", HEAD_DIM, doc="w, the 1 is added inside"),
        buffer("table", "float32", "in", "positions", HEAD_DIM, doc="128 cos, 128 sin of each position"),
        buffer("y", "bfloat16", "out", "positions", "heads", HEAD_DIM),
        scalar("positions"),
        scalar("heads"),
        scalar("query_scalar", "query_pre_attn_scalar for q, 0 for k"),
    ),
    numerics=_NUMERICS,
    tolerance=_TOLERANCE,
    reference=_many,
    ideal=lambda **args: {"y": bf16.rounded(_many(**args)["y"])},
    cycles=lambda positions, heads, **_: 63 * positions * heads,  # multiplications
)

CONTRACTS: tuple[KernelContract, ...] = (QK_NORM_ROPE_F32, QK_NORM_ROPE_BF16)
