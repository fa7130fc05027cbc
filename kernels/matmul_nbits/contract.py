"""What the NPU's FusedDQP kernels promise: y += W·x for one token, Q4NX weights dequantised in registers."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..contract import KernelContract, Limit, Tolerance, buffer, scalar
from .packing import GROUP_COLUMNS, STRIP_ROWS, UNIT_BYTES, dequantize_units

Floats = np.ndarray[Any, np.dtype[np.floating[Any]]]

_X = buffer(
    "x", "bfloat16", "in", "columns", doc="activations, each group of 32 divided by its 2^E (aie2p_activation.h)"
)
_X_GROUPS = buffer("x_groups", "bfloat16", "in", "columns // 32", 4, doc="2^E and the group's sum in three parts")
_RUN = (
    scalar("n_units", "units in the buffer that are real"),
    scalar("strip", "strip of the first unit: rows 16·strip … of acc"),
    scalar("group", "group of the first unit"),
    scalar("groups", "groups of a strip; the unit after the last belongs to the next strip"),
    scalar("x_group0", "group of x that group 0 meets"),
)
_LIMITS = (
    Limit("1 <= n_units <= units", "a call takes the units of its buffer"),
    Limit("columns % 32 == 0 and rows % 16 == 0", "a unit is 16 rows x 32 columns"),
    Limit("groups * 32 <= columns", "every group of a strip meets a group of x"),
)


def _product(dtype: Any, bits: int, args: dict[str, Any]) -> dict[str, Floats]:
    count, groups = args["n_units"], args["groups"]
    units = np.asarray(args["units"], np.uint8).reshape(-1, UNIT_BYTES[bits])
    x = np.asarray(args["x"], np.float64).reshape(-1, GROUP_COLUMNS)
    x = x * np.asarray(args["x_groups"], np.float64).reshape(-1, 4)[:, :1]
    acc = np.array(args["acc"], dtype)
    for index in range(count):
        strip, group = divmod(args["strip"] * groups + args["group"] + index, groups)
        weights = dequantize_units(units[None, None, index], bits).astype(dtype)
        rows = slice(STRIP_ROWS * strip, STRIP_ROWS * (strip + 1))
        acc[rows] += weights @ x[args["x_group0"] + group].astype(dtype)
    return {"acc": acc}


def _contract(bits: int, cycles_per_unit: int, overhead: int, numerics: str, evidence: str) -> KernelContract:
    return KernelContract(
        symbol="matmul_nbits_aie2p" if bits == 4 else "matmul_nbits_8bit_aie2p",
        source="matmul_nbits/aie2p_fused_dqp.cc" if bits == 4 else "matmul_nbits/aie2p_fused_dqp_8bit.cc",
        args=(
            buffer("units", "uint8", "in", "units", UNIT_BYTES[bits], doc="packing.py"),
            _X,
            _X_GROUPS,
            buffer("acc", "float32", "inout", "rows", doc="y so far"),
            *_RUN,
        ),
        numerics=numerics,
        tolerance=Tolerance(evidence, floor=2.0**-23),
        reference=lambda **args: _product(np.float64, bits, args),
        ideal=lambda **args: _product(np.float32, bits, args),
        # The move slot is the busiest.
        cycles=lambda n_units, **_: cycles_per_unit * n_units + overhead,
        limits=_LIMITS,
    )


_NUMERICS = (
    "activations as integers x·2^(28-E) in four int8 limbs, exact for a bf16 that is at least 2^-21 of its group's "
    "largest; integer products exact; {}; fp32 accumulation per limb, limbs folded once a strip, small ones "
    "first. Conversions round to nearest even. NaN or infinity in a group of x makes every output that reads it NaN."
)

FUSED_DQP = _contract(
    4,
    18,
    7,
    _NUMERICS.format("scale·2^E·(sum of codes·x), the sum in two bf16, plus min·(sum of x), the sum in three bf16"),
    "rms error 0.16 to 0.42 of float32 numpy's over the widths of 270M, 1B and 4B (matmul_nbits_test.py)",
)
FUSED_DQP_8BIT = _contract(
    8,
    27,
    6,
    _NUMERICS.format("scale·2^E·(sum of codes·x), the sum in three bf16"),
    "rms error 0.19 to 0.28 of float32 numpy's over the widths of 270M, 1B and 4B (matmul_nbits_test.py)",
)


def _prepared(src: Any, x: Any, x_groups: Any, src_offset: int, n: int, x_group0: int) -> dict[str, Floats]:
    values = np.asarray(src, np.float64)[src_offset : src_offset + n].reshape(-1, GROUP_COLUMNS)
    largest = np.abs(values).max(-1)
    power = np.where(largest < 2.0**-126, 1.0, np.exp2(np.clip(np.frexp(largest)[1] - 1, -126, 126)))
    records = np.zeros((len(values), 4))
    records[:, 0] = np.where(np.isfinite(largest), power, np.nan)
    rest = values.astype(np.float32).sum(-1, dtype=np.float64)
    for part in (1, 2, 3):
        bits = rest.astype(np.float32).view(np.uint32)
        records[:, part] = ((bits + 0x7FFF + (bits >> 16 & 1)) & 0xFFFF0000).view(np.float32)
        rest = rest - records[:, part]
    out_x, out_groups = np.array(x, np.float64), np.array(x_groups, np.float64).reshape(-1, 4)
    out_x[GROUP_COLUMNS * x_group0 :][:n] = (values / power[:, None]).reshape(-1)
    out_groups[x_group0:][: len(values)] = records
    return {"x": out_x, "x_groups": out_groups}


ACTIVATION = KernelContract(
    symbol="matmul_nbits_activation_aie2p",
    source="matmul_nbits/aie2p_activation.cc",
    args=(
        buffer("src", "bfloat16", "in", "src_columns"),
        buffer("x", "bfloat16", "inout", "columns", doc="src in groups of 32, each divided by its 2^E"),
        buffer("x_groups", "bfloat16", "inout", "columns // 32", 4, doc="2^E, then the sum: high, middle, low"),
        scalar("src_offset"),
        scalar("n", "activations to prepare"),
        scalar("x_group0", "group of x that the first of them starts"),
    ),
    numerics="division by a power of two and the largest magnitude are exact; sums in fp32, folded by halves",
    tolerance=Tolerance("x and 2^E are exact; the three parts of the sum are within 2^-22 of it", floor=2.0**-22),
    reference=_prepared,
    cycles=lambda n, **_: 22 * (n // GROUP_COLUMNS),
    limits=(
        Limit("n % 32 == 0 and columns % 32 == 0", "activations come in groups of 32"),
        Limit("src_offset % 32 == 0", "vector loads are aligned to 64 bytes"),
    ),
)

CONTRACTS: tuple[KernelContract, ...] = (FUSED_DQP, FUSED_DQP_8BIT, ACTIVATION)
