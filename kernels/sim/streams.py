"""Streams in motion: words flow while every end has a descriptor that may run, in pieces up to the next boundary."""

from __future__ import annotations

from collections import deque
from typing import Any

from .ddr import READ, WRITE
from .movers import ShimData, TileData
from .program import Channel, Pattern, Stream, Transfer


class TileEnd:
    """A channel of a core or mem tile: its descriptors go round, each between two lock operations."""

    def __init__(self, run: StreamRun, channel: Channel) -> None:
        engine = run.engine
        self.run, self.channel = run, channel
        self.steps = [
            (engine.locks[d.acquire[0]], d.acquire[1], engine.locks[d.release[0]], d.release[1], d.pattern.nbytes)
            for d in channel.descriptors
        ]
        count = len(self.steps)
        self.period = next(n for n in range(1, count + 1) if self.steps == self.steps[:n] * (count // n))
        self.position = 0
        self.left = 0  # bytes of the descriptor that runs
        self.fresh = False
        self.waiting = False
        self.objects = 0
        self.data = TileData(engine, channel) if engine.functional else None

    def begin(self) -> bool:
        """Takes the next descriptor if its lock allows; else waits for the lock."""
        lock, count, _, _, nbytes = self.steps[self.position]
        if lock.v < count:
            if not self.waiting:
                lock.w.append(self)
                self.waiting = True
            return False
        lock.v -= count
        self.left, self.fresh = nbytes, True
        if self.data is not None:
            self.data.begin(self.position)
        return True

    def wake(self) -> None:
        """The lock has changed."""
        self.waiting = False
        self.run.advance()

    def end(self) -> None:
        """The descriptor is through."""
        if self.data is not None:
            self.data.end()
        _, _, lock, count, _ = self.steps[self.position]
        lock.v += count
        if lock.w:
            self.run.engine.ready.extend(lock.w)
            lock.w.clear()
        self.position = (self.position + 1) % len(self.steps)
        self.objects += 1


class ShimEnd:
    """A shim channel: transfers in the order in which the sequence pushed them."""

    def __init__(self, run: StreamRun, channel: Channel) -> None:
        self.run, self.channel = run, channel
        self.queue: deque[Transfer] = deque()
        self.iteration = 0
        self.left = 0
        self.fresh = False
        self.began = 0.0
        self.cost = 1.0  # DDR bytes for a byte moved
        self.data = ShimData(run.engine) if run.engine.functional else None

    def begin(self) -> bool:
        """Takes the next iteration of the oldest transfer, if there is one."""
        if not self.queue:
            return False
        transfer = self.queue[0]
        self.left, self.fresh, self.began = transfer.pattern.nbytes, self.iteration == 0, self.run.engine.now
        self.cost = ddr_cost(transfer.pattern, self.run.engine.times.ddr_burst)
        if self.data is not None:
            self.data.begin(transfer, self.iteration)
        return True

    def end(self) -> None:
        """An iteration is through, perhaps the transfer's last."""
        if self.data is not None:
            self.data.end()
        self.iteration += 1
        if self.iteration == self.queue[0].repeat:
            transfer = self.queue.popleft()
            self.iteration = 0
            engine = self.run.engine
            engine.finished.add(transfer)
            if engine.sequence.waiting is transfer:
                engine.ready.append(engine.sequence)


def ddr_cost(pattern: Pattern, burst: int) -> float:
    """DDR bytes for each byte moved: a run of neighbouring bytes occupies whole bursts."""
    if pattern.runs == 1:
        return 1.0
    return -(-pattern.run // burst) * burst / pattern.run


class StreamRun:
    """A stream: moves the bytes that all its ends can, then looks again."""

    def __init__(self, engine: Any, stream: Stream) -> None:
        self.engine, self.stream = engine, stream
        make = {True: ShimEnd, False: TileEnd}
        self.source: Any = make[stream.source.place.kind == "shim"](self, stream.source)
        self.sinks: list[Any] = [make[sink.place.kind == "shim"](self, sink) for sink in stream.sinks]
        self.ends = [self.source, *self.sinks]
        self.shim = next((end for end in self.ends if isinstance(end, ShimEnd)), None)
        self.kind = READ if self.shim is self.source else WRITE
        self.moving = 0  # bytes in flight
        self.delayed = False  # in the latency before DDR serves it
        self.bytes = 0
        self.busy = 0.0
        self.started = 0.0
        self.idle_since = 0.0
        self.waited_source = 0.0
        self.waited_sink = 0.0
        self.hops = engine.times.hop * stream.hops

    def totals(self) -> list[float]:
        """What a run accumulates."""
        return [self.bytes, self.busy, self.waited_source, self.waited_sink]

    def add(self, more: list[float]) -> None:
        """Accumulates what was skipped."""
        self.bytes += int(more[0])
        self.busy += more[1]
        self.waited_source += more[2]
        self.waited_sink += more[3]

    def shift(self, time: float) -> None:
        """Moves everything to a later time."""
        self.started += time
        self.idle_since += time

    def wake(self) -> None:
        """Something that this stream waited for has happened."""
        if self.delayed and self.shim is not None:
            self.delayed = False
            self.engine.ddr.start(self.engine.now, self.moving * self.shim.cost, self.kind, self)
        elif self.moving:
            self.complete()
        else:
            self.advance()

    def advance(self) -> None:
        """Starts the next piece if every end can."""
        if self.moving:
            return
        ready = True
        nbytes = 1 << 62
        fresh = False
        for end in self.ends:
            if not end.left and not end.begin():
                ready = False
            elif end.left < nbytes:
                nbytes = end.left
            fresh |= end.fresh
        if not ready:
            return
        engine, times = self.engine, self.engine.times
        now = engine.now
        if now > self.idle_since:
            self._blame(now - self.idle_since)
        self.moving, self.started = nbytes, now
        if self.shim is None:
            delay = times.descriptor if fresh else 0.0
            if now > self.idle_since:
                delay += self.hops
            engine.at(now + delay + nbytes / times.stream, self)
        elif self.shim.fresh and now < self.shim.began + times.ddr_latency:
            self.delayed = True
            engine.at(self.shim.began + times.ddr_latency, self)
        else:
            engine.ddr.start(now, nbytes * self.shim.cost, self.kind, self)
        for end in self.ends:
            end.fresh = False

    def _blame(self, waited: float) -> None:
        """Who was late: the end that has just begun."""
        if self.source.fresh:
            self.waited_source += waited
        else:
            self.waited_sink += waited

    def complete(self) -> None:
        """The piece has arrived."""
        nbytes, self.moving = self.moving, 0
        self.busy += self.engine.now - self.started
        self.idle_since = self.engine.now
        self.bytes += nbytes
        if self.shim is not None:
            self.engine.ddr.bytes[self.kind] += nbytes
        if self.source.data is not None:
            piece = self.source.data.take(nbytes)
            for sink in self.sinks:
                sink.data.put(piece)
        for end in self.ends:
            end.left -= nbytes
            if not end.left:
                end.end()
        self.advance()
