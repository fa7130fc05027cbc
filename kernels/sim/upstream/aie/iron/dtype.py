"""Short names of element types, and the shape and type of `np.ndarray[shape, np.dtype[T]]`."""

from __future__ import annotations

from typing import Any, get_args

import numpy as np
from ml_dtypes import bfloat16

dtype_map = {"bf16": bfloat16, "i8": np.int8, "i16": np.int16, "f32": np.float32, "i32": np.int32}


def str_to_dtype(dtype_str: str) -> Any:
    """'bf16' → bfloat16."""
    try:
        return dtype_map[dtype_str]
    except KeyError:
        raise ValueError(f"Unrecognized dtype: {dtype_str}") from None


def dtype_to_str(dtype: Any) -> str:
    """bfloat16 → 'bf16'."""
    for key, value in dtype_map.items():
        if value == dtype:
            return key
    raise ValueError(f"Unrecognized dtype: {dtype}")


def array_shape(array_type: Any) -> tuple[int, ...]:
    """The shape of an array type."""
    shape = get_args(array_type)[0]
    if not isinstance(shape, tuple) or not all(isinstance(size, int | np.integer) for size in shape):
        raise TypeError(f"expected np.ndarray[(sizes…), np.dtype[T]], found {array_type}")
    return tuple(int(size) for size in shape)


def array_dtype(array_type: Any) -> np.dtype[Any]:
    """The element type of an array type."""
    return np.dtype(get_args(get_args(array_type)[1])[0])


def array_bytes(array_type: Any) -> int:
    """Bytes of an array type."""
    return int(np.prod(array_shape(array_type))) * array_dtype(array_type).itemsize
