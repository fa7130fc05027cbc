"""A prompt on the NPU: the launches of prefill_layer, one command list.

Launches follow one another, so their times add up. A long one is not simulated whole: its time is affine in the number
of equal blocks (512 rows of a projection, keys of an attention pass), so that two short runs give it; tests hold that
against whole runs.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache

from ..dequantize_q4nx.design import Dequantize
from ..flow_attention.passes import FlowQkv, Span, passes_of
from ..gemma3_shapes import Gemma3Shape
from ..kv_handover.design import Handover
from ..matmul_bf16.design import BLOCK_M, Matmul
from ..matmul_nbits.design import Projection
from ..prefill_layer.launches import (
    Attention,
    Plan,
    handover_launch,
    head_launch,
    plan_prompt,
    program_of,
    prompt_launches,
)
from ..prefill_rows.design import Rows
from ..sim import hardware, time_design
from .costs import kernel_costs
from .launch import DISPATCH_SECONDS, STEP_SECONDS
from .roofline import prefill_operations

MACS_PER_CYCLE = 512 * 32  # bfp16, all tiles
SHORT, LONG = 2, 4  # blocks of the two runs, or passes; what is no longer is simulated whole
NEAR, FAR = 2048, 6144  # keys before the passes of the two runs
KINDS: dict[type[Plan], str] = {
    Dequantize: "dequantise",
    Matmul: "projections",
    Attention: "attention",
    Rows: "rows",
    Projection: "head",
    Handover: "handover",
}


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
    """Predicts a prompt of `tokens`, and that decoding may begin."""
    prompt = plan_prompt(shape, tokens)
    launches = [*prompt_launches(prompt), head_launch(prompt), handover_launch(prompt, tokens + 1)]
    parts = dict.fromkeys((*KINDS.values(), "dispatch"), 0.0)
    for launch in launches:
        parts[KINDS[type(launch.plan)]] += launch_seconds(launch.plan, times)
    parts["dispatch"] = DISPATCH_SECONDS + (len(launches) - 1) * STEP_SECONDS
    roofline = prefill_operations(shape, tokens) / (2 * MACS_PER_CYCLE * hardware.CLOCK)
    return Prefill(parts, roofline)


def launch_seconds(plan: Plan, times: hardware.Times) -> float:
    """The array's own time."""
    match plan:
        case Matmul() | Rows():
            return _by_blocks(plan, times)
        case Attention():
            return _by_passes(plan, times)
        case _:
            return whole_seconds(plan, times)


@cache
def whole_seconds(plan: Plan, times: hardware.Times) -> float:
    """Of a launch that is simulated as it is."""
    seconds = time_design(program_of(plan), kernels=kernel_costs(), times=times).seconds
    assert seconds is not None
    return seconds


def affine(short: float, long: float, at_short: float, at_long: float, at: float) -> float:
    """The line through two runs."""
    slope = (long - short) / (at_long - at_short)
    return short + slope * (at - at_short)


def _by_blocks(plan: Matmul | Rows, times: hardware.Times) -> float:
    if plan.rows <= LONG * BLOCK_M:
        return whole_seconds(plan, times)
    short, long = (whole_seconds(replace(plan, rows=blocks * BLOCK_M), times) for blocks in (SHORT, LONG))
    return affine(short, long, SHORT, LONG, plan.rows / BLOCK_M)


def _by_passes(plan: Attention, times: hardware.Times) -> float:
    keys = passes_of(plan.flow, plan.span).keys
    if len(keys) <= LONG:
        return whole_seconds(plan, times)
    launch, each, key = _pass_costs(plan.flow, times)
    return launch + each * len(keys) + key * sum(last - first for first, last in keys)


@cache
def _pass_costs(flow: FlowQkv, times: hardware.Times) -> tuple[float, float, float]:
    """(seconds of a launch, of a pass, of a key of a pass), for all KV heads of the model."""

    def run(start: int, passes: int) -> tuple[float, int]:
        span = Span(start, passes * flow.pass_positions)
        seen = passes_of(flow, span)
        seconds = whole_seconds(Attention(flow, span, seen.rows), times)
        return seconds, sum(last - first for first, last in seen.keys)

    (near, seen), (far, _), (longer, seen_longer) = run(NEAR, SHORT), run(FAR, SHORT), run(NEAR, LONG)
    key = (far - near) / (SHORT * (FAR - NEAR))
    each = (longer - near - key * (seen_longer - seen)) / (LONG - SHORT)
    return near - SHORT * each - key * seen, each, key
