"""Spelled and stored rotations become RotaryEmbedding and compute the same; near misses stay, with reason and value."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from onnx_ir.passes import common

from onnxruntime_ep_ryzen_npu_gemma.graph_passes.fusion_pass import FusionResult
from onnxruntime_ep_ryzen_npu_gemma.graph_passes.normalise_rope import NormaliseRope
from tests.graph_passes.contrib import apply, changes_nothing, run
from tests.graph_passes.models import nodes, written

HEADS, TOKENS, HEAD_DIM, ROWS = 2, 4, 8, 32
X = np.random.default_rng(0).normal(size=(1, HEADS, TOKENS, HEAD_DIM)).astype(np.float32)
FREQUENCIES = 10.0 ** -np.arange(HEAD_DIM // 2, dtype=np.float32)
ANGLES = np.arange(ROWS, dtype=np.float32)[:, None] * FREQUENCIES
COS, SIN = np.cos(ANGLES), np.sin(ANGLES)

SPELLED = """
<ir_version: 10, opset_import: ["": 23]>
rotation (float[1, 2, S, 8] x, int64[1, S] input_ids, int64[1, L] attention_mask) => (float[1, 2, S, 8] y)
<int64 zero = {0}, int64[1] start = {0}, int64[1] middle = {4}, int64[1] end = {9223372036854775807},
 int64[1] axis = {3}, int64[1] one = {1}, int64 step = {1}, int64[2] halves = {4, 4}>
{
    total = Shape <start = 1, end = 2> (attention_mask)
    new = Shape <start = 1, end = 2> (input_ids)
    past = Sub(total, new)
    count = Squeeze(new)
    range = Range(zero, count, step)
    positions = Add(past, range)
    column = Unsqueeze(positions, one)
    real = Cast <to = 1> (column)
    angle = Mul(real, frequencies)
    twice = Concat <axis = -1> (angle, angle)
    wide = Unsqueeze(twice, start)
    tables = Unsqueeze(wide, start)
    cos = Cos(tables)
    sin = Sin(tables)
    by_cos = Mul(x, cos)
    low = Slice(x, start, middle, axis, one)
    high = Slice(x, middle, end, axis, one)
    negated = Neg(high)
    rotated = Concat <axis = -1> (negated, low)
    by_sin = Mul(rotated, sin)
    y = Add(by_cos, by_sin)
}
"""

SPELLINGS = {
    "slices": {},
    "split": {
        "low = Slice(x, start, middle, axis, one)": "low, high = Split <axis = -1> (x, halves)",
        "    high = Slice(x, middle, end, axis, one)\n": "",
    },
    "other_order": {
        "Mul(x, cos)": "Mul(cos, x)",
        "Mul(rotated, sin)": "Mul(sin, rotated)",
        "(by_cos, by_sin)": "(by_sin, by_cos)",
    },
}


def spelled(changes: dict[str, str]) -> ir.Model:
    model = written(SPELLED, changes, frequencies=FREQUENCIES)
    common.ShapeInferencePass()(model)
    for node in model.graph:  # what the model's own shape inference does not follow
        if node.outputs[0].name in ("cos", "sin"):
            node.outputs[0].shape = ir.Shape([1, 1, None, HEAD_DIM])
    return model


def feeds() -> dict[str, np.ndarray]:
    return {"x": X, "input_ids": np.zeros((1, TOKENS), np.int64), "attention_mask": np.ones((1, 20), np.int64)}


def normalise(model: ir.Model) -> FusionResult:
    result = apply(NormaliseRope(), model)
    common.RemoveUnusedNodesPass()(model)
    return result


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_a_spelling_becomes_the_operator(spelling: str) -> None:
    model = spelled(SPELLINGS[spelling])
    [before] = run(model, feeds())
    result = normalise(model)
    assert len(result.matches) == 1 and not result.declines
    [rotary] = nodes(model, "RotaryEmbedding")
    assert rotary.inputs[0].name == "x" and not nodes(model, "Neg") and not nodes(model, "Split")
    [after] = run(model, feeds())
    np.testing.assert_allclose(after, before, rtol=0, atol=1e-6)
    assert np.abs(after - X).max() > 0.5 and changes_nothing(NormaliseRope(), model)


OPERATOR = """
<ir_version: 10, opset_import: ["": 23, "com.microsoft": 1]>
rotation (float[1, 2, S, 8] x, int64[1, S] positions) => (float[1, 2, S, 8] y)
{
    y = RotaryEmbedding(x, cos, sin, positions)
}
"""
MERGED = {"float[1, 2, S, 8]": "float[1, S, 16]", "RotaryEmbedding(": "RotaryEmbedding <num_heads = 2> ("}
CONTRIB = {"RotaryEmbedding": "com.microsoft.RotaryEmbedding", "(x, cos, sin, positions)": "(x, positions, cos, sin)"}


@pytest.mark.parametrize("contrib", [False, True], ids=["onnx", "contrib"])
@pytest.mark.parametrize("merged", [False, True], ids=["4d", "3d"])
def test_stored_tables_are_gathered(contrib: bool, merged: bool) -> None:
    model = written(OPERATOR, (CONTRIB if contrib else {}) | (MERGED if merged else {}), cos=COS, sin=SIN)
    x = X.swapaxes(1, 2).reshape(1, TOKENS, -1) if merged else X
    called = {"x": x, "positions": np.array([[5, 6, 7, 8]])}
    [before] = run(model, called)
    assert len(normalise(model).matches) == 1
    [rotary] = nodes(model, "RotaryEmbedding")
    assert len(rotary.inputs) == 3 and rotary.domain == "" and len(rotary.inputs[0].shape) == 4
    assert [table.producer().op_type for table in rotary.inputs[1:]] == ["Gather", "Gather"]
    np.testing.assert_allclose(run(model, called)[0], before, rtol=0, atol=1e-6)
    assert changes_nothing(NormaliseRope(), model)


def test_contribs_heads_come_from_the_tables() -> None:
    model = written(OPERATOR, CONTRIB | {"float[1, 2, S, 8]": "float[1, S, 16]"}, cos=COS, sin=SIN)
    called = {"x": X.swapaxes(1, 2).reshape(1, TOKENS, -1), "positions": np.array([[5, 6, 7, 8]])}
    [before] = run(model, called)
    assert len(normalise(model).matches) == 1
    np.testing.assert_allclose(run(model, called)[0], before, rtol=0, atol=1e-6)


NEAR_MISSES = {
    "other_way": (
        {"Neg(high)": "Neg(low)", "(negated, low)": "(negated, high)"},
        "halves rotate the other way",
        "rotated",
    ),
    "interleaved": (
        {
            "(x, start, middle, axis, one)": "(x, start, end, axis, two)",
            "(x, middle, end, axis, one)": "(x, one, end, axis, two)",
        },
        "not halves of one value",
        "range(0, 8, 2)",
    ),
    "two_values": ({"low = Slice(x,": "z = Abs(x)\n low = Slice(z,"}, "not halves of one value", "x, z"),
    "no_sine": ({"Mul(rotated, sin)": "Add(rotated, sin)"}, "halves are not multiplied by a table", "rotated to Add"),
    "difference": (
        {"Add(by_cos, by_sin)": "Sub(by_cos, by_sin)"},
        "halves are not added to a product",
        "by_sin to Sub",
    ),
    "no_cosine": ({"Add(by_cos, by_sin)": "Add(x, by_sin)"}, "halves are not added to a product", "x"),
    "halves_differ": (
        {"Concat <axis = -1> (angle, angle)": "Concat <axis = -1> (angle, real4)"},
        "the halves of a table differ",
        "cos",
    ),
    "of_the_tokens": (
        {"Cast <to = 1> (column)": "Cast <to = 1> (ids)"},
        "depends on the tokens, not on their number alone",
        "",
    ),
}
MORE = {
    "interleaved": {"int64 step = {1}": "int64 step = {1}, int64[1] two = {2}"},
    "halves_differ": {"twice = Concat": "real4 = Concat <axis = -1> (real, real, real, real)\n twice = Concat"},
    "of_the_tokens": {"real = Cast": "row = Squeeze(input_ids, start)\n ids = Unsqueeze(row, one)\n real = Cast"},
}


@pytest.mark.parametrize("miss", NEAR_MISSES)
def test_near_misses_decline(miss: str) -> None:
    changes, reason, value = NEAR_MISSES[miss]
    model = spelled(changes | MORE.get(miss, {}))
    result = apply(NormaliseRope(), model)
    [decline] = result.declines
    assert not result.modified and (decline.op_type, decline.reason) == ("Concat", reason) and value in decline.value


@pytest.mark.parametrize(
    ("changes", "reason", "value"),
    [
        (CONTRIB | {"RotaryEmbedding(": "RotaryEmbedding <scale = 2.0> ("}, "rotation with a factor", "2.0"),
        (
            CONTRIB | {"RotaryEmbedding(": "RotaryEmbedding <is_packed_batching = 1> ("},
            "tokens of several sequences are packed",
            "y",
        ),
        (CONTRIB | {"int64[1, S] positions": "int64[1] positions"}, "positions are not of each token", "positions"),
        (
            {"float[1, 2, S, 8] x": "float[1, S, 15] x", "RotaryEmbedding(": "RotaryEmbedding <num_heads = 2> ("},
            "heads do not divide x",
            "15",
        ),
        ({"float[1, 2, S, 8] x": "float[1, S, W] x"}, "rotation of unknown shape", "x"),
    ],
)
def test_operators_that_decline(changes: dict[str, str], reason: str, value: str) -> None:
    [decline] = apply(NormaliseRope(), written(OPERATOR, changes, cos=COS, sin=SIN)).declines
    assert decline.reason == reason and value in decline.value
