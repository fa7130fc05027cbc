"""DDR shared by the shim channels: max-min fair rates under a limit for reads, one for writes and one for the sum.

All reads in flight get the same rate, and all writes; so each kind keeps a clock of bytes served to everyone, and a
transfer ends when that clock reaches its goal. A change in the number of transfers only changes the clocks' speed.
"""

from __future__ import annotations

import heapq
from typing import Any

from .hardware import Times

READ, WRITE = 0, 1
NEVER = float("inf")


class Ddr:
    """Processor sharing. Times are cycles, rates bytes a cycle."""

    def __init__(self, times: Times) -> None:
        self.channel = times.shim
        self.limits = (times.ddr_read, times.ddr_write)
        self.total = times.ddr
        self.served = [0.0, 0.0]  # the clocks
        self.rates = (0.0, 0.0)
        self.goals: tuple[list[Any], list[Any]] = ([], [])
        self.now = 0.0
        self.order = 0
        self.next = NEVER
        self.bytes = [0, 0]
        self.busy = 0.0  # time with anything in flight
        self.shares: dict[tuple[int, int], tuple[float, float]] = {}

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
            read, write = self.rates
            self.served[READ] += passed * read
            self.served[WRITE] += passed * write
        self.now = now

    def _share(self) -> None:
        in_flight = len(self.goals[READ]), len(self.goals[WRITE])
        if in_flight not in self.shares:
            self.shares[in_flight] = self._rates(*in_flight)
        self.rates = self.shares[in_flight]
        read, write = self._end(READ), self._end(WRITE)
        self.next = read if read <= write else write

    def _rates(self, reads: int, writes: int) -> tuple[float, float]:
        """Of each read and each write, when so many are in flight."""
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
        return read, write

    def _end(self, kind: int) -> float:
        goals = self.goals[kind]
        if not goals:
            return NEVER
        left: float = goals[0][0] - self.served[kind]
        return self.now + left / self.rates[kind] if left > 0.0 else self.now
