"""Lazy weights: what they give, and that they give it anew each time."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import onnx_ir as ir
import pytest

from onnxruntime_ep_ryzen_npu_gemma.graph_passes.lazy_weights import Sliced, Widened

X = np.arange(24, dtype=np.float32).reshape(4, 6)


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
def test_widened(dtype: type) -> None:
    narrow = ir.tensor(X.astype(dtype), name="x")
    wide = Widened(narrow)
    assert (wide.dtype, wide.shape, wide.name) == (ir.DataType.FLOAT, (4, 6), "x")
    assert wide.numpy().dtype == np.float32 and np.array_equal(wide.numpy(), X.astype(dtype).astype(np.float32))
    assert wide.numpy() is not wide.numpy()


@pytest.mark.parametrize(("axis", "expected"), [(0, X[1:3]), (1, X[:, 1:3])])
def test_sliced(axis: int, expected: np.ndarray) -> None:
    part = Sliced(ir.tensor(X, name="x"), axis, 1, 3, "part")
    assert (part.dtype, part.shape, part.name) == (ir.DataType.FLOAT, expected.shape, "part")
    assert np.array_equal(part.numpy(), expected) and part.numpy().flags.c_contiguous
    assert part.tobytes() == expected.tobytes()


def test_a_slice_of_bfloat16_stays_bfloat16() -> None:
    part = Sliced(ir.tensor(X.astype(ml_dtypes.bfloat16), name="x"), 1, 0, 2, "part")
    assert part.dtype == ir.DataType.BFLOAT16
    assert part.tobytes() == X[:, :2].astype(ml_dtypes.bfloat16).tobytes()
