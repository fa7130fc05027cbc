"""The builder's and mobius's graphs with com.microsoft's operators, whole: fused counts, equal numbers, equal tokens.

What onnxruntime's CPU EP computes with the graph as exported is compared with the fused graph there.
"""

from __future__ import annotations

import functools

import numpy as np
import onnx_ir as ir
import pytest
import torch

from onnxruntime_ep_ryzen_npu_gemma.graph_passes import fuse
from onnxruntime_ep_ryzen_npu_gemma.graph_passes.opset import DOMAIN
from tests.exporters import exported_run, fixtures, tiny_model
from tests.graph_passes.contrib import changes_nothing, exported
from tests.graph_passes.models import nodes, session
from tests.models import cached_run

LAYERS, FULL, WINDOW, HEAD_DIM = 8, 5, 16, 64
COUNTS = {"MatMulNBits": 7 * LAYERS + 1, "FlowQKV": LAYERS, "EmbedNBits": 1}
CHUNKS = [40, 1, 19]

# The largest difference of a logit from the exported graph's, allowed and (measured); logits reach 135.
# Float graphs, weights as they are: the order of sums (4e-5), or what a float16 graph rounds between its nodes (0.047).
EXACT, HALF = 2e-4, 0.1
FLOAT = {
    "genai_fp32": EXACT,
    "genai_fp32_separate": EXACT,
    "mobius_cpu": EXACT,
    "genai_fp16": HALF,
    "genai_fp16_dml": HALF,
}
# Int4 graphs: scales in bfloat16 (0.26), with the int8 activations of accuracy_level 4, which ours has not (0.46), or
# with a float embedding of its own, which becomes 4 bits too (3.4).
CODES, LEVEL4, EMBEDDING = 0.5, 1.0, 7.0
INT4 = {
    "genai_int4": LEVEL4,
    "genai_int4_level0": CODES,
    "genai_int4_block128": LEVEL4,
    "genai_int4_asymmetric": EMBEDDING,
    "genai_int4_k_quant_mixed": LEVEL4,
    "genai_int4_separate": LEVEL4,
    "genai_int4_gate_up": LEVEL4,
    "genai_int4_untied": EMBEDDING,
    "genai_int4_prune": LEVEL4,
    "genai_int4_growing": LEVEL4,
}
# Graphs for CUDA, that onnxruntime's CPU EP refuses, the graph for the CPU that stands for each, and the tolerance:
# float16 weights (0.047), another rounding of int4 scales (1.3), bfloat16 weights (0.15).
CUDA = {
    "genai_fp16_cuda": ("genai_fp16", HALF),
    "genai_int4_cuda": ("genai_int4_level0", 3.0),
    "genai_bf16_cuda": ("genai_fp32", 0.4),
}


@functools.cache
def ids() -> np.ndarray:
    return np.random.default_rng(3).integers(0, 512, sum(CHUNKS))


@functools.cache
def before(name: str) -> np.ndarray:
    """Logits of the graph as exported."""
    run = exported_run.session(fixtures.load(name))
    return exported_run.logits(run, ids(), CHUNKS, head_dim=HEAD_DIM, window=WINDOW)


def after(model: ir.Model) -> np.ndarray:
    run = session(model)
    cache, past_len, logits = cached_run.pasts(run, 0), 0, []
    for chunk in np.split(ids(), np.cumsum(CHUNKS)[:-1]):
        part, cache = cached_run.run(run, chunk, cache, past_len)
        logits.append(part)
        past_len += len(chunk)
    return np.concatenate(logits)


@pytest.mark.parametrize("name", FLOAT)
def test_float_graphs_with_their_weights_as_they_are(name: str) -> None:
    model = exported(name)
    report = fuse(model, kv_dtype=ir.DataType.FLOAT, quantize=False)
    assert report.counts == {"FlowQKV": LAYERS} and not report.declines
    found = after(model)
    np.testing.assert_allclose(found, before(name), rtol=0, atol=FLOAT[name])


