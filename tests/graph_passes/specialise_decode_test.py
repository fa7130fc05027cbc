"""The decode half of a split model: FlowKV, one token, the same weights, the same numbers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from onnxruntime_ep_ryzen_npu_gemma.graph_passes import fuse
from onnxruntime_ep_ryzen_npu_gemma.graph_passes.specialise_decode import SpecialiseDecode
from tests.graph_passes.models import exported, nodes, session
from tests.models import cached_run
from tests.tiny_gemma3 import LAYERS, VOCAB_SIZE, WINDOW


@pytest.fixture(scope="module")
def halves(tiny_gguf: Path) -> tuple[ir.Model, ir.Model]:
    prefill = exported(tiny_gguf, "last")
    fuse(prefill, kv_dtype=ir.DataType.FLOAT)
    return prefill, SpecialiseDecode()(prefill).model


def test_decode_has_flow_kv_and_one_token_over_the_same_tensors(halves: tuple[ir.Model, ir.Model]) -> None:
    prefill, decode = halves
    assert len(nodes(prefill, "FlowQKV")) == LAYERS and not nodes(prefill, "FlowKV")
    assert len(nodes(decode, "FlowKV")) == LAYERS and not nodes(decode, "FlowQKV")
    assert {name for _, name, _ in decode.functions} == {"MatMulNBits", "FlowKV", "EmbedNBits", "Bfloat16"}
    assert next(value for value in decode.graph.inputs if value.name == "input_ids").shape == (1, 1)
    assert "sequence" not in {str(dim) for node in decode.graph for out in node.outputs for dim in out.shape or ()}
    assert prefill.graph.initializers.keys() == decode.graph.initializers.keys()
    for name, value in prefill.graph.initializers.items():
        assert decode.graph.initializers[name].const_value is value.const_value


def test_prefill_then_decode_gives_the_logits_of_one_model(halves: tuple[ir.Model, ir.Model]) -> None:
    prefill, decode = (session(model) for model in halves)
    ids = np.random.default_rng(5).integers(0, VOCAB_SIZE, 3 * WINDOW)
    _, cache = cached_run.run(prefill, ids[:-4], cached_run.pasts(prefill, 0), 0)
    expected_cache = cache
    for past_len in range(len(ids) - 4, len(ids)):
        logits, cache = cached_run.run(decode, ids[past_len : past_len + 1], cache, past_len)
        expected, expected_cache = cached_run.run(prefill, ids[past_len : past_len + 1], expected_cache, past_len)
        np.testing.assert_allclose(logits, expected, rtol=0, atol=1e-4)  # measured 0: one body for both


def test_a_model_without_input_ids_is_an_error() -> None:
    x = ir.val("x", ir.DataType.FLOAT, [1])
    graph = ir.Graph([x], [], nodes=[], opset_imports={"": 23}, name="g")
    with pytest.raises(Exception, match="no input_ids of two axes"):
        SpecialiseDecode()(ir.Model(graph, ir_version=10))
