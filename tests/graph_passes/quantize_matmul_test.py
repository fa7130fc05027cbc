"""Projections become MatMulNBits, lazily; other products stay as they are, with reason and value."""

from __future__ import annotations

from pathlib import Path

import ml_dtypes
import numpy as np
import onnx_ir as ir
import pytest

from onnxruntime_ep_ryzen_npu_gemma.graph_passes import q4nx
from onnxruntime_ep_ryzen_npu_gemma.graph_passes.fusion_pass import FusionResult
from onnxruntime_ep_ryzen_npu_gemma.graph_passes.quantize_matmul import QuantizedWeights, QuantizeMatMul
from tests.graph_passes.models import exported, nodes
from tests.tiny_gemma3 import LAYERS


def product(w: np.ndarray, *, transposed: bool = True, weight_is_input: bool = False) -> ir.Model:
    """Y = A w, w [K, N]; or [N, K] behind a Transpose."""
    weight = ir.val("w", const_value=ir.tensor(w, name="w"))
    K, N = w.shape if transposed else w.shape[::-1]
    a, y = ir.val("A", ir.DataType.FLOAT, [1, "S", K]), ir.val("Y", ir.DataType.FLOAT, [1, "S", N])
    inner = ir.val("inner", ir.DataType.FLOAT, [1, "S", N])
    made = []
    right = weight
    if not transposed:
        made.append(ir.node("Transpose", [weight], {"perm": [1, 0]}, name="t"))
        right = made[0].outputs[0]
    made.append(ir.node("MatMul", [a, right], outputs=[inner], name="proj"))
    made.append(ir.node("Identity", [inner], outputs=[y], name="end"))
    inputs = [a, weight] if weight_is_input else [a]
    graph = ir.Graph(inputs, [y], nodes=made, initializers=[weight], opset_imports={"": 23}, name="g")
    return ir.Model(graph, ir_version=10)


def quantize(model: ir.Model, head_bits: int = 4) -> FusionResult:
    result = QuantizeMatMul(head_bits)(model)
    assert isinstance(result, FusionResult)
    return result


def blocks_of(node: ir.Node) -> np.ndarray:
    assert node.inputs[1] is not None and isinstance(node.inputs[1].const_value, QuantizedWeights)
    assert node.inputs[1].dtype == ir.DataType.UINT8
    blocks = node.inputs[1].const_value.numpy()
    assert list(blocks.shape) == list(node.inputs[1].shape)
    return blocks


@pytest.mark.parametrize("transposed", [True, False])
@pytest.mark.parametrize("dtype", [np.float32, np.float16, ml_dtypes.bfloat16])
def test_the_blocks_are_those_of_the_weights(dtype: type, transposed: bool) -> None:
    w_NK = np.random.default_rng(0).standard_normal((40, 96)).astype(dtype)
    model = product(w_NK.T.copy() if transposed else w_NK, transposed=transposed)
    assert quantize(model).matches == ["proj"]
    [node] = nodes(model, "MatMulNBits")
    assert {name: attr.value for name, attr in node.attributes.items()} == {
        "K": 96,
        "N": 40,
        "bits": 4,
        "block_size": 32,
    }
    assert np.array_equal(blocks_of(node), q4nx.quantize_rtn(w_NK.astype(np.float32)))


def test_every_projection_of_the_export(tiny_gguf: Path) -> None:
    model = exported(tiny_gguf)
    result = quantize(model)
    assert len(result.matches) == 7 * LAYERS + 1 and not result.declines
    assert not nodes(model, "MatMul")
    names = {node.inputs[1].name for node in nodes(model, "MatMulNBits")}
    assert "model.layers.3.self_attn.q_proj.weight.q4nx" in names and "model.embed_tokens.weight.q4nx" in names
    assert len(names) == 7 * LAYERS + 1


