"""Folding computes small constants and refuses whatever is large, before any memory is taken."""

from __future__ import annotations

import re
import tracemalloc

import numpy as np
import onnx_ir as ir
import pytest

from onnxruntime_ep_ryzen_npu_gemma.graph_passes.folding import fold
from tests.graph_passes.models import written

LIMIT = 1000
TEXT = """
<ir_version: 10, opset_import: ["": 23]>
part (float x) => (float y, float z)
<int64 one = {{1}}, int64 many = {{100000000000}}, int64 few = {{7}}, int64[2] large = {{300000, 300000}},
 int64[2] small = {{3, 2}}>
{{
    y = {0}
    z = Abs(x)
}}
"""
SMALL = {
    "Range(one, few, one)": (6,),
    "ConstantOfShape(small)": (3, 2),
    "Mul(column, few_f)": (1000, 1),
    "Gather(column, two)": (2, 1),
    "Concat <axis = 0> (two, two)": (4,),
}
LARGE = {
    "range": "Range(one, many, one)",
    "constant": "ConstantOfShape(large)",
    "expand": "Expand(unit, large)",
    "tile": "Tile(row2, large)",
    "outer_sum": "Add(column, row2)",
    "outer_product": "MatMul(column, row2)",
    "gather": "Gather(wide, indices)",
    "gather_nd": "GatherND(wide, pairs)",
    "pad": "Pad(row, padding)",
    "weight": "Neg(weight)",
}
WEIGHTS = {
    "row": np.ones(1000, np.float32),
    "row2": np.ones((1, 1000), np.float32),
    "column": np.ones((1000, 1), np.float32),
    "unit": np.ones((1, 1), np.float32),
    "wide": np.ones((2, 500), np.float32),
    "indices": np.zeros(1000, np.int64),
    "pairs": np.zeros((1000, 1), np.int64),
    "padding": np.array([0, 10**11]),
    "two": np.array([0, 1]),
    "few_f": np.float32([7]),
    "weight": np.ones(LIMIT + 1, np.float32),
}


def model(node: str) -> ir.Model:
    used = {name: array for name, array in WEIGHTS.items() if re.search(rf"\b{name}\b", node)}
    return written(TEXT.format(node), **used)


@pytest.mark.parametrize("node", SMALL)
def test_small_constants_are_computed(node: str) -> None:
    one = model(node)
    assert fold(one, LIMIT)
    made = one.graph.outputs[0]
    assert ir.convenience.get_const_tensor(made).shape == ir.Shape(SMALL[node])
    assert one.graph.outputs[1].producer().op_type == "Abs"


@pytest.mark.parametrize("what", LARGE)
def test_large_results_are_not_made(what: str) -> None:
    one = model(LARGE[what])
    tracemalloc.start()
    assert not fold(one, LIMIT)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1e6 and len(one.graph) == 2  # measured 0.1e6; the smallest of the results has 4e6 bytes
