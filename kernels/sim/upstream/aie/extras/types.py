"""Names of the scalar types: `T.i32()`, `T.index()`."""

import numpy as np

from .._trace import INDEX


def i32() -> np.dtype:
    """32-bit integer, the type of a kernel's scalar arguments and of run-time parameters."""
    return np.dtype(np.int32)


def index() -> str:
    """The type of loop counters."""
    return INDEX
