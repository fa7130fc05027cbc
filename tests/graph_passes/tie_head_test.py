"""A copied head reads the embedding; heads of their own stay, with reason and value."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
from onnx_ir.passes import common

from onnxruntime_ep_ryzen_npu_gemma.graph_passes.lazy_weights import Widened
from onnxruntime_ep_ryzen_npu_gemma.graph_passes.tie_head import TieHead
from tests.graph_passes.contrib import apply, changes_nothing, run
from tests.graph_passes.models import nodes, written

TEXT = """
<ir_version: 10, opset_import: ["": 23]>
tied (int64[1, S] ids) => (float[1, S, 40] logits)
{
    h = Gather(table, ids)
    logits = MatMul(h, copy)
}
"""
TABLE = np.random.default_rng(0).normal(size=(40, 16)).astype(np.float32)


def changed(token: int) -> np.ndarray:
    copy = np.ascontiguousarray(TABLE.T)
    copy[3, token] += 1
    return copy


def test_a_copy_is_tied() -> None:
    model = written(TEXT, table=TABLE, copy=np.ascontiguousarray(TABLE.T))
    ids = np.array([[3, 1, 39]])
    [before] = run(model, {"ids": ids})
    assert len(apply(TieHead(), model).matches) == 1
    common.RemoveUnusedNodesPass()(model)
    assert list(model.graph.initializers) == ["table"]
    [transpose] = nodes(model, "Transpose")
    assert transpose.inputs[0].name == "table" and model.graph.outputs[0].producer().inputs[1] is transpose.outputs[0]
    np.testing.assert_array_equal(run(model, {"ids": ids})[0], before)
    assert changes_nothing(TieHead(), model) and not apply(TieHead(), model).declines


def test_copies_in_half_precision_are_compared_as_stored() -> None:
    halves = {"table": TABLE.astype(np.float16), "copy": TABLE.T.astype(np.float16)}
    model = written(TEXT, **halves)
    for value in model.graph.initializers.values():
        value.const_value, value.dtype = Widened(value.const_value), ir.DataType.FLOAT
    assert len(apply(TieHead(), model).matches) == 1


@pytest.mark.parametrize(
    ("copy", "reason", "value"),
    [
        (changed(0), "the head has weights of its own", "copy: token 0"),
        (changed(39), "the head has weights of its own", "copy: token 39"),
        (np.full((16, 40), np.nan, np.float32), "the head has weights of its own", "copy: token 0"),
        (TABLE.T[:, :32], "no embedding has the head's shape", "[16,32]: [40,16]"),
    ],
    ids=["first", "last", "nan", "shape"],
)
def test_a_head_of_its_own_declines(copy: np.ndarray, reason: str, value: str) -> None:
    model = written(TEXT, {"40] logits": f"{copy.shape[1]}] logits"}, table=TABLE, copy=np.ascontiguousarray(copy))
    [decline] = apply(TieHead(), model).declines
    assert (decline.op_type, decline.reason, decline.value) == ("MatMul", reason, value)


def test_the_comparison_takes_little_memory(tmp_path: Path) -> None:
    """Two matrices of 32 MB in a file, compared in slabs of 4 MB."""
    table = np.arange(1 << 23, dtype=np.float32).reshape(1 << 14, 512)
    model = written(TEXT, {"40] logits": "16384] logits"}, table=table, copy=np.ascontiguousarray(table.T))
    ir.save(model, tmp_path / "model.onnx", external_data="model.data")
    del table
    loaded = ir.load(tmp_path / "model.onnx")
    tracemalloc.start()
    assert len(apply(TieHead(), loaded).matches) == 1
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 16e6  # measured 5.3e6
