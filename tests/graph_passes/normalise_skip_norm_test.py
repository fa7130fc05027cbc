"""SkipSimplifiedLayerNormalization becomes Add and RMSNormalization with equal numbers."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from onnxruntime_ep_ryzen_npu_gemma.graph_passes.normalise_skip_norm import NormaliseSkipNorm
from tests.graph_passes.contrib import CONTRIB, apply, changes_nothing, exported, floats, graph, run, weight

SKIP_NORM = "SkipSimplifiedLayerNormalization"


def chain(*, bias: bool = False) -> ir.Model:
    """Two in a row, the second fed by the first one's sum; the last one's sum is not asked for."""
    x, y = floats("x", 1, 3, 8), floats("y", 1, 3, 8)
    rng = np.random.default_rng(0)
    weights = {name: weight(name, rng.standard_normal(8).astype(np.float32)) for name in ("w0", "w1", "b")}
    operands = [x, y, weights["w0"], *([weights["b"]] if bias else [])]
    outputs = [floats("normed", 1, 3, 8), ir.val(""), ir.val(""), floats("sum", 1, 3, 8)]
    first = ir.node(SKIP_NORM, operands, {"epsilon": 1e-6}, domain=CONTRIB, outputs=outputs, name="first")
    last = floats("last", 1, 3, 8)
    second = ir.node(
        SKIP_NORM, [outputs[3], x, weights["w1"]], {"epsilon": 1e-3}, domain=CONTRIB, outputs=[last], name="second"
    )
    return graph([first, second], [x, y], [outputs[0], last], weights)


def test_numbers_are_equal_and_both_outputs_live() -> None:
    feeds = {name: np.random.default_rng(1).standard_normal((1, 3, 8)).astype(np.float32) for name in "xy"}
    before = run(chain(), feeds)
    model = chain()
    assert apply(NormaliseSkipNorm(), model).matches == ["first", "second"]
    assert [node.op_type for node in model.graph] == ["Add", "RMSNormalization"] * 2
    for old, new in zip(before, run(model, feeds), strict=True):
        np.testing.assert_allclose(new, old, rtol=0, atol=1e-6)  # measured 2.4e-7 at values of 3: the order of sums
    assert changes_nothing(NormaliseSkipNorm(), model)


def test_a_function_of_that_name_is_the_operator() -> None:
    """mobius declares one in the model, with outputs that nothing reads."""
    model = exported("mobius_cpu")
    assert any(name == SKIP_NORM for _, name, _ in model.functions)
    result = apply(NormaliseSkipNorm(), model)
    assert len(result.matches) == 16 and not result.declines


def statistic_is_read(model: ir.Model) -> None:
    mean = model.graph.node("first").outputs[1]
    mean.name, mean.type, mean.shape = "mean", ir.TensorType(ir.DataType.FLOAT), ir.Shape([1, 3, 1])
    model.graph.outputs.append(mean)


@pytest.mark.parametrize(
    ("model", "change", "reason", "value"),
    [
        (chain(bias=True), lambda _: None, "it has a bias", "b"),
        (chain(), statistic_is_read, "a statistic of the norm is read", "mean"),
        (chain(), lambda m: m.graph.node("first").replace_input_with(2, None), "an input is missing", "3"),
    ],
    ids=["bias", "statistic", "weight"],
)
def test_near_misses_decline(model: ir.Model, change, reason: str, value: str) -> None:
    change(model)
    result = apply(NormaliseSkipNorm(), model)
    assert result.matches == ["second"]
    [decline] = result.declines
    assert (decline.node, decline.reason, decline.value) == ("first", reason, value)
