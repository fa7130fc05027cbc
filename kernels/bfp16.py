"""bfp16ebs8, the block floating point of XDNA2's multiplier, in numpy.

Eight values share an exponent byte E (that of the largest, biased by 127); each keeps a signed byte m:
value = m · 2^(E - 133). In memory a block is nine bytes: E, then the eight m.
"""

from __future__ import annotations

from typing import Any

import numpy as np

BLOCK = 8
BLOCK_BYTES = 9


def encode(values: Any) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Blocks along the last axis, rounded to nearest even: `[..., 8 n]` → `[..., 9 n]`."""
    x = np.asarray(values, np.float64)
    blocks = x.reshape(*x.shape[:-1], -1, BLOCK)
    largest = np.abs(blocks).max(-1, keepdims=True)
    exponent = np.where(largest < 2.0**-126, -127, np.frexp(largest)[1] - 1)  # subnormal numbers are zero
    mantissa = np.where(exponent == -127, 0, np.rint(np.ldexp(blocks, 6 - exponent))).clip(-128, 127)
    raw = np.concatenate([(exponent + 127).astype(np.uint8), mantissa.astype(np.int8).view(np.uint8)], axis=-1)
    return raw.reshape(*x.shape[:-1], -1)


def decode(raw: Any) -> np.ndarray[Any, np.dtype[np.float64]]:
    """The values of blocks along the last axis: `[..., 9 n]` → `[..., 8 n]`."""
    data = np.asarray(raw, np.uint8)
    blocks = data.reshape(*data.shape[:-1], -1, BLOCK_BYTES)
    mantissa = np.ascontiguousarray(blocks[..., 1:]).view(np.int8).astype(np.float64)
    exponent = blocks[..., :1].astype(np.int64) - 133
    return np.ldexp(mantissa, exponent).reshape(*data.shape[:-1], -1)


def rounded(values: Any) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Values as bfp16 holds them."""
    return decode(encode(values))