def test_the_head_may_have_eight_bits(tiny_gguf: Path) -> None:
    model = exported(tiny_gguf)
    quantize(model, head_bits=8)
    *layers, head = nodes(model, "MatMulNBits")
    assert {node.attributes["bits"].value for node in layers} == {4}
    assert head.attributes["bits"].value == 8
    assert blocks_of(head).shape == (512 // 32, 8704)
    assert head.inputs[1].name == "model.embed_tokens.weight.q8"
    with pytest.raises(ValueError, match="head_bits is 5"):
        QuantizeMatMul(5)


def test_nothing_is_read_before_it_is_asked_for() -> None:
    reads: list[str] = []

    def read() -> ir.TensorProtocol:
        reads.append("w")
        return ir.tensor(np.ones((64, 32), np.float32))

    model = product(np.ones((64, 32), np.float32))
    model.graph.initializers["w"].const_value = ir.LazyTensor(read, ir.DataType.FLOAT, ir.Shape([64, 32]), name="w")
    quantize(model)
    [node] = nodes(model, "MatMulNBits")
    assert not reads
    blocks_of(node), blocks_of(node)
    assert reads == ["w", "w"]  # and nothing is kept


def test_weights_that_two_products_share_are_shared_after() -> None:
    model = product(np.ones((64, 32), np.float32))
    first = model.graph.node("proj")
    model.graph.insert_after(first, ir.node("MatMul", first.inputs, name="again"))
    assert quantize(model).matches == ["proj", "again"]
    one, two = nodes(model, "MatMulNBits")
    assert one.inputs[1] is two.inputs[1]


def test_weights_used_both_ways_make_two_sets_of_blocks() -> None:
    w = np.random.default_rng(1).standard_normal((64, 64)).astype(np.float32)
    model = product(w, transposed=False)
    first = model.graph.node("proj")
    model.graph.insert_after(first, ir.node("MatMul", [first.inputs[0], model.graph.initializers["w"]], name="again"))
    assert len(quantize(model).matches) == 2
    one, two = nodes(model, "MatMulNBits")
    assert np.array_equal(blocks_of(one), q4nx.quantize_rtn(w))
    assert np.array_equal(blocks_of(two), q4nx.quantize_rtn(w.T))


def test_weights_that_cannot_be_quantised_name_their_tensor() -> None:
    model = product(np.full((32, 32), np.nan, np.float32))
    quantize(model)
    with pytest.raises(ValueError, match=r"^w: q4nx: .*w\[0, 0\] is nan"):
        blocks_of(nodes(model, "MatMulNBits")[0])


def computed(model: ir.Model) -> ir.Model:
    proj = model.graph.node("proj")
    double = ir.node("Add", [proj.inputs[1], proj.inputs[1]], name="double")
    model.graph.insert_before(proj, double)
    proj.replace_input_with(1, double.outputs[0])
    return model


def half_activations(model: ir.Model) -> ir.Model:
    model.graph.inputs[0].dtype = ir.DataType.FLOAT16
    return model


@pytest.mark.parametrize(
    ("model", "reason", "value"),
    [
        (product(np.ones((40, 64), np.float32)), "K is not a multiple of 32", "40"),
        (product(np.ones((64, 64), np.float32), weight_is_input=True), "weights are a graph input", "w"),
        (computed(product(np.ones((64, 64), np.float32))), "weights are computed", "val"),
        (product(np.ones((64, 64), np.int32)), "weights are not float", "INT32"),
        (half_activations(product(np.ones((64, 64), np.float32))), "activations are not float32", "A"),
    ],
    ids=lambda x: x.replace(" ", "_") if isinstance(x, str) else "",
)
def test_near_misses_decline(model: ir.Model, reason: str, value: str) -> None:
    result = quantize(model)
    assert not result.modified and not nodes(model, "MatMulNBits")
    [decline] = result.declines
    assert (decline.pass_name, decline.op_type, decline.node) == ("QuantizeMatMul", "MatMul", "proj")
    assert decline.reason == reason and value in decline.value


def test_weights_of_three_axes_decline() -> None:
    model = product(np.ones((32, 32), np.float32))
    model.graph.initializers["w"].const_value = ir.tensor(np.ones((2, 32, 32), np.float32), name="w")
    assert [(d.reason, d.value) for d in quantize(model).declines] == [("weights are not a matrix", "[2,32,32]")]
