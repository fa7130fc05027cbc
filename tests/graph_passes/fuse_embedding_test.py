"""The tied embedding reads the head's blocks; other gathers stay as they are, with reason and value."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from onnxruntime_ep_ryzen_npu_gemma.graph_passes import q4nx
from onnxruntime_ep_ryzen_npu_gemma.graph_passes.fuse_embedding import FuseEmbedding
from onnxruntime_ep_ryzen_npu_gemma.graph_passes.fusion_pass import FusionResult
from onnxruntime_ep_ryzen_npu_gemma.graph_passes.quantize_matmul import QuantizeMatMul
from tests.graph_passes.models import exported, nodes


@pytest.fixture
def model(tiny_gguf: Path) -> ir.Model:
    return exported(tiny_gguf, "last")


def fuse(model: ir.Model, head_bits: int = 4) -> FusionResult:
    result = FuseEmbedding(head_bits)(model)
    assert isinstance(result, FusionResult)
    return result


@pytest.mark.parametrize("bits", [4, 8])
def test_the_embedding_reads_the_heads_blocks(model: ir.Model, bits: int) -> None:
    QuantizeMatMul(bits)(model)
    assert fuse(model, bits).matches == ["model.embed_tokens"]
    [embed] = nodes(model, "EmbedNBits")
    head = nodes(model, "MatMulNBits")[-1]
    assert [value.name for value in embed.inputs] == ["input_ids", head.inputs[1].name]
    assert embed.inputs[1] is head.inputs[1]
    attributes = {name: attr.value for name, attr in embed.attributes.items()}
    assert attributes == {"K": 64, "N": 512, "bits": bits, "scale": 8.0}
    assert embed.outputs[0].name == "model.embed_tokens.scaled"


def test_without_a_scale_it_is_one(model: ir.Model) -> None:
    QuantizeMatMul()(model)
    scaled = next(node for node in model.graph if node.name == "model.embed_tokens.scaled")
    ir.convenience.replace_all_uses_with(scaled.outputs[0], scaled.inputs[0])
    model.graph.remove(scaled, safe=True)
    fuse(model)
    assert nodes(model, "EmbedNBits")[0].attributes["scale"].value == 1.0


def test_an_embedding_of_its_own_has_its_own_blocks(model: ir.Model) -> None:
    gather = next(node for node in model.graph if node.name == "model.embed_tokens")
    copy = np.ones((512, 64), np.float32)
    model.graph.register_initializer(ir.val("copy", const_value=ir.Tensor(copy, name="copy")))
    gather.replace_input_with(0, model.graph.initializers["copy"])
    QuantizeMatMul()(model)
    assert fuse(model).matches == ["model.embed_tokens"]
    [embed] = nodes(model, "EmbedNBits")
    assert embed.inputs[1].name == "copy.q4nx" and nodes(model, "MatMulNBits")[-1].inputs[1] is not embed.inputs[1]
    np.testing.assert_array_equal(q4nx.dequantize(embed.inputs[1].const_value.numpy(), 512, 64), copy)


def test_a_table_behind_a_transpose_is_the_heads(model: ir.Model) -> None:
    """As genai's float graphs have it: the head's [H, V] is turned for the Gather."""
    gather = next(node for node in model.graph if node.name == "model.embed_tokens")
    head = model.graph.outputs[0].producer()
    w_HV = np.random.default_rng(0).normal(size=(64, 512)).astype(np.float32)
    model.graph.register_initializer(ir.val("w", const_value=ir.Tensor(w_HV, name="w")))
    turned = ir.node("Transpose", [model.graph.initializers["w"]], {"perm": (1, 0)}, name="turned")
    model.graph.insert_before(gather, turned)
    gather.replace_input_with(0, turned.outputs[0])
    head.replace_input_with(1, model.graph.initializers["w"])
    QuantizeMatMul()(model)
    assert not fuse(model).declines
    [embed] = nodes(model, "EmbedNBits")
    assert embed.inputs[1] is nodes(model, "MatMulNBits")[-1].inputs[1]
    assert (embed.attributes["N"].value, embed.attributes["K"].value) == (512, 64)


def narrow_rows(model: ir.Model) -> None:
    gather = next(node for node in model.graph if node.name == "model.embed_tokens")
    model.graph.register_initializer(ir.val("t", const_value=ir.Tensor(np.ones((512, 48), np.float32), name="t")))
    gather.replace_input_with(0, model.graph.initializers["t"])


def codes(model: ir.Model) -> None:
    gather = next(node for node in model.graph if node.name == "model.embed_tokens")
    model.graph.register_initializer(ir.val("t", const_value=ir.Tensor(np.ones((512, 64), np.int8), name="t")))
    gather.replace_input_with(0, model.graph.initializers["t"])


def ids_are_int32(model: ir.Model) -> None:
    QuantizeMatMul()(model)
    model.graph.inputs[0].dtype = ir.DataType.INT32


def columns(model: ir.Model) -> None:
    QuantizeMatMul()(model)
    next(node for node in model.graph if node.name == "model.embed_tokens").attributes.add(ir.AttrInt64("axis", 1))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (narrow_rows, "the table's width is not a multiple of 32"),
        (codes, "the table is not float"),
        (ids_are_int32, "ids are not an int64 input of the model"),
        (columns, "not a gather of rows"),
    ],
)
def test_near_misses_decline(model: ir.Model, change: Callable[[ir.Model], None], reason: str) -> None:
    change(model)
    result = fuse(model)
    assert not result.modified and [decline.reason for decline in result.declines] == [reason]
