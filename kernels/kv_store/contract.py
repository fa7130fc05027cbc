"""What storing a row of keys or values on the NPU promises: fp32 sums rounded to the cache's bf16."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import bf16
from ..contract import KernelContract, Limit, Tolerance, buffer, scalar

Array = np.ndarray[Any, np.dtype[Any]]


def _placed(y: Any, n: int, y_offset: int, row: Array) -> dict[str, Array]:
    whole = np.array(y, np.float64)
    whole[y_offset : y_offset + n] = row[:n]
    return {"y": whole}


KV_STORE = KernelContract(
    symbol="kv_store_aie2p",
    source="kv_store/aie2p.cc",
    args=(
        buffer("x", "float32", "in", "n"),
        buffer("y", "bfloat16", "inout", "width", doc="written at y_offset, n elements"),
        scalar("n"),
        scalar("y_offset", "in elements"),
    ),
    numerics="rounded to nearest even",
    tolerance=Tolerance("equal to rounding, bit for bit (norms_test.py)", times_ideal=1.0),
    reference=lambda x, y, n, y_offset: _placed(y, n, y_offset, np.asarray(x, np.float64)),
    ideal=lambda x, y, n, y_offset: _placed(y, n, y_offset, bf16.rounded(x)),
    cycles=lambda n, **_: n // 32,
    limits=(
        Limit("n % 32 == 0 and y_offset % 32 == 0", "vectors are 64 bytes"),
        Limit("y_offset + n <= width", "y is written within its buffer"),
    ),
)

CONTRACTS: tuple[KernelContract, ...] = (KV_STORE,)
