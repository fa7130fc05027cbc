"""Shapes are found in calls, their arithmetic becomes constant or comes from the inputs, and nothing else changes."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from onnx_ir.passes import common

from onnxruntime_ep_ryzen_npu_gemma.graph_passes.fusion_pass import constant
from onnxruntime_ep_ryzen_npu_gemma.graph_passes.infer_shapes import InferShapes
from onnxruntime_ep_ryzen_npu_gemma.graph_passes.opset import DOMAIN
from tests.graph_passes.contrib import changes_nothing, run
from tests.graph_passes.models import nodes, written

# A head split, a half of each head and a mask's length, as optimum takes them from shapes of other values.
TEXT = """
<ir_version: 10, opset_import: ["": 23]>
part (int64[1, S] input_ids, int64[1, L] attention_mask, float[1, 2, P, 8] past_key)
    => (float halves, float keys, int64[3] three)
<int64 one = {1}, int64[1] start = {0}, int64[1] axis = {3}, int64[1] rest = {-1}, int64[1] eight = {8},
 int64 three_i = {3}, int64 two = {2}, int64[1] rows = {1}, int64[1] last = {2},
 int64[4] fixed = {0, 0, -1, 8}>
{
    embedded = Gather(table, input_ids)
    x = Abs(embedded)
    shape = Shape(x)
    count = Gather(shape, one)
    counts = Unsqueeze(count, start)
    split = Concat <axis = 0> (rows, counts, rest, eight)
    heads = Reshape(x, split)
    swapped = Transpose <perm = [0, 2, 1, 3]> (heads)
    sizes = Shape(swapped)
    size = Gather(sizes, three_i)
    half = Div(size, two)
    middle = Unsqueeze(half, start)
    halves = Slice(swapped, start, middle, axis)
    kept = Slice(swapped, start, last, rows)
    present = Concat <axis = 2> (past_key, kept)
    length = Shape <start = 2, end = 3> (present)
    zeros = Expand(zero, length)
    keys = Cast <to = 1> (zeros)
    three = Shape(x)
}
"""


def model() -> ir.Model:
    return written(TEXT, table=np.random.default_rng(0).normal(size=(5, 32)).astype(np.float32), zero=np.float32([0]))


def call(past: int, new: int) -> dict[str, np.ndarray]:
    return {
        "input_ids": np.arange(new)[None] % 5,
        "attention_mask": np.ones((1, past + new), np.int64),
        "past_key": np.zeros((1, 2, past, 8), np.float32),
    }


def value(model: ir.Model, name: str) -> ir.Value:
    return next(output for node in model.graph for output in node.outputs if output.name == name)


def test_values_get_their_shapes_and_types() -> None:
    one = model()
    InferShapes()(one)
    shapes = {name: str(value(one, name).shape) for name in ("x", "heads", "swapped", "present")}
    assert shapes == {
        "x": "[1,sequence,32]",
        "heads": "[1,sequence,4,8]",
        "swapped": "[1,4,sequence,8]",
        "present": "[1,2,total,8]",
    }
    assert value(one, "present").dtype == ir.DataType.FLOAT


def test_shape_arithmetic_becomes_constant() -> None:
    one = model()
    InferShapes()(one)
    [split] = nodes(one, "Reshape")
    assert constant(split.inputs[1]).tolist() == [1, -1, 4, 8]
    half = value(one, "halves").producer()
    assert constant(half.inputs[2]).tolist() == [4]
    assert {node.inputs[0].name for node in nodes(one, "Shape")} == {"input_ids", "attention_mask"}


@pytest.mark.parametrize(("past", "new"), [(0, 1), (3, 2), (50, 7)])
def test_it_computes_the_same(past: int, new: int) -> None:
    one = model()
    before = run(one, call(past, new))
    assert InferShapes()(one).modified
    common.RemoveUnusedNodesPass()(one)
    for after, array in zip(run(one, call(past, new)), before, strict=True):
        np.testing.assert_array_equal(after, array)
    assert changes_nothing(InferShapes(), one)


def test_a_number_that_a_reshape_leaves_open_is_written() -> None:
    one = written(
        TEXT, {"Reshape(x, split)": "Reshape(x, fixed)"}, table=np.zeros((5, 32), np.float32), zero=np.float32([0])
    )
    InferShapes()(one)
    assert constant(nodes(one, "Reshape")[0].inputs[1]).tolist() == [1, -1, 4, 8]


def test_a_static_call_has_numbers() -> None:
    one = model()
    one.graph.inputs[0].shape = ir.Shape([1, 1])
    InferShapes()(one)
    assert value(one, "swapped").shape == ir.Shape([1, 4, 1, 8])


@pytest.mark.parametrize("which", ["ours", "no_mask"])
def test_other_graphs_are_left_alone(which: str) -> None:
    one = model()
    if which == "ours":
        one.graph.append(ir.node("MatMulNBits", [value(one, "x")], domain=DOMAIN))
    else:
        one.graph.inputs[1].name = "mask"
    assert changes_nothing(InferShapes(), one)
