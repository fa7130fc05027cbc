"""FlowQKV's design in functional simulation against float64: the head layouts of the models, every mask."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from ml_dtypes import bfloat16

from kernels import bf16, bfp16
from kernels.flow_attention.design import flow_qkv
from kernels.flow_attention.flow_qkv_contract import SCORES
from kernels.flow_attention.passes import (
    HEAD,
    KEYS,
    MOST_IMAGES,
    ROWS,
    Span,
    ddr_bytes,
    padded_tokens,
    passes_of,
    plan_flow_qkv,
)
from kernels.gemma3_shapes import GEMMA3_1B, GEMMA3_4B, GEMMA3_270M, Gemma3Shape
from kernels.predict.costs import kernel_costs
from kernels.sim import hardware, time_design
from tests.kernels.designs.configuration import configuration
from tests.kernels.designs.running import execute, relative_error


def attention(q: Any, k: Any, v: Any, span: Span, ideal: bool = False) -> Any:
    """float64, of q `[tokens, heads, 256]` in powers of two and k, v `[kv_heads, rows, 256]`.

    Ideal: as the NPU's operands are, P and V in bfp16 along eight keys, the result in bf16.
    """
    seen = mask(span)
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


def mask(span: Span) -> Any:
    """`[tokens, length]`: which keys a query sees, as transformers builds it: causal, sliding, or the same image."""
    position, key = span.start + np.arange(span.tokens)[:, None], np.arange(span.length)[None]
    seen = (key <= position) | (not span.causal)
    if span.window:
        seen &= key > position - span.window
    for begin, end in span.images:
        seen |= (position >= begin) & (position < end) & (key >= begin) & (key < end)
    return seen


def along_keys(x: Any) -> Any:
    """`[rows, keys]` in bfp16, the last block filled with zeros."""
    keys = x.shape[1]
    return bfp16.rounded(np.pad(x, ((0, 0), (0, -keys % 8))))[:, :keys]


def run_flow_qkv(shape: Gemma3Shape, span: Span) -> tuple[Any, Any, Any]:
    """(y, float64, in ideal arithmetic)."""
    rng = np.random.default_rng(span.length)
    plan = plan_flow_qkv(shape)
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
    return y[: span.tokens], *(attention(q[: span.tokens], k, v, span, ideal) for ideal in (False, True))


IMAGE = 256
SPANS = {
    "two passes, the second ragged": Span(0, 150),
    "sliding, behind a cache": Span(130, 100, 64),
    "every key": Span(0, 70, causal=False),
    "every key, behind others": Span(60, 200, causal=False),
    "an image across passes": Span(0, 300, images=((20, 20 + IMAGE),)),
    "two adjacent images, sliding": Span(0, 540, 512, images=((20, 20 + IMAGE), (20 + IMAGE, 20 + 2 * IMAGE))),
    "an image that a window would cut": Span(300, 340, 128, images=((330, 330 + IMAGE),)),
    "an image in the cache only": Span(300, 60, images=((20, 20 + IMAGE),)),
    "images before, in and behind the launch's first pass": Span(
        40, 120, 96, images=((0, 30), (37, 60), (64, 65), (70, 130))
    ),
}


@pytest.mark.parametrize("shape", [GEMMA3_270M, GEMMA3_4B], ids=lambda shape: shape.name)
@pytest.mark.parametrize("name", SPANS)
def test_attention_equals_the_reference(shape: Gemma3Shape, name: str) -> None:
    y, truth, ideal = run_flow_qkv(shape, SPANS[name])
    error, allowed = relative_error(y, truth), 2 * relative_error(ideal, truth)
    print(f"relative error {error:.2e}, allowed {allowed:.2e}")
    assert error <= allowed


@pytest.mark.parametrize("shape", [GEMMA3_270M, GEMMA3_4B], ids=lambda shape: shape.name)
@pytest.mark.parametrize("name", SPANS)
def test_a_pass_reads_what_its_rows_see(shape: Gemma3Shape, name: str) -> None:
    """No key that a row sees is missing, and no 64 keys that no row sees are read before or behind them."""
    plan, span = plan_flow_qkv(shape), SPANS[name]
    seen = mask(span)
    passes = passes_of(plan, span)
    for i, (first, last) in enumerate(passes.keys):
        rows = seen[i * plan.pass_positions : (i + 1) * plan.pass_positions]
        keys = np.flatnonzero(rows.any(axis=0))
        padding = plan.pass_positions - len(rows)  # rows behind the span count as if it went on
        assert first <= keys[0] < first + 64
        assert last - 64 - (padding if span.causal else 0) <= keys[-1] < last
    told = [
        (s.first + i * s.first_step, s.first + i * s.first_step + KEYS * (s.tiles + i * s.tiles_step))
        for s in passes.stretches
        for i in range(s.passes)
    ]
    assert tuple(told) == passes.keys


def test_one_configuration_serves_every_length_and_mask() -> None:
    def configured(span: Span) -> Any:
        return configuration(flow_qkv(plan_flow_qkv(GEMMA3_1B), span))

    assert plan_flow_qkv(GEMMA3_1B) == plan_flow_qkv(GEMMA3_270M)
    first = configured(Span(0, 1024))
    assert any("scores_words_0_0[" in line for line in first.cores[0]), "lengths are run-time parameters"
    for span in SPANS.values():
        assert configured(span) == first


@pytest.mark.parametrize(
    ("images", "reason"),
    [
        (((5, 3),), "in order"),
        (((0, 10), (5, 20)), "none in another"),
        (((90, 110),), "needs it whole"),
        (tuple((10 * i, 10 * i + 5) for i in range(MOST_IMAGES + 1)), f"room for {MOST_IMAGES}"),
    ],
)
def test_images_that_do_not_fit_are_refused(images: tuple[tuple[int, int], ...], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        passes_of(plan_flow_qkv(GEMMA3_1B), Span(0, 100, images=images))


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
    assert share > (0.7 if tokens == 1024 else 0.9)  # the rest: run-time words, first fills, ends of passes
