"""Half-precision graphs become float32 graphs over the same stored weights."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import onnx_ir as ir
import pytest

from onnxruntime_ep_ryzen_npu_gemma.graph_passes import fuse
from onnxruntime_ep_ryzen_npu_gemma.graph_passes.lazy_weights import Widened
from onnxruntime_ep_ryzen_npu_gemma.graph_passes.normalise_precision import NormalisePrecision
from tests.graph_passes.contrib import changes_nothing, exported, floats, graph, run, weight

HALVES = {ir.DataType.FLOAT16: np.float16, ir.DataType.BFLOAT16: ml_dtypes.bfloat16}


def half_product(dtype: ir.DataType) -> ir.Model:
    """Cast to half, MatMul and a constant in half, Cast back to a named output."""
    x, y = floats("x", 1, 4, 8), floats("y", 1, 4, 4)
    rng = np.random.default_rng(0)
    weights = {"w": weight("w", rng.standard_normal((8, 4)).astype(HALVES[dtype]))}
    narrow = ir.node("Cast", [x], {"to": dtype}, name="narrow")
    product = ir.node("MatMul", [narrow.outputs[0], weights["w"]], name="product")
    two = ir.node("Constant", [], {"value": ir.tensor(np.array(2, HALVES[dtype]))}, name="two")
    double = ir.node("Mul", [product.outputs[0], two.outputs[0]], name="double")
    wide = ir.node("Cast", [double.outputs[0]], {"to": ir.DataType.FLOAT}, outputs=[y], name="wide")
    for node in (narrow, product, two, double):
        node.outputs[0].type = ir.TensorType(dtype)
    return graph([narrow, product, two, double, wide], [x], [y], weights)


@pytest.mark.parametrize("dtype", HALVES, ids=str)
def test_computes_in_float32_with_the_stored_weights(dtype: ir.DataType) -> None:
    model = half_product(dtype)
    stored = model.graph.initializers["w"].const_value
    assert NormalisePrecision()(model).modified
    assert [node.op_type for node in model.graph] == ["MatMul", "Constant", "Mul"]
    wide = model.graph.initializers["w"].const_value
    assert isinstance(wide, Widened) and wide.narrow is stored
    x = np.random.default_rng(1).standard_normal((1, 4, 8)).astype(np.float32)
    [found] = run(model, {"x": x})
    assert [value.name for value in model.graph.outputs] == ["y"]
    np.testing.assert_allclose(found, 2 * (x @ stored.numpy().astype(np.float32)), rtol=0, atol=1e-5)
    assert changes_nothing(NormalisePrecision(), model)


@pytest.mark.parametrize("name", ["genai_fp16", "genai_bf16_cuda", "genai_int4_cuda"])
def test_no_half_is_left_in_an_exported_graph(name: str) -> None:
    model = exported(name)
    assert NormalisePrecision()(model).modified
    values = [*model.graph.inputs, *model.graph.outputs, *model.graph.initializers.values()]
    values += [value for node in model.graph for value in node.outputs]
    assert {value.dtype for value in values} & set(HALVES) == set()
    casts = [node for node in model.graph if node.op_type == "Cast"]
    assert {node.attributes["to"].value for node in casts} == {ir.DataType.INT32}  # the lengths


def test_nothing_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Widened, "_widen", lambda self: pytest.fail(f"{self.name} was read"))
    NormalisePrecision()(exported("genai_fp16"))


def test_a_fused_graph_keeps_its_half_precision_cache() -> None:
    model = exported("own")
    fuse(model)
    assert changes_nothing(NormalisePrecision(), model)
    assert next(v for v in model.graph.inputs if "key" in str(v.name)).dtype == ir.DataType.FLOAT16
