"""What a run tells: how long, how many bytes, how busy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from . import hardware
from .ddr import READ, WRITE
from .program import ArrayProgram


@dataclass(frozen=True)
class TimedRun:
    """A launch.

    Attributes:
        seconds: From the first command of the sequence to the last; without the host's dispatch. None if a kernel of a
            functional run had no cycles.
        ddr_read, ddr_written: Bytes that crossed the shim.
        core_busy: For each core the fraction of the time in kernels.
        core_waits: For each core and FIFO the fraction of the time spent waiting for it.
        stream_busy: For each stream the fraction of the time in which words flowed.
        ddr_busy: Fraction of the time with a DDR transfer in flight.
        events: Of the event loop.
        skipped: Fraction of the time that was skipped as repetition.
    """

    program: ArrayProgram
    seconds: float | None
    cycles: float
    ddr_read: int
    ddr_written: int
    core_busy: dict[tuple[int, int], float]
    core_waits: dict[tuple[int, int], dict[str, float]]
    stream_busy: dict[str, float]
    ddr_busy: float
    events: int
    skipped: float

    @property
    def ddr_bytes(self) -> int:
        """Read and written."""
        return self.ddr_read + self.ddr_written


def result_of(engine: Any) -> TimedRun:
    """Collects a finished engine's figures."""
    cycles = engine.sequence.finished_at
    total = max(cycles, 1.0)
    return TimedRun(
        engine.program,
        None if engine.untimed else cycles / hardware.CLOCK,
        cycles,
        engine.ddr.bytes[READ],
        engine.ddr.bytes[WRITE],
        {tuple(run.core.place): run.busy / total for run in engine.cores},
        {tuple(run.core.place): {k: v / total for k, v in run.waited.items()} for run in engine.cores},
        {run.stream.fifo: run.busy / total for run in engine.streams},
        engine.ddr.busy / total,
        engine.events,
        engine.steady.skipped / total if engine.steady else 0.0,
    )
