"""What GeGLU on the NPU promises: gelu_tanh(gate) * up from the core's exp2, correct to bf16's last bit."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from .. import bf16
from ..contract import KernelContract, Limit, Tolerance, buffer, scalar

Array = np.ndarray[Any, np.dtype[Any]]


def gelu_tanh(x: Any) -> Array:
    """0.5 x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))), float64."""
    x64 = np.asarray(x, np.float64)
    with np.errstate(over="ignore"):
        y: Array = 0.5 * x64 * (1.0 + np.tanh(np.sqrt(2.0 / np.pi) * (x64 + 0.044715 * x64**3)))
    return y


def _of_pair(gate: Any, up: Any) -> Array:
    return gelu_tanh(gate) * np.asarray(up, np.float64)


def _ideal_of_pair(gate: Any, up: Any) -> Array:
    return bf16.rounded(_of_pair(bf16.rounded(gate), bf16.rounded(up)))


def _placed(y: Any, y_offset: int, values: Array) -> dict[str, Array]:
    whole = np.array(y, np.float64)
    whole[y_offset : y_offset + len(values)] = values
    return {"y": whole}


def _cycles(n: int, **_: int) -> int:
    """The mv slot: 16 widenings, 6 comparisons, 4 exp2 and 8 of aie::inv for 64 values; constants once."""
    return 34 * (n // 64) + 14


GELU_MUL_BF16 = KernelContract(
    symbol="gelu_mul_bf16_aie2p",
    source="gelu_mul/aie2p.cc",
    args=(
        buffer("gate", "bfloat16", "in", "n"),
        buffer("up", "bfloat16", "in", "n"),
        buffer("y", "bfloat16", "out", "n"),
        scalar("n"),
    ),
    numerics="x / (1 + 2^t): t in fp32 with its cubic term in bf16, 2^t a bf16, the reciprocal by one Newton step in "
    "fp32, products of two bf16 limbs, y rounded to nearest even. A NaN in gate or up gives NaN in its place, so does "
    "an infinity, but a gate of minus infinity is 0",
    tolerance=Tolerance(
        "rms error 1.001 of correct rounding for gates of 3 sigma; over all finite bf16 gates relative error at most "
        "0.0059 above -2 and 0.014 in -4 … -2, where gelu is small (bf16's half unit is 0.0039; gelu_mul_test.py). "
        "With the core's tanh it is 0.0135 of x, and the tolerance refuses it"
    ),
    reference=lambda gate, up, **_: {"y": _of_pair(gate, up)},
    ideal=lambda gate, up, **_: {"y": _ideal_of_pair(gate, up)},
    cycles=_cycles,
    limits=(Limit("n % 64 == 0", "a vector is 64 lanes"),),
)

GELU_MUL_F32 = replace(
    GELU_MUL_BF16,
    symbol="gelu_mul_f32_aie2p",
    args=(
        buffer("gate_up", "float32", "in", "2 * n", doc="gate [n], up [n]: sums of the projections (decode)"),
        buffer("y", "bfloat16", "inout", "width", doc="written at y_offset, n elements"),
        scalar("n"),
        scalar("y_offset", "in elements"),
    ),
    numerics="gate and up are rounded to bf16 as they are read, then as gelu_mul_bf16_aie2p",
    reference=lambda gate_up, y, n, y_offset: _placed(y, y_offset, _of_pair(gate_up[:n], gate_up[n:])),
    ideal=lambda gate_up, y, n, y_offset: _placed(y, y_offset, _ideal_of_pair(gate_up[:n], gate_up[n:])),
    limits=(
        Limit("n % 64 == 0", "a vector is 64 lanes"),
        Limit("y_offset + n <= width", "y is written within its buffer"),
    ),
)

CONTRACTS: tuple[KernelContract, ...] = (GELU_MUL_BF16, GELU_MUL_F32)
