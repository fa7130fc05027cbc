"""FlowQKV's design in functional simulation against float64: the head layouts of the models, every mask."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from ml_dtypes import bfloat16

from kernels import bf16, bfp16
from kernels.flow_attention.design import (
    HEAD,
    KEYS,
    ROWS,
    Span,
    ddr_bytes,
    flow_qkv,
    padded_tokens,
    passes_of,
    plan_flow_qkv,
)
from kernels.flow_attention.flow_qkv_contract import SCORES
from kernels.gemma3_shapes import GEMMA3_1B, GEMMA3_4B, GEMMA3_270M, Gemma3Shape
from kernels.predict.costs import kernel_costs
from kernels.sim import hardware, time_design
from tests.kernels.designs.running import execute, relative_error


def attention(q: Any, k: Any, v: Any, span: Span, causal: bool, ideal: bool = False) -> Any:
    """float64, of q `[tokens, heads, 256]` in powers of two and k, v `[kv_heads, rows, 256]`.

    Ideal: as the NPU's operands are, P and V in bfp16 along eight keys, the result in bf16.
    """
    position = span.start + np.arange(span.tokens)
    key = np.arange(span.length)
    seen = np.ones((span.tokens, span.length), bool)
    if causal:
        seen &= key <= position[:, None]
    if span.window:
        seen &= key > position[:, None] - span.window
    group = q.shape[1] // len(k)
    y = np.empty(q.shape)
    for head in range(q.shape[1]):
        score = q[:, head].astype(np.float64) @ k[head // group, : span.length].astype(np.float64).T
        weight = np.where(seen, np.exp2(score - np.trunc(score.max(axis=1, keepdims=True))), 0.0)
        value = v[head // group, : span.length].astype(np.float64)
        if ideal:
            weight, value = along_keys(bf16.rounded(weight)), along_keys(value.T).T
        y[:, head] = weight @ value / weight.sum(axis=1, keepdims=True)
    return bf16.rounded(y) if ideal else y


def along_keys(x: Any) -> Any:
    """`[rows, keys]` in bfp16, the last block filled with zeros."""
    keys = x.shape[1]
    return bfp16.rounded(np.pad(x, ((0, 0), (0, -keys % 8))))[:, :keys]


def run_flow_qkv(shape: Gemma3Shape, span: Span, causal: bool = True) -> tuple[Any, Any, Any]:
    """(y, float64, in ideal arithmetic)."""
    rng = np.random.default_rng(span.length)
    plan = plan_flow_qkv(shape, causal)
    capacity = passes_of(plan, span).rows
    q = np.zeros((padded_tokens(plan, span), shape.heads, HEAD), bfloat16)
    q[: span.tokens] = 0.25 * rng.standard_normal((span.tokens, shape.heads, HEAD))
    k, v = (np.zeros((shape.kv_heads, capacity, HEAD), bfloat16) for _ in range(2))
    k[:, : span.length] = rng.standard_normal((shape.kv_heads, span.length, HEAD))
    v[:, : span.length] = rng.standard_normal((shape.kv_heads, span.length, HEAD))
    y = np.full(q.shape, np.nan, bfloat16)
    result = execute(flow_qkv(plan, span, capacity), q, k, v, y)
    assert not y[span.tokens :].astype(np.float32).any(), "padding is not zero"
    assert result.ddr_bytes == ddr_bytes(plan, span)
    return y[: span.tokens], *(attention(q[: span.tokens], k, v, span, causal, ideal) for ideal in (False, True))


@pytest.mark.parametrize(
    ("shape", "span", "causal"),
    [
        pytest.param(GEMMA3_270M, Span(0, 150), True, id="270m, two passes, the second ragged"),
        pytest.param(GEMMA3_270M, Span(130, 100, 64), True, id="270m, sliding, behind a cache"),
        pytest.param(GEMMA3_4B, Span(0, 64), True, id="4b"),
        pytest.param(GEMMA3_4B, Span(0, 70), False, id="4b, every key"),
    ],
)
def test_attention_equals_the_reference(shape: Gemma3Shape, span: Span, causal: bool) -> None:
    y, truth, ideal = run_flow_qkv(shape, span, causal)
    error, allowed = relative_error(y, truth), 2 * relative_error(ideal, truth)
    print(f"relative error {error:.2e}, allowed {allowed:.2e}")
    assert error <= allowed


@pytest.mark.parametrize("shape", [GEMMA3_1B, GEMMA3_4B], ids=lambda shape: shape.name)
@pytest.mark.parametrize("tokens", [1024, 8192])
@pytest.mark.parametrize("sliding", [True, False], ids=["sliding", "global"])
def test_the_scores_cores_are_the_limit(shape: Gemma3Shape, tokens: int, sliding: bool) -> None:
    plan, span = plan_flow_qkv(shape), Span(0, tokens, shape.window if sliding else 0)
    timed = time_design(flow_qkv(plan, span), kernels=kernel_costs())
    assert timed.seconds is not None
    assert timed.ddr_bytes == ddr_bytes(plan, span)
    tiles = plan.kv_heads * sum(last - first for first, last in passes_of(plan, span).keys) // KEYS
    bound = tiles * SCORES.cycles(rows=ROWS, keys=KEYS) * hardware.TIMES.bundles_per_slot / hardware.CLOCK
    share, rate = bound / timed.seconds, timed.ddr_bytes / timed.seconds / 1e9
    print(f"{1e6 * timed.seconds:.0f} us, {share:.0%} of it scores; {rate:.1f} GB/s")
    assert share > (0.75 if tokens == 1024 else 0.9)  # the rest: first fills, ends of passes
