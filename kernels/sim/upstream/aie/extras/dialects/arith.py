"""Constants, and the conversion between loop counters (index) and int32."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..._trace import INDEX, Value, as_value


def constant(value: Any, type: Any = None, index: bool | None = None) -> Value:
    """A number as a value of the core."""
    if index:
        return as_value(value, INDEX)
    return as_value(value, np.dtype(np.int32) if type is None else type)


def index_cast(value: Any, *, to: Any = None) -> Value:
    """A loop counter as int32 (`to=T.i32()`), to be passed to a kernel, or the other way (`to=T.index()`)."""
    if not isinstance(value, Value) or to is None:
        raise TypeError(f"index_cast(value, to=T.i32()): found {value!r} to {to!r}")
    if (value.dtype == INDEX) == (to == INDEX):
        raise TypeError(f"index_cast is between index and an integer type; {value} has type {value.dtype}, to={to}")
    return Value("cast", (value,), to)
