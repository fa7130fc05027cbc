"""The whole pipeline on the tiny export: counts, equal logits on the same weights, a second run, what is left."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest

from onnxruntime_ep_ryzen_npu_gemma.graph_passes import FusionError, fuse
from onnxruntime_ep_ryzen_npu_gemma.graph_passes.opset import DOMAIN, FORMAT_KEY
from onnxruntime_ep_ryzen_npu_gemma.sources import open_source
from tests.graph_passes.models import dequantized, exported, nodes, session
from tests.models import cached_run
from tests.tiny_gemma3 import LAYERS, MAX_POSITIONS, VOCAB_SIZE, WINDOW

TOKENS = 5 * WINDOW + 3
COUNTS = {"MatMulNBits": 7 * LAYERS + 1, "FlowQKV": LAYERS, "EmbedNBits": 1}

# Against the standard graph on the dequantised weights, whose logits reach 79.
ATOL_F32 = 1e-4  # measured 2.3e-5: the order of sums
ATOL_F16 = 0.02  # measured 4.4e-3: the cache in float16

CHUNKS = {"whole": [TOKENS], "tokens": [1] * TOKENS, "chunks": [WINDOW + 1, 1, 40, TOKENS - WINDOW - 42]}


@pytest.fixture(scope="module")
def ids() -> np.ndarray:
    return np.random.default_rng(3).integers(0, VOCAB_SIZE, TOKENS)


@pytest.fixture(
    scope="module", params=[(ir.DataType.FLOAT, 4), (ir.DataType.FLOAT16, 4), (ir.DataType.FLOAT, 8)], ids=str
)
def fused(request: pytest.FixtureRequest, tiny_gguf: Path) -> tuple[ort.InferenceSession, ir.DataType, int]:
    kv_dtype, head_bits = request.param
    model = exported(tiny_gguf)
    report = fuse(model, kv_dtype=kv_dtype, head_bits=head_bits)
    report.expect(LAYERS)
    return session(model), kv_dtype, head_bits


@pytest.fixture(scope="module")
def truth(tiny_gguf: Path, ids: np.ndarray) -> dict[int, np.ndarray]:
    """Logits of the standard graph by bits of the head."""
    made = {bits: session(dequantized(tiny_gguf, bits)) for bits in (4, 8)}
    return {bits: cached_run.run(one, ids, cached_run.pasts(one, 0), 0)[0] for bits, one in made.items()}


@pytest.mark.parametrize("rows", [0, MAX_POSITIONS], ids=["growing", "shared"])
@pytest.mark.parametrize("chunks", CHUNKS)
def test_logits_equal_the_standard_graph(
    fused: tuple[ort.InferenceSession, ir.DataType, int],
    truth: dict[int, np.ndarray],
    ids: np.ndarray,
    chunks: str,
    rows: int,
) -> None:
    run, kv_dtype, head_bits = fused
    cache, past_len, logits = cached_run.pasts(run, rows), 0, []
    for chunk in np.split(ids, np.cumsum(CHUNKS[chunks])[:-1]):
        part, cache = cached_run.run(run, chunk, cache, past_len)
        logits.append(part)
        past_len += len(chunk)
    assert np.abs(truth[head_bits]).max() > 30
    atol = ATOL_F32 if kv_dtype == ir.DataType.FLOAT else ATOL_F16
    np.testing.assert_allclose(np.concatenate(logits), truth[head_bits], rtol=0, atol=atol)


def test_rings_of_the_window_in_place_equal_the_standard_graph(
    fused: tuple[ort.InferenceSession, ir.DataType, int], truth: dict[int, np.ndarray], ids: np.ndarray
) -> None:
    """genai's way: sliding layers keep their window only, and past and present are one buffer."""
    run, kv_dtype, head_bits = fused
    full = {f"past_key_values.5.{kind}" for kind in ("key", "value")}
    small, large = cached_run.pasts(run, WINDOW), cached_run.pasts(run, MAX_POSITIONS)
    cache = {name: ort.OrtValue.ortvalue_from_numpy((large if name in full else small)[name]) for name in small}
    past_len, logits = 0, []
    for chunk in np.split(ids, np.cumsum(CHUNKS["chunks"])[:-1]):
        logits.append(cached_run.run_in_place(run, chunk, cache, past_len))
        past_len += len(chunk)
    atol = ATOL_F32 if kv_dtype == ir.DataType.FLOAT else ATOL_F16
    np.testing.assert_allclose(np.concatenate(logits), truth[head_bits], rtol=0, atol=atol)


