"""bf16 in numpy, which has no such type: values stay float64 (or float32), rounded to eight bits of mantissa."""

from __future__ import annotations

from typing import Any

import numpy as np


def rounded(values: Any) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Values as bf16 holds them, rounded to nearest even; NaN stays NaN, what is too large becomes infinite."""
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    up = ((bits + 0x7FFF + (bits >> 16 & 1)) & 0xFFFF0000).astype(np.uint32).view(np.float32)
    return np.where(np.isnan(bits.view(np.float32)), np.nan, up).astype(np.float64).reshape(np.shape(values))
