"""Spellings of the tanh GELU become the operator and compute the same; near misses stay, with reason and value."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from onnx_ir.passes import common

from onnxruntime_ep_ryzen_npu_gemma.graph_passes.fusion_pass import FusionResult
from onnxruntime_ep_ryzen_npu_gemma.graph_passes.normalise_gelu import NormaliseGelu
from tests.graph_passes.contrib import apply, changes_nothing, run
from tests.graph_passes.models import nodes, written

X = np.linspace(-9, 9, 300, dtype=np.float32)[None]
Z = np.linspace(-1, 1, 300, dtype=np.float32)[None]

SPELLED = """
<ir_version: 10, opset_import: ["": 23, "com.microsoft": 1]>
gate (float[1, 300] z, float[1, 300] u) => (float[1, 300] y)
<float nine = {9.0}, float c = {0.044715}, float root = {0.7978845608}, float one = {1.0}, float half = {0.5},
 float three = {3.0}>
{
    x = Identity(z)
    square = Mul(x, x)
    cube = Mul(x, square)
    small = Mul(c, cube)
    sum = Add(x, small)
    inner = Mul(root, sum)
    tanh = Tanh(inner)
    plus = Add(one, tanh)
    twice = Mul(x, plus)
    gelu = Mul(half, twice)
    y = Mul(gelu, u)
}
"""

SPELLINGS = {
    "products": {},
    "power": {"square = Mul(x, x)\n": "\n", "Mul(x, square)": "Pow(x, three)"},
    "half_of_x": {"twice = Mul(x, plus)": "h = Mul(x, half)\n", "gelu = Mul(half, twice)": "gelu = Mul(h, plus)"},
    "half_of_the_sum": {"twice = Mul(x, plus)": "h = Mul(half, plus)\n", "gelu = Mul(half, twice)": "gelu = Mul(x, h)"},
    "horner": {
        "cube = Mul(x, square)\n": "\n",
        "Mul(c, cube)": "Mul(c, square)",
        "sum = Add(x, small)": "q = Add(one, small)\n sum = Mul(x, q)",
    },
}


def normalise(model: ir.Model) -> FusionResult:
    result = apply(NormaliseGelu(), model)
    common.RemoveUnusedNodesPass()(model)
    return result


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_a_spelling_becomes_the_operator(spelling: str) -> None:
    model = written(SPELLED, SPELLINGS[spelling])
    [before] = run(model, {"z": X, "u": Z})
    result = normalise(model)
    assert len(result.matches) == 1 and not result.declines
    assert [node.op_type for node in model.graph] == ["Identity", "Gelu", "Mul"]
    assert nodes(model, "Gelu")[0].attributes["approximate"].value == "tanh"
    np.testing.assert_allclose(run(model, {"z": X, "u": Z})[0], before, rtol=0, atol=2e-6)  # measured 5e-7
    assert changes_nothing(NormaliseGelu(), model)


def test_it_has_another_name() -> None:
    model = written(SPELLED, {"gelu = Mul(half, twice)": "gelu = com.microsoft.FastGelu(x)"})
    result = normalise(model)
    assert len(result.matches) == 1 and len(nodes(model, "Gelu")) == 1
    expected = run(written(SPELLED), {"z": X, "u": Z})[0]
    np.testing.assert_allclose(run(model, {"z": X, "u": Z})[0], expected, rtol=0, atol=2e-6)


NEAR_MISSES = {
    "other_constant": ({"{0.044715}": "{0.04}"}, "Tanh", "not a GELU", "away"),
    "other_root": ({"{0.7978845608}": "{0.8}"}, "Tanh", "not a GELU", "away"),
    "no_half": ({"Mul(half, twice)": "Mul(one, twice)"}, "Tanh", "not a GELU", "away"),
    "tanh_alone": ({"plus = Add(one, tanh)": "plus = Softmax(tanh)"}, "Tanh", "not a GELU", "inf away"),
    "two_values": ({"Add(x, small)": "Add(u, small)"}, "Tanh", "not a GELU of one value", "u, x"),
    "exact": ({"gelu = Mul(half, twice)": "gelu = Gelu(x)"}, "Gelu", "exact GELU, not its tanh approximation", "Gelu"),
    "erf": ({"tanh = Tanh(inner)": "tanh = Erf(inner)"}, "Erf", "exact GELU, not its tanh approximation", "Erf"),
    "contrib": ({"gelu = Mul(half, twice)": "gelu = com.microsoft.Gelu(x)"}, "Gelu", "exact GELU", "Gelu"),
    "bias": (
        {"gelu = Mul(half, twice)": "gelu = com.microsoft.FastGelu(x, u)"},
        "FastGelu",
        "FastGelu with a bias",
        "u",
    ),
}


@pytest.mark.parametrize("miss", NEAR_MISSES)
def test_near_misses_decline(miss: str) -> None:
    changes, op_type, reason, value = NEAR_MISSES[miss]
    model = written(SPELLED, changes)
    decline = next(one for one in apply(NormaliseGelu(), model).declines if one.op_type == op_type)
    assert decline.reason.startswith(reason) and value in decline.value
