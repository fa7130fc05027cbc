"""GatherBlockQuantized out of the head's codes reads the head's blocks; others stay as they are, with reason."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx_ir as ir
import pytest

from onnxruntime_ep_ryzen_npu_gemma.graph_passes.fuse_quantized_embedding import FuseQuantizedEmbedding
from onnxruntime_ep_ryzen_npu_gemma.graph_passes.requantise_matmul_nbits import RequantiseMatMulNBits
from tests.graph_passes.contrib import apply, exported, weight
from tests.graph_passes.models import nodes


def requantised(name: str) -> ir.Model:
    model = exported(name)
    RequantiseMatMulNBits()(model)
    return model


@pytest.mark.parametrize(
    ("name", "bits"), [("genai_int4", 4), ("genai_int4_block128", 4), ("genai_int4_k_quant_mixed", 8)]
)
def test_the_embedding_reads_the_heads_blocks(name: str, bits: int) -> None:
    model = requantised(name)
    assert apply(FuseQuantizedEmbedding(), model).matches == ["/model/embed_tokens/GatherBlockQuantized"]
    [embed], head = nodes(model, "EmbedNBits"), nodes(model, "MatMulNBits")[-1]
    assert embed.inputs[0].name == "input_ids" and embed.inputs[1] is head.inputs[1]
    attributes = {key: attr.value for key, attr in embed.attributes.items()}
    assert attributes == {"K": 128, "N": 512, "bits": bits, "scale": pytest.approx(11.31)}
    assert embed.outputs[0].name == "/model/embed_tokens/Mul/output_0"


def test_codes_without_a_reshape() -> None:
    model = requantised("genai_int4")
    [gather] = nodes(model, "GatherBlockQuantized")
    gather.replace_input_with(0, gather.inputs[0].producer().inputs[0])
    assert apply(FuseQuantizedEmbedding(), model).matches


def other_codes(model: ir.Model) -> None:
    [gather] = nodes(model, "GatherBlockQuantized")
    model.graph.register_initializer(weight("other", np.zeros((512, 64), np.uint8)))
    gather.replace_input_with(0, model.graph.initializers["other"])


def other_scales(model: ir.Model) -> None:
    [gather] = nodes(model, "GatherBlockQuantized")
    model.graph.register_initializer(weight("other", np.ones((512, 4), np.float32)))
    gather.replace_input_with(2, model.graph.initializers["other"])


def other_axis(model: ir.Model) -> None:
    nodes(model, "GatherBlockQuantized")[0].attributes.add(ir.AttrInt64("gather_axis", 1))


def ids_are_computed(model: ir.Model) -> None:
    [gather] = nodes(model, "GatherBlockQuantized")
    same = ir.node("Identity", [gather.inputs[1]], name="same")
    model.graph.insert_before(gather, same)
    gather.replace_input_with(1, same.outputs[0])


@pytest.mark.parametrize(
    ("change", "reason", "value"),
    [
        (other_codes, "the codes are not the head's", "other"),
        (other_scales, "it reads the head's codes with other scales", "other"),
        (other_axis, "not a gather of rows", "(1, 1)"),
        (ids_are_computed, "ids are not an int64 input of the model", ""),
    ],
)
def test_near_misses_decline(change: Callable[[ir.Model], None], reason: str, value: str) -> None:
    model = requantised("genai_int4")
    change(model)
    result = apply(FuseQuantizedEmbedding(), model)
    assert not result.modified
    [decline] = result.declines
    assert decline.reason == reason and value in decline.value


def test_a_head_that_was_not_requantised_declines() -> None:
    [decline] = apply(FuseQuantizedEmbedding(), exported("genai_int4")).declines
    assert decline.reason == "the codes are not the head's"
