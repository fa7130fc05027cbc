"""Spellings of RMSNorm become the operator and compute the same; near misses stay, with reason and value."""

from __future__ import annotations

import re

import numpy as np
import onnx_ir as ir
import pytest
from onnx_ir.passes import common

from onnxruntime_ep_ryzen_npu_gemma.graph_passes.fusion_pass import FusionResult
from onnxruntime_ep_ryzen_npu_gemma.graph_passes.normalise_rms_norm import NormaliseRmsNorm
from tests.graph_passes.contrib import apply, changes_nothing, run
from tests.graph_passes.models import nodes, written

WIDTH = 8
X = np.random.default_rng(0).normal(size=(1, 5, WIDTH)).astype(np.float32)
W = np.random.default_rng(1).normal(size=WIDTH).astype(np.float32)

SPELLED = """
<ir_version: 10, opset_import: ["": 23, "com.microsoft": 1]>
norm (float[1, S, 8] x, float[8] v) => (float[1, S, 8] y)
<float two = {2.0}, float eps = {0.000001}, float one = {1.0}, float minus_half = {-0.5}, int64[1] axes = {-1}>
{
    square = Pow(x, two)
    mean = ReduceMean(square, axes)
    sum = Add(mean, eps)
    root = Sqrt(sum)
    inverse = Reciprocal(root)
    normed = Mul(x, inverse)
    y = Mul(normed, w)
}
"""

SPELLINGS = {
    "reciprocal": {},
    "one_divided": {"Reciprocal(root)": "Div(one, root)"},
    "divided": {"inverse = Reciprocal(root)\n": "\n", "Mul(x, inverse)": "Div(x, root)"},
    "power": {"root = Sqrt(sum)\n": "\n", "Reciprocal(root)": "Pow(sum, minus_half)"},
    "product": {"Pow(x, two)": "Mul(x, x)"},
    "other_order": {
        "Mul(x, inverse)": "Mul(inverse, x)",
        "Mul(normed, w)": "Mul(w, normed)",
        "(mean, eps)": "(eps, mean)",
    },
}


def spelled(changes: dict[str, str]) -> ir.Model:
    model = written(SPELLED, changes, w=W)
    common.ShapeInferencePass()(model)
    return model


def normalise(model: ir.Model) -> FusionResult:
    result = apply(NormaliseRmsNorm(), model)
    common.RemoveUnusedNodesPass()(model)
    return result


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_a_spelling_becomes_the_operator(spelling: str) -> None:
    model = spelled(SPELLINGS[spelling])
    feeds = {"x": X, "v": W}
    [before] = run(model, feeds)
    result = normalise(model)
    assert len(result.matches) == 1 and not result.declines
    [norm] = nodes(model, "RMSNormalization")
    assert norm.inputs[0].name == "x" and norm.outputs[0].name == "y"
    assert norm.attributes["epsilon"].value == pytest.approx(1e-6)
    [after] = run(model, feeds)
    np.testing.assert_allclose(after, before, rtol=1e-6, atol=0)
    assert [node.op_type for node in model.graph] == ["RMSNormalization"] and changes_nothing(NormaliseRmsNorm(), model)


@pytest.mark.parametrize("domain", ["", "com.microsoft."])
def test_it_has_another_name(domain: str) -> None:
    model = spelled(
        {"y = Mul(normed, w)": f"y = {domain}SimplifiedLayerNormalization <axis = -1, epsilon = 0.01> (x, w)"}
    )
    assert normalise(model).matches and len(nodes(model, "RMSNormalization")) == 1
    expected = X / np.sqrt((X**2).mean(axis=-1, keepdims=True) + 0.01) * W
    np.testing.assert_allclose(run(model, {"x": X, "v": W})[0], expected, rtol=1e-5)


def test_a_norm_of_a_norm() -> None:
    """The second one reads a value that the first one's rewrite replaces."""
    body = SPELLED[SPELLED.index("    square") : SPELLED.rindex("}")]
    again = re.sub(r"\b(square|mean|sum|root|inverse|normed)\b", r"\1_2", re.sub(r"\bx\b", "z", body))
    model = spelled({"y = Mul(normed, w)\n": "z = Mul(normed, w)\n" + again})
    [before] = run(model, {"x": X, "v": W})
    assert len(normalise(model).matches) == 2
    assert [node.op_type for node in model.graph] == ["RMSNormalization"] * 2
    np.testing.assert_allclose(run(model, {"x": X, "v": W})[0], before, rtol=1e-6)


NEAR_MISSES = {
    "no_square": ({"ReduceMean(square, axes)": "ReduceMean(x, axes)"}, "not a mean of squares", "x"),
    "cube": ({"float two = {2.0}": "float two = {3.0}"}, "not a mean of squares", "square"),
    "other_axis": ({"axes = {-1}": "axes = {1}"}, "norm is not over the last axis", "axes [1]"),
    "epsilon_outside": (
        {"sum = Add(mean, eps)\n    root = Sqrt(sum)": "sum = Sqrt(mean)\n    root = Add(sum, eps)"},
        "no epsilon under the root",
        "mean to Sqrt",
    ),
    "no_epsilon": (
        {"sum = Add(mean, eps)\n": "\n", "Sqrt(sum)": "Sqrt(mean)"},
        "no epsilon under the root",
        "mean to Sqrt",
    ),
    "large_epsilon": ({"eps = {0.000001}": "eps = {1.5}"}, "epsilon is not a small constant", "1.5"),
    "no_root": ({"root = Sqrt(sum)": "root = Exp(sum)"}, "no root of the mean of squares", "sum to Exp"),
    "other_power": (
        {"root = Sqrt(sum)\n": "\n", "Reciprocal(root)": "Pow(sum, minus_half)", "{-0.5}": "{-0.25}"},
        "no root of the mean of squares",
        "power -0.25",
    ),
    "two_divided": ({"Reciprocal(root)": "Div(two, root)"}, "x is not divided by the root", "inverse"),
    "times_the_root": (
        {"inverse = Reciprocal(root)\n": "\n", "Mul(x, inverse)": "Mul(x, root)"},
        "x is not divided",
        "to Mul",
    ),
    "of_another_value": ({"Mul(x, inverse)": "Mul(v, inverse)"}, "x is not divided by the root", "normed"),
    "no_weight": ({"y = Mul(normed, w)": "y = Add(normed, w)"}, "norm without a weight", "normed to Add"),
    "computed_weight": ({"y = Mul(normed, w)": "u = Add(w, v)\n y = Mul(normed, u)"}, "norm without a weight", "u"),
}


@pytest.mark.parametrize("miss", NEAR_MISSES)
def test_near_misses_decline(miss: str) -> None:
    changes, reason, value = NEAR_MISSES[miss]
    model = spelled(changes)
    result = apply(NormaliseRmsNorm(), model)
    [decline] = result.declines
    assert not result.modified and decline.op_type == "ReduceMean"
    assert decline.reason.startswith(reason) and value in decline.value


def test_a_read_deviation_declines() -> None:
    model = spelled(
        {"y = Mul(normed, w)": "scaled, deviation = SimplifiedLayerNormalization (x, w)\n y = Mul(scaled, deviation)"}
    )
    declines = {decline.reason: decline.value for decline in normalise(model).declines}
    assert declines["norm's deviation is read"] == "deviation"
