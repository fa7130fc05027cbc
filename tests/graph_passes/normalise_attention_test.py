"""Spelled attention and hand-made caches become Attention and compute the same; near misses stay, with their reason."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from onnx_ir.passes import common

from onnxruntime_ep_ryzen_npu_gemma.graph_passes.fusion_pass import FusionResult
from onnxruntime_ep_ryzen_npu_gemma.graph_passes.normalise_attention import NormaliseAttention
from tests.graph_passes.contrib import apply, changes_nothing, run
from tests.graph_passes.models import nodes, written

HEADS, KV_HEADS, TOKENS, PAST, HEAD_DIM = 4, 2, 3, 6, 8

INTERFACE = """
<ir_version: 10, opset_import: ["": 23]>
attend (float[1, 4, S, 8] q, float[1, 2, S, 8] k, float[1, 2, S, 8] v,
        float[1, 2, P, 8] past_k, float[1, 2, P, 8] past_v, bool[1, 1, S, T] seen, float[1, 1, S, T] added)
    => (float[1, 4, S, 8] y, float[1, 2, T, 8] present_k, float[1, 2, T, 8] present_v)
<float root = {0.5}, float half = {0.5}, float two = {2.0}, float zero = {0.0}, float low = {-3.4e38},
 int64[1] axis = {2}, int64[5] repeats = {1, 2, 2, 1, 1}, int64[4] merged = {1, 4, -1, 8},
 int64[4] tiles = {1, 2, 1, 1}>
"""
CACHES = """
    present_k = Concat <axis = -2> (past_k, k)
    present_v = Concat <axis = 2> (past_v, v)
    wide_k = Unsqueeze(present_k, axis)
    many_k = Expand(wide_k, repeats)
    all_k = Reshape(many_k, merged)
    wide_v = Unsqueeze(present_v, axis)
    many_v = Expand(wide_v, repeats)
    all_v = Reshape(many_v, merged)
