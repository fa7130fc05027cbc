"""DDR shared by the shim channels: max-min fair rates under a limit for reads, one for writes and one for the sum.

All reads in flight get the same rate, and all writes; so each kind keeps a clock of bytes served to everyone, and a
transfer ends when that clock reaches its goal. A change in the number of transfers only changes the clocks' speed.
"""

from __future__ import annotations

import heapq
from typing import Any

from .hardware import Times

READ, WRITE = 0, 1


class Ddr:
    """Processor sharing. Times are cycles, rates bytes a cycle."""

    def __init__(self, times: Times) -> None:
        self.channel = times.shim
        self.limits = (times.ddr_read, times.ddr_write)
        self.total = times.ddr
        self.served = [0.0, 0.0]  # the clocks
        self.rates = [0.0, 0.0]
        self.goals: tuple[list[Any], list[Any]] = ([], [])
        self.now = 0.0
        self.order = 0
        self.next = float("inf")
        self.bytes = [0, 0]
        self.busy = 0.0  # time with anything in flight

    def totals(self) -> list[float]:
        """What a run accumulates."""
        return [self.bytes[READ], self.bytes[WRITE], self.busy]

    def add(self, more: list[float]) -> None:
        """Accumulates what was skipped."""
        self.bytes[READ] += int(more[0])
        self.bytes[WRITE] += int(more[1])
        self.busy += more[2]

    def shift(self, time: float) -> None:
        """Moves everything to a later time."""
        self.now += time
        self.next += time

    def start(self, now: float, nbytes: float, kind: int, stream: Any) -> None:
        """A transfer that costs DDR so many bytes (more than it moves, if its runs are short)."""
        self._advance(now)
        self.order += 1
        heapq.heappush(self.goals[kind], (self.served[kind] + nbytes, self.order, stream))
        self._share()

    def finish(self) -> Any:
        """The stream whose transfer ends at `next`."""
        kind = READ if self._end(READ) <= self._end(WRITE) else WRITE
        self._advance(self.next)
        goal, _, stream = heapq.heappop(self.goals[kind])
        self.served[kind] = max(self.served[kind], goal)
        if not self.goals[kind]:
            self.served[kind] = 0.0  # keeps the clock's resolution
        self._share()
        return stream

    def _advance(self, now: float) -> None:
        passed = now - self.now
        if passed > 0.0:
            if self.goals[READ] or self.goals[WRITE]:
                self.busy += passed
            self.served[READ] += passed * self.rates[READ]
            self.served[WRITE] += passed * self.rates[WRITE]
        self.now = now

    def _share(self) -> None:
        reads, writes = len(self.goals[READ]), len(self.goals[WRITE])
        read = min(self.channel, self.limits[READ] / reads) if reads else 0.0
        write = min(self.channel, self.limits[WRITE] / writes) if writes else 0.0
        if reads * read + writes * write > self.total:
            fair = self.total / (reads + writes)
            if read <= fair:
                write = (self.total - reads * read) / writes
            elif write <= fair:
                read = (self.total - writes * write) / reads
            else:
                read = write = fair
        self.rates[READ], self.rates[WRITE] = read, write
        self.next = min(self._end(READ), self._end(WRITE))

    def _end(self, kind: int) -> float:
        if not self.goals[kind]:
            return float("inf")
        goal: float = self.goals[kind][0][0]
        return self.now + max(0.0, goal - self.served[kind]) / self.rates[kind]
