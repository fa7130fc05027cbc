"""Small constants are computed, large weights are neither read nor made."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from onnxruntime_ep_ryzen_npu_gemma.graph_passes.fold_constants import FoldConstants
from onnxruntime_ep_ryzen_npu_gemma.graph_passes.opset import DOMAIN
from tests.graph_passes.contrib import changes_nothing, run
from tests.graph_passes.models import written

TEXT = """
<ir_version: 10, opset_import: ["": 23]>
norm (float[1, 128] x) => (float[1, 256] y)
{
    one = Constant <value = float {1.0}> ()
    weight = Add(w, one)
    same = Cast <to = 1> (x)
    scaled = Mul(same, weight)
    turned = Transpose <perm = [1, 0]> (large)
    y = MatMul(scaled, turned)
    unused = Neg(x)
}
"""


def model() -> ir.Model:
    rng = np.random.default_rng(0)
    return written(
        TEXT, w=rng.normal(size=128).astype(np.float32), large=rng.normal(size=(256, 128)).astype(np.float32)
    )


def test_norm_weights_become_numbers_and_what_nothing_reads_goes() -> None:
    one = model()
    x = np.random.default_rng(1).normal(size=(1, 128)).astype(np.float32)
    [before] = run(one, {"x": x})
    w = one.graph.initializers["w"].const_value.numpy()
    assert FoldConstants()(one).modified
    assert [node.op_type for node in one.graph] == ["Mul", "Transpose", "MatMul"]
    [weight] = [value for value in one.graph[0].inputs if value.is_initializer()]
    np.testing.assert_array_equal(weight.const_value.numpy(), w + np.float32(1))
    np.testing.assert_array_equal(run(one, {"x": x})[0], before)
    assert changes_nothing(FoldConstants(), one)


def test_large_weights_are_not_read() -> None:
    one = model()
    large = one.graph.initializers["large"]

    def read() -> ir.TensorProtocol:
        pytest.fail("a large weight is read")

    large.const_value = ir.LazyTensor(read, ir.DataType.FLOAT, ir.Shape([256, 128]), name="large")
    FoldConstants()(one)
    assert "large" in one.graph.initializers


def test_a_fused_graph_is_left_alone() -> None:
    one = model()
    one.graph.append(ir.node("MatMulNBits", [one.graph.inputs[0]], domain=DOMAIN))
    assert changes_nothing(FoldConstants(), one)