"""
SPELLED = f"""{INTERFACE}
{{{CACHES}
    turned = Transpose <perm = [0, 1, 3, 2]> (all_k)
    small_q = Mul(q, root)
    small_k = Mul(turned, root)
    scores = MatMul(small_q, small_k)
    mask = Where(seen, zero, low)
    masked = Add(scores, mask)
    weights = Softmax <axis = -1> (masked)
    nan = IsNaN(weights)
    safe = Where(nan, zero, weights)
    y = MatMul(safe, all_v)
}}
"""
OPERATOR = f"""{INTERFACE}
{{{CACHES}
    y = Attention <scale = 0.25> (q, all_k, all_v, seen)
}}
"""
MERGED = """
<ir_version: 10, opset_import: ["": 23]>
attend (float[1, S, 32] q, float[1, S, 16] k, float[1, S, 16] v, float[1, 2, P, 8] past_k, float[1, 2, P, 8] past_v,
        bool[1, 1, S, T] seen)
    => (float[1, S, 32] y, float[1, 2, T, 8] present_k, float[1, 2, T, 8] present_v)
{
    y, present_k, present_v =
        Attention <q_num_heads = 4, kv_num_heads = 2, scale = 0.25> (q, k, v, seen, past_k, past_v)
}
"""

SPELLINGS = {
    "both_sides": {},
    "queries": {
        "Mul(turned, root)": "Identity(turned)",
        "Mul(q, root)": "Mul(q, quarter)",
        "float half": "float quarter = {0.25}, float half",
    },
    "scores": {
        "small_q = Mul(q, root)\n": "\n",
        "    small_k = Mul(turned, root)\n": "",
        "scores = MatMul(small_q, small_k)": "large = MatMul(q, turned)\n"
        " quarter = Mul(half, large)\n scores = Div(quarter, two)",
    },
    "no_guard": {
        "    nan = IsNaN(weights)\n    safe = Where(nan, zero, weights)\n": "",
        "MatMul(safe, all_v)": "MatMul(weights, all_v)",
    },
    "where": {"    mask = Where(seen, zero, low)\n": "", "Add(scores, mask)": "Where(seen, scores, low)"},
    "added": {"    mask = Where(seen, zero, low)\n": "", "Add(scores, mask)": "Add(added, scores)"},
    "turned_in_three_axes": {
        "turned = Transpose <perm = [0, 1, 3, 2]> (all_k)": "flat = Reshape(all_k, flattened)\n"
        " swapped = Transpose <perm = [0, 2, 1]> (flat)\n turned = Reshape(swapped, unflattened)",
        "int64[1] axis": "int64[3] flattened = {4, -1, 8}, int64[4] unflattened = {1, 4, 8, -1}, int64[1] axis",
    },
}
SPELLINGS["queries"]["small_k = Mul(turned, root)"] = (
    SPELLINGS["queries"].pop("Mul(turned, root)").join(["small_k = ", ""])
)


def call(merged: bool = False) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    shapes = {
        "q": (HEADS, TOKENS),
        "k": (KV_HEADS, TOKENS),
        "v": (KV_HEADS, TOKENS),
        "past_k": (KV_HEADS, PAST),
        "past_v": (KV_HEADS, PAST),
    }
    feeds = {name: rng.normal(size=(1, *shape, HEAD_DIM)).astype(np.float32) for name, shape in shapes.items()}
    if merged:
        feeds |= {name: feeds[name].swapaxes(1, 2).reshape(1, TOKENS, -1) for name in "qkv"}
    seen = np.tri(TOKENS, PAST + TOKENS, PAST, bool)[None, None]
    return feeds | {"seen": seen} | ({} if merged else {"added": np.where(seen, 0, -1e30).astype(np.float32)})


def normalise(model: ir.Model) -> FusionResult:
    result = apply(NormaliseAttention(), model)
    common.RemoveUnusedNodesPass()(model)
    model.graph.sort()
    return result


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_a_spelling_becomes_the_operator(spelling: str) -> None:
    model = written(SPELLED, SPELLINGS[spelling])
    common.IdentityEliminationPass()(model)
    before = run(model, call())
    result = normalise(model)
    assert len(result.matches) == 1 and not result.declines
    [attention] = nodes(model, "Attention")
    assert [value.name for value in attention.inputs[:3]] == ["q", "k", "v"]
    assert [value.name for value in attention.inputs[4:]] == ["past_k", "past_v"]
    assert attention.attributes["scale"].value == pytest.approx(0.25, rel=1e-6)
    assert {node.op_type for node in model.graph} <= {"Attention", "Where"}
    for one, other in zip(run(model, call()), before, strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-6)
    assert changes_nothing(NormaliseAttention(), model)


def test_attention_over_repeated_caches() -> None:
    model = written(OPERATOR)
    before = run(model, call())
    assert len(normalise(model).matches) == 1
    assert [node.op_type for node in model.graph] == ["Attention"] and len(model.graph[0].inputs) == 6
    for one, other in zip(run(model, call()), before, strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-6)


@pytest.mark.parametrize("causal", [False, True])
def test_attention_of_merged_heads(causal: bool) -> None:
    model = written(MERGED, {"q_num_heads": "is_causal = 1, q_num_heads"} if causal else {})
    before = run(model, call(merged=True))
    assert len(normalise(model).matches) == 1
    [attention] = nodes(model, "Attention")
    assert (
        attention.inputs[0].shape == ir.Shape([1, HEADS, "S", HEAD_DIM]) and "q_num_heads" not in attention.attributes
    )
    assert ("is_causal" in attention.attributes) == causal
    for one, other in zip(run(model, call(merged=True)), before, strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-6)
    assert changes_nothing(NormaliseAttention(), model)


NEAR_MISSES = {
    "softcap": (
        {
            "scores = MatMul(small_q, small_k)": "large = MatMul(small_q, small_k)\n"
            " capped = Tanh(large)\n scores = Mul(capped, two)"
        },
        "scores are capped",
        "capped",
    ),
    "no_mask": ({"masked = Add(scores, mask)": "masked = Mul(scores, two)"}, "scores are not masked", "masked"),
    "weak_mask": (
        {"    mask = Where(seen, zero, low)\n": "", "Add(scores, mask)": "Where(seen, scores, two)"},
        "hidden scores are not very negative",
        "2.0",
    ),
    "over_queries": ({"Softmax <axis = -1>": "Softmax <axis = 2>"}, "softmax is not over the keys", "2"),
    "guard_of_ones": (
        {"Where(nan, zero, weights)": "Where(nan, two, weights)"},
        "rows of NaN are not made zero",
        "safe",
    ),
    "scaled_values": (
        {
            "MatMul(safe, all_v)": "MatMul(safe, large_v)",
            "wide_v": "wide_v",
            "    turned": "    large_v = Mul(all_v, two)\n    turned",
        },
        "values are scaled",
        "2.0",
    ),
    "tiled": (
        {"all_k = Reshape(many_k, merged)": "all_k = Tile(present_k, tiles)"},
        "keys or values are not past and new",
        "all_k from Tile",
    ),
    "tiled_by_expand": (
        {
            "many_k = Expand(wide_k, repeats)": "many_k = Expand(first_k, firsts)",
            "wide_k = Unsqueeze(present_k, axis)": "first_k = Unsqueeze(present_k, first)",
        },
        "keys or values are not repeated for their queries",
        "small_k",
    ),
    "no_cache": (
        {"all_v = Reshape(many_v, merged)": "all_v = Expand(v, tiles4)"},
        "keys or values are not past and new",
        "v",
    ),
    "new_before_past": (
        {"present_k = Concat <axis = -2> (past_k, k)": "new = Abs(k)\n present_k = Concat <axis = -2> (new, past_k)"},
        "keys or values are not past and new",
        "present_k",
    ),
    "no_product": (
        {"scores = MatMul(small_q, small_k)": "large = MatMul(small_q, small_k)\n scores = Abs(large)"},
        "scores are not masked",
        "masked",
    ),
}
MORE = {
    "tiled_by_expand": {
        "int64[1] axis = {2}": "int64[1] axis = {2}, int64[1] first = {1}, int64[5] firsts = {1, 2, 2, 1, 1}"
    },
    "no_cache": {"int64[1] axis = {2}": "int64[1] axis = {2}, int64[4] tiles4 = {1, 2, 1, 1}"},
}


@pytest.mark.parametrize("miss", NEAR_MISSES)
def test_near_misses_decline(miss: str) -> None:
    changes, reason, value = NEAR_MISSES[miss]
    result = apply(NormaliseAttention(), written(SPELLED, changes | MORE.get(miss, {})))
    [decline] = result.declines
    assert not result.modified and (decline.op_type, decline.reason) == ("Softmax", reason) and value in decline.value


@pytest.mark.parametrize(
    ("text", "changes", "reason", "value"),
    [
        (OPERATOR, {"<scale = 0.25>": "<is_causal = 1, scale = 0.25>"}, "is_causal counts from the first key", "y"),
        (OPERATOR, {"(q, all_k, all_v, seen)": "(q, all_k, v, seen)"}, "keys or values are not past and new", "v"),
        (
            OPERATOR,
            {"wide_k = Unsqueeze(present_k, axis)": "twice = Mul(present_k, two)\n wide_k = Unsqueeze(twice, axis)"},
            "keys or values are scaled",
            "2.0",
        ),
        (MERGED, {"q_num_heads = 4": "q_num_heads = 5"}, "heads do not divide an operand", "q: 5"),
        (
            MERGED,
            {
                "y, present_k, present_v =": "y =",
                " y, float[1, 2, T, 8] present_k, float[1, 2, T, 8] present_v)": " y)",
            },
            "attention without a cache",
            "y",
        ),
    ],
)
def test_operators_that_decline(text: str, changes: dict[str, str], reason: str, value: str) -> None:
    [decline] = apply(NormaliseAttention(), written(text, changes)).declines
    assert decline.op_type == "Attention" and decline.reason == reason and value in decline.value
