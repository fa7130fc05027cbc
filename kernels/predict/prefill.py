"""A prompt on the NPU: the launches of prefill_layer, one command list.

Launches follow one another, so their times add up. A long one is not simulated whole: its time is affine in the number
of equal blocks (512 rows of a projection, keys of an attention pass), so that two short runs give it; tests hold that
against whole runs.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from typing import NamedTuple

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


class Spent(NamedTuple):
    """Seconds of a launch.

    Attributes:
        array: From its first command to its last.
        ddr: That its bytes take at DDR's rates.
        cores: That a core of it is in kernels, on average.
    """

    array: float
    ddr: float
    cores: float


@dataclass(frozen=True)
class Prefill:
    """A prompt.

    Attributes:
        parts: Seconds by kind of launch; "dispatch" is what the host adds.
        ddr: Seconds of all of it that DDR alone takes, whatever else goes on.
        cores: Seconds that the cores are in kernels; both overlap, and neither is in `seconds` beside the parts.
        roofline: Seconds that the multiplications take if all tiles do nothing else.
    """

    parts: dict[str, float]
    ddr: float
    cores: float
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
    ddr = cores = 0.0
    for launch in launches:
        spent = launch_times(launch.plan, times)
        parts[KINDS[type(launch.plan)]] += spent.array
        ddr += spent.ddr
        cores += spent.cores
    parts["dispatch"] = DISPATCH_SECONDS + (len(launches) - 1) * STEP_SECONDS
    roofline = prefill_operations(shape, tokens) / (2 * MACS_PER_CYCLE * hardware.CLOCK)
    return Prefill(parts, ddr, cores, roofline)


def launch_times(plan: Plan, times: hardware.Times) -> Spent:
    """Of the array."""
    match plan:
        case Matmul() | Rows():
            return _by_blocks(plan, times)
        case Attention():
            return _by_passes(plan, times)
        case _:
            return whole_times(plan, times)


@cache
def whole_times(plan: Plan, times: hardware.Times) -> Spent:
    """Of a launch that is simulated as it is."""
    run = time_design(program_of(plan), kernels=kernel_costs(), times=times)
    assert run.seconds is not None
    read, written = run.ddr_read / times.ddr_read, run.ddr_written / times.ddr_write
    ddr = max(read, written, run.ddr_bytes / times.ddr) / hardware.CLOCK
    busy = sum(run.core_busy.values()) / len(run.core_busy) if run.core_busy else 0.0
    return Spent(run.seconds, ddr, busy * run.seconds)


def affine(short: float, long: float, at_short: float, at_long: float, at: float) -> float:
    """The line through two runs."""
    slope = (long - short) / (at_long - at_short)
    return short + slope * (at - at_short)


def _by_blocks(plan: Matmul | Rows, times: hardware.Times) -> Spent:
    if plan.rows <= LONG * BLOCK_M:
        return whole_times(plan, times)
    runs = [whole_times(replace(plan, rows=blocks * BLOCK_M), times) for blocks in (SHORT, LONG)]
    return Spent(*(affine(short, long, SHORT, LONG, plan.rows / BLOCK_M) for short, long in zip(*runs, strict=True)))


def _by_passes(plan: Attention, times: hardware.Times) -> Spent:
    keys = passes_of(plan.flow, plan.span).keys
    if len(keys) <= LONG:
        return whole_times(plan, times)
    total = sum(last - first for first, last in keys)
    return Spent(*(launch + each * len(keys) + key * total for launch, each, key in _pass_costs(plan.flow, times)))


@cache
def _pass_costs(flow: FlowQkv, times: hardware.Times) -> tuple[tuple[float, float, float], ...]:
    """(a launch, a pass, a key of a pass), for all KV heads of the model, of each time of `Spent`."""

    def run(start: int, passes: int) -> tuple[Spent, int]:
        span = Span(start, passes * flow.pass_positions)
        seen = passes_of(flow, span)
        spent = whole_times(Attention(flow, span, seen.rows), times)
        return spent, sum(last - first for first, last in seen.keys)

    (near, seen), (far, _), (longer, seen_longer) = run(NEAR, SHORT), run(FAR, SHORT), run(NEAR, LONG)
    costs = []
    for at_near, at_far, at_longer in zip(near, far, longer, strict=True):
        key = (at_far - at_near) / (SHORT * (FAR - NEAR))
        each = (at_longer - at_near - key * (seen_longer - seen)) / (LONG - SHORT)
        costs.append((at_near - SHORT * each - key * seen, each, key))
    return tuple(costs)