@pytest.mark.parametrize("name", FLOAT)
def test_float_graphs_are_as_near_to_the_truth_as_exported(name: str) -> None:
    """Transformers in float32, on the weights and the embedding scale that the graph has."""
    changes = {"sliding_window": 1 << 20, "rope_theta": 1e4} if name == "mobius_cpu" else {}
    hf = tiny_model.make_hf_model(fixtures.hf_weights(name), **changes)
    with torch.no_grad():
        truth = hf(torch.tensor(ids()[None])).logits[0].numpy()
    model = exported(name)
    fuse(model, kv_dtype=ir.DataType.FLOAT, quantize=False)
    error, error_before = (np.abs(logits - truth).max() for logits in (after(model), before(name)))
    assert error <= 2 * error_before, (error, error_before)


# A model of random tied weights likes the token before best: greedy among the tokens that have not been.
GREEDY = {"genai_fp32": False, "genai_fp16": False, "mobius_cpu": False, "genai_int4_level0": True}


def best_new(logits: np.ndarray, tokens: list[int]) -> int:
    unseen = logits.copy()
    unseen[tokens] = -np.inf
    return int(unseen.argmax())


@pytest.mark.parametrize("name", GREEDY)
def test_greedy_tokens_are_equal(name: str) -> None:
    model = exported(name)
    fuse(model, kv_dtype=ir.DataType.FLOAT, quantize=GREEDY[name])
    before_run, after_run = exported_run.session(fixtures.load(name)), session(model)
    tokens = [int(token) for token in ids()[:24]]
    cache, past_len = cached_run.pasts(after_run, 0), 0
    for _ in range(16):
        old = exported_run.logits(before_run, np.array(tokens), [len(tokens)], head_dim=HEAD_DIM, window=WINDOW)
        new, cache = cached_run.run(after_run, tokens[past_len:], cache, past_len)
        past_len = len(tokens)
        tokens.append(best_new(old[-1], tokens))
        assert best_new(new[-1], tokens[:-1]) == tokens[-1]


@pytest.mark.parametrize("name", INT4)
def test_int4_graphs(name: str) -> None:
    model = exported(name)
    report = fuse(model, kv_dtype=ir.DataType.FLOAT)
    found = after(model)
    np.testing.assert_allclose(found, before(name), rtol=0, atol=INT4[name])
    assert len(report.requantised) == COUNTS["MatMulNBits"]
    assert all(weights.nmse is not None and weights.nmse < 4e-5 for weights in report.requantised)


@pytest.mark.parametrize("name", CUDA)
def test_graphs_for_cuda(name: str) -> None:
    twin, atol = CUDA[name]
    model = exported(name)
    report = fuse(model, kv_dtype=ir.DataType.FLOAT, quantize=name == "genai_int4_cuda")
    assert report.counts["FlowQKV"] == LAYERS and not report.declines
    found = after(model)
    np.testing.assert_allclose(found, before(twin), rtol=0, atol=atol)


@pytest.mark.parametrize("name", [*FLOAT, *INT4, *CUDA])
def test_counts_windows_bases_and_what_is_left(name: str) -> None:
    model = exported(name)
    report = fuse(model)
    report.expect(LAYERS)
    assert report.counts == COUNTS and not report.declines
    kinds = [(flow.attributes["window"].value, flow.attributes["rope_theta"].value) for flow in nodes(model, "FlowQKV")]
    if name == "mobius_cpu":  # wrong as Gemma3, and taken as it is
        assert kinds == [(0, 1e4)] * LAYERS
    else:
        assert kinds == [(0, 1e6) if layer == FULL else (WINDOW, 1e4) for layer in range(LAYERS)]
    left = {(node.domain, node.op_type) for node in model.graph if node.domain != DOMAIN}
    pruned = {"Gather"} if name == "genai_int4_prune" else set()
    claimed = {"RMSNormalization", "Add", "Gelu", "Mul", "Shape", "Sub", "Equal", "Not"} | pruned
    assert left == {("", op_type) for op_type in claimed}
    assert {domain for domain, _, _ in model.functions} == {DOMAIN}
    assert changes_nothing(Fuse(), model)


class Fuse(ir.passes.InPlacePass):
    """The whole pipeline as one pass."""

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        return ir.passes.PassResult(model, fuse(model).modified)
