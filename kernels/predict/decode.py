"""Decoding one token: the decode design on all layers, then the LM head, and what the host adds.

Both designs are steps of one command list: one dispatch by the host a token, one further launch.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from ..decode_layer.design import decode_layer
from ..decode_layer.plan import make_plan
from ..decode_layer.token import Token
from ..gemma3_shapes import Gemma3Shape
from ..lm_head.design import lm_head, plan_lm_head
from ..sim import TimedRun, hardware, time_design
from .costs import kernel_costs
from .launch import DISPATCH_SECONDS, STEP_SECONDS
from .roofline import decode_bytes


@dataclass(frozen=True)
class DecodeStep:
    """A token.

    Attributes:
        layers, head: The designs' launches.
        host: Seconds of dispatch and of the change from one program to the other.
        roofline: Seconds that the bytes which no design can do without take at the DDR read rate.
        needed_bytes: Those bytes.
    """

    layers: TimedRun
    head: TimedRun
    host: float
    roofline: float
    needed_bytes: float

    @property
    def seconds(self) -> float:
        """All of it."""
        return self._launches + self.host

    @property
    def ddr_seconds(self) -> float:
        """What the bytes that the designs really read take; the rest of the launches is exposed latency."""
        return self.roofline * (self.layers.ddr_read + self.head.ddr_read) / self.needed_bytes

    @property
    def _launches(self) -> float:
        assert self.layers.seconds is not None and self.head.seconds is not None
        return self.layers.seconds + self.head.seconds


def decode_step(
    shape: Gemma3Shape, context: int, times: hardware.Times = hardware.TIMES, head_bits: int = 4
) -> DecodeStep:
    """Predicts the token after `context` others."""
    plan = make_plan(shape)
    layers = time_design(decode_layer(plan, Token(context, context + 1)), kernels=kernel_costs(), times=times)
    head = _head(shape, head_bits, times)
    needed = decode_bytes(shape, context, head_bits).total
    roofline = needed / (times.ddr_read * hardware.CLOCK)
    return DecodeStep(layers, head, DISPATCH_SECONDS + STEP_SECONDS, roofline, needed)


@cache
def _head(shape: Gemma3Shape, bits: int, times: hardware.Times) -> TimedRun:
    """The same at every context."""
    return time_design(lm_head(plan_lm_head(shape, bits)), kernels=kernel_costs(), times=times)
