"""The exported graph on onnxruntime's CPU provider against transformers in float32, on the same random weights."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest
import torch
from transformers import Gemma3ForCausalLM

from onnxruntime_ep_ryzen_npu_gemma.models.gemma3_text import export
from onnxruntime_ep_ryzen_npu_gemma.sources import open_source
from tests.tiny_gemma3 import LAYERS, VOCAB_SIZE, WINDOW

TOKENS = 5 * WINDOW + 3  # the window bites in every sliding layer, and no length is a multiple of it

# Measured: max error 1.6e-5 at logits up to 79, chunked or not; a wrong window, RoPE base or factor moves them by 4.
ATOL = 1e-4


@pytest.fixture(scope="module")
def ids() -> np.ndarray:
    return np.random.default_rng(3).integers(0, VOCAB_SIZE, (1, TOKENS))


@pytest.fixture(scope="module")
def truth(tiny_hf_model: Gemma3ForCausalLM, ids: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        return tiny_hf_model(torch.from_numpy(ids)).logits.numpy()


@pytest.fixture(scope="module")
def model_path(tiny_hf_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("export") / "model.onnx"
    ir.save(export(open_source(tiny_hf_folder), "all"), path, external_data="model.onnx.data")
    return path


def run(session: ort.InferenceSession, ids: np.ndarray, past: dict[str, np.ndarray] | None) -> dict[str, np.ndarray]:
    """One call; `past` are the outputs of the call before."""
    feeds: dict[str, Any] = {"input_ids": ids}
    past_len = 0
    for value in session.get_inputs()[2:]:
        _, heads, _, head_dim = value.shape
        empty = np.zeros((1, heads, 0, head_dim), np.float32)
        feeds[value.name] = past[value.name.replace("past_key_values", "present")] if past else empty
        past_len = feeds[value.name].shape[2]
    feeds["attention_mask"] = np.ones((1, past_len + ids.shape[1]), np.int64)
    names = [value.name for value in session.get_outputs()]
    return dict(zip(names, session.run(names, feeds), strict=True))


def test_logits_equal_transformers(model_path: Path, ids: np.ndarray, truth: np.ndarray) -> None:
    session = ort.InferenceSession(model_path, providers=["CPUExecutionProvider"])
    logits = run(session, ids, None)["logits"]
    assert np.abs(truth).max() > 50
    np.testing.assert_allclose(logits, truth, rtol=0, atol=ATOL)


@pytest.mark.parametrize("chunks", [[1] * TOKENS, [WINDOW + 1, 1, TOKENS - WINDOW - 2], [TOKENS - 1, 1]], ids=str)
def test_chunks_with_a_cache_equal_the_whole(
    model_path: Path, ids: np.ndarray, truth: np.ndarray, chunks: list[int]
) -> None:
    session = ort.InferenceSession(model_path, providers=["CPUExecutionProvider"])
    past, parts = None, []
    for chunk in np.split(ids, np.cumsum(chunks)[:-1], axis=1):
        past = run(session, chunk, past)
        parts.append(past["logits"])
    np.testing.assert_allclose(np.concatenate(parts, 1), truth, rtol=0, atol=ATOL)


def test_last_logits_are_those_of_the_last_position(tiny_gguf: Path, ids: np.ndarray, truth: np.ndarray) -> None:
    proto = ir.to_proto(export(open_source(tiny_gguf), "last"))
    session = ort.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    assert session.get_outputs()[0].shape == [1, 1, VOCAB_SIZE]
    np.testing.assert_allclose(run(session, ids, None)["logits"], truth[:, -1:], rtol=0, atol=ATOL)


def test_graph_is_standard_and_lists_every_block(model_path: Path) -> None:
    onnx.checker.check_model(model_path, full_check=True)
    model = onnx.load(model_path, load_external_data=False)
    assert [(o.domain, o.version) for o in model.opset_import] == [("", 23)]
    assert model.ir_version == 10
    ops = Counter(node.op_type for node in model.graph.node)
    per_layer = {"MatMul": 7, "RMSNormalization": 6, "RotaryEmbedding": 2, "Attention": 1, "Gelu": 1, "Add": 2}
    once = {"MatMul": 1, "RMSNormalization": 1, "Add": 1}
    assert {op: ops[op] for op in per_layer} == {op: n * LAYERS + once.get(op, 0) for op, n in per_layer.items()}
    assert "model.layers.7.self_attn.q_proj" in {node.name for node in model.graph.node}


def test_weights_are_read_only_when_written(tiny_hf_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = open_source(tiny_hf_folder)
    reads: list[str] = []
    read = source.tensor
    monkeypatch.setattr(source, "tensor", lambda name: reads.append(name) or read(name))
    model = export(source)
    assert reads == []
    model.graph.initializers["model.norm.weight"].const_value.numpy()
    assert reads == ["model.norm.weight"]
