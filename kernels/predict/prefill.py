"""A prompt on the NPU: layer by layer over all its tokens, each weight dequantised once.

A layer is a list of launches in one command list: dequantise, norm, qkv, QK-norm and RoPE, FlowQKV, o, residual and
norm, gate and up, GeGLU, down, residual and norm. Launches follow one another, so their times add up. A long one is not
simulated whole: its time is affine in the number of equal blocks (512 rows of a projection, keys of an attention
pass), so that two short runs give it; tests hold that against whole runs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

from ..dequantize_q4nx.design import dequantize, plan_dequantize
from ..flow_attention.design import Span, flow_qkv, passes_of, plan_flow_qkv
from ..gemma3_shapes import Gemma3Shape
from ..lm_head.design import lm_head, plan_lm_head
from ..matmul_bf16.design import BLOCK_M, matmul, plan_matmul
from ..prefill_rows.design import FIRST_STEP, STEPS, plan_rows, rows
from ..sim import hardware, time_design
from .costs import kernel_costs
from .launch import DISPATCH_SECONDS, STEP_SECONDS
from .roofline import prefill_operations

MACS_PER_CYCLE = 512 * 32  # bfp16, all tiles
SHORT, LONG = 2, 4  # blocks of the two runs
NEAR, FAR = 2048, 6144  # keys before the passes of the two runs


@dataclass(frozen=True)
class Prefill:
    """A prompt.

    Attributes:
        parts: Seconds by kind of launch; "dispatch" is what the host adds.
        roofline: Seconds that the multiplications take if all tiles do nothing else.
    """

    parts: dict[str, float]
    roofline: float

    @property
    def seconds(self) -> float:
        """To the first token."""
        return sum(self.parts.values())


def prefill(shape: Gemma3Shape, tokens: int, times: hardware.Times = hardware.TIMES) -> Prefill:
    """Predicts a prompt of `tokens`."""
    blocks = -(-tokens // BLOCK_M)
    projections = (
        (shape.hidden, shape.qkv),
        (shape.attention, shape.hidden),
        (shape.hidden, shape.inter),
        (shape.hidden, shape.inter),
        (shape.inter, shape.hidden),
    )
    parts = dict.fromkeys(("dequantise", "projections", "attention", "rows", "head", "dispatch"), 0.0)
    for inner, columns in projections:
        parts["dequantise"] += shape.layers * _dequantise(inner, columns, times)
        parts["projections"] += shape.layers * _projection(inner, columns, blocks, times)
    for layer in range(shape.layers):
        window = 0 if shape.is_global(layer) else shape.window
        parts["attention"] += _attention(shape, tokens, window, times)
    parts["rows"] = shape.layers * sum(_rows(shape, step, blocks, times) for step in STEPS)
    parts["rows"] += _rows(shape, FIRST_STEP, blocks, times)
    parts["head"] = _seconds(lambda: lm_head(plan_lm_head(shape)), times)
    launches = shape.layers * (2 * len(projections) + 1 + len(STEPS)) + 2
    parts["dispatch"] = DISPATCH_SECONDS + launches * STEP_SECONDS
    roofline = prefill_operations(shape, tokens) / (2 * MACS_PER_CYCLE * hardware.CLOCK)
    return Prefill(parts, roofline)


def affine(short: float, long: float, at_short: float, at_long: float, at: float) -> float:
    """The line through two runs; a prompt of fewer blocks than the short run follows it down."""
    slope = (long - short) / (at_long - at_short)
    return short + slope * (at - at_short)


def _seconds(design: Callable[[], Any], times: hardware.Times) -> float:
    seconds = time_design(design(), kernels=kernel_costs(), times=times).seconds
    assert seconds is not None
    return seconds


@cache
def _dequantise(inner: int, columns: int, times: hardware.Times) -> float:
    return _seconds(lambda: dequantize(plan_dequantize(plan_matmul(BLOCK_M, inner, columns))), times)


@cache
def _projection_blocks(inner: int, columns: int, blocks: int, times: hardware.Times) -> float:
    return _seconds(lambda: matmul(plan_matmul(blocks * BLOCK_M, inner, columns)), times)


def _projection(inner: int, columns: int, blocks: int, times: hardware.Times) -> float:
    if blocks <= LONG:
        return _projection_blocks(inner, columns, blocks, times)
    short, long = (_projection_blocks(inner, columns, count, times) for count in (SHORT, LONG))
    return affine(short, long, SHORT, LONG, blocks)


@cache
def _rows_blocks(shape: Gemma3Shape, step: str, blocks: int, times: hardware.Times) -> float:
    return _seconds(lambda: rows(plan_rows(shape, step, blocks * BLOCK_M)), times)


def _rows(shape: Gemma3Shape, step: str, blocks: int, times: hardware.Times) -> float:
    if blocks <= LONG:
        return _rows_blocks(shape, step, blocks, times)
    short, long = (_rows_blocks(shape, step, count, times) for count in (SHORT, LONG))
    return affine(short, long, SHORT, LONG, blocks)


@cache
def _pass_costs(shape: Gemma3Shape, times: hardware.Times) -> tuple[float, float, float]:
    """(seconds of a launch, of a pass, of a key of a pass), for all KV heads of the model."""
    plan = plan_flow_qkv(shape)

    def run(start: int, passes: int) -> float:
        span = Span(start, passes * plan.pass_positions)
        return _seconds(lambda: flow_qkv(plan, span, passes_of(plan, span).rows), times)

    near, far, longer = run(NEAR, SHORT), run(FAR, SHORT), run(NEAR, LONG)
    key = (far - near) / (SHORT * (FAR - NEAR))
    seen = [sum(last - first for first, last in passes_of(plan, Span(NEAR, n * plan.pass_positions)).keys)
            for n in (SHORT, LONG)]  # fmt: skip
    each = (longer - near - key * (seen[1] - seen[0])) / (LONG - SHORT)
    return near - SHORT * each - key * seen[0], each, key


def _attention(shape: Gemma3Shape, tokens: int, window: int, times: hardware.Times) -> float:
    launch, each, key = _pass_costs(shape, times)
    keys = passes_of(plan_flow_qkv(shape), Span(0, tokens, window)).keys
    return launch + each * len(keys) + key * sum(last - first for first, last in keys)