def test_a_graph_of_one_token_runs_flow_kv(tiny_gguf: Path, truth: dict[int, np.ndarray], ids: np.ndarray) -> None:
    model = exported(tiny_gguf, "last")
    model.graph.inputs[0].shape = ir.Shape([1, 1])
    report = fuse(model, kv_dtype=ir.DataType.FLOAT)
    report.expect(LAYERS)
    assert report.counts["FlowKV"] == LAYERS and "FlowQKV" not in report.counts
    run = session(model)
    cache = cached_run.pasts(run, 0)
    for past_len, token in enumerate(ids[: 2 * WINDOW]):
        logits, cache = cached_run.run(run, [token], cache, past_len)
        np.testing.assert_allclose(logits[0], truth[4][past_len], rtol=0, atol=ATOL_F32)


def test_counts_and_what_is_left(tiny_gguf: Path) -> None:
    model = exported(tiny_gguf, "last")
    report = fuse(model)
    assert report.modified and report.counts == COUNTS and not report.declines
    left = {node.op_type for node in model.graph if node.domain != DOMAIN}
    assert left == {"RMSNormalization", "Add", "Gelu", "Mul", "Gather", "Shape", "Sub", "Equal", "Not"}
    large = {name for name, value in model.graph.initializers.items() if value.const_value.nbytes > 4096}
    assert large and all(name.endswith(".q4nx") for name in large)
    assert {name for _, name, _ in model.functions} == {"MatMulNBits", "FlowQKV", "EmbedNBits", "Bfloat16"}
    assert model.metadata_props[FORMAT_KEY] == "1"
    onnx.checker.check_model(ir.to_proto(model), full_check=True)


def test_a_second_run_changes_nothing(tiny_gguf: Path) -> None:
    model = exported(tiny_gguf)
    fuse(model)
    before = ir.to_proto(model).SerializeToString(deterministic=True)
    report = fuse(model)
    assert not report.modified and report.counts == COUNTS
    assert ir.to_proto(model).SerializeToString(deterministic=True) == before


def test_a_saved_model_fuses_no_further(tiny_gguf: Path, tmp_path: Path) -> None:
    model = exported(tiny_gguf)
    fuse(model)
    ir.save(model, tmp_path / "model.onnx", external_data="model.onnx.data")
    again = ir.load(tmp_path / "model.onnx")
    report = fuse(again)
    assert not report.modified and report.counts == COUNTS and not report.declines


def test_fusing_reads_no_weights(tiny_gguf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = open_source(tiny_gguf)
    model = exported(tiny_gguf)
    reads: list[str] = []
    monkeypatch.setattr(type(source), "tensor", lambda self, name: reads.append(name))
    fuse(model).expect(LAYERS)
    assert not reads


def test_a_model_that_did_not_fuse_says_what_is_missing_and_why(tiny_gguf: Path) -> None:
    model = exported(tiny_gguf)
    nodes(model, "Attention")[2].attributes.add(ir.AttrFloat32("softcap", 50.0))
    report = fuse(model)
    with pytest.raises(FusionError) as error:
        report.expect(LAYERS)
    assert str(error.value).splitlines() == [
        "the model did not fuse:",
        f"  FlowQKV | FlowKV: {LAYERS - 1} nodes, expected {LAYERS}",
        "  FuseAttention: Attention 'model.layers.2.self_attn': softcap is not 0: 50.0",
    ]
    with pytest.raises(FusionError, match=f"MatMulNBits: {7 * LAYERS + 1} nodes, expected {7 * LAYERS + 8}"):
        report.expect(LAYERS + 1)


def test_a_model_with_nothing_to_fuse_is_not_touched() -> None:
    x, y = ir.val("x", ir.DataType.FLOAT, [1]), ir.val("y", ir.DataType.FLOAT, [1])
    graph = ir.Graph([x], [y], nodes=[ir.node("Abs", [x], outputs=[y])], opset_imports={"": 23}, name="g")
    model = ir.Model(graph, ir_version=10)
    report = fuse(model)
    assert not report.modified and not report.counts and not model.functions and not model.metadata_props
    assert DOMAIN not in model.graph.opset_imports
