"""Fast forward in time mode: when the array's state comes back, the rounds until something runs out are skipped.

The state is what decides the future: where each core's program stands, locks, descriptors, bytes in flight, how far the
next events are away. What only counts down (rounds of loops, bytes left of a shim transfer) is kept apart. If the state
returns twice after the same time, with the same counts taken off, every further period is the same until a count runs
out. So as many periods as all counts allow, less one, pass at once.

Where in a FIFO an object lies is no part of the state: no time depends on it. Of a channel's descriptors, which are
alike but for the locks that they alternate between, only the turn counts.

A count that was refilled within the period, or on which a duration depends, must be back where it was: else the next
period would be another.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from .streams import ShimEnd

DIGITS = 6  # of a cycle, to which times must agree
LONGEST = 4096  # samples in a search; then a pause of as many
LEAST = 3  # periods worth a jump


class Sample(NamedTuple):
    """A moment: its time, what counts down, and what is accumulated for the report."""

    time: float
    counts: list[int]
    entries: list[int]
    totals: list[float]


class Steady:
    """Watches one run. `stream` is the shim stream after whose pieces the state is looked at."""

    def __init__(self, engine: Any) -> None:
        self.engine = engine
        self.shims = [end for run in engine.streams for end in run.ends if isinstance(end, ShimEnd)]
        self.stream: Any = None
        self.due = False
        self.skipped = 0.0  # cycles
        self.jumps = 0
        self.seen: set[Any] = set()
        self.samples: dict[Any, list[Sample]] = {}
        self.left = LONGEST
        self.pause = 0
        self.frames = [core.generator.gi_frame for core in engine.cores]
        self.fixed = [uniform for core in engine.cores for uniform in core.uniform]

    def look(self) -> None:
        """At a piece of `stream`: jump if the state is one that came before."""
        self.due = False
        if self.pause:
            self.pause -= 1
            return
        engine = self.engine
        rough = (
            tuple([lock.v for lock in engine.lock_list]),
            tuple([core.generator.gi_frame and core.generator.gi_frame.f_lasti for core in engine.cores]),
        )
        self.left -= 1
        if not self.left:
            self._restart()
            self.pause = LONGEST
            return
        if rough not in self.seen:
            self.seen.add(rough)
            return
        state = (rough, *self._state())
        before = self.samples.setdefault(state, [])
        before.append(self._sample())
        if len(before) >= 3:
            self._try(*before[-3:])
            del before[0]

    def choose(self) -> None:
        """Takes the shim stream that will be busy longest."""
        busy = [end for end in self.shims if end.queue]
        self.stream = max(busy, key=lambda end: end.queue[0].nbytes).run if busy else None
        self._restart()

    def _restart(self) -> None:
        self.seen.clear()
        self.samples.clear()
        self.left = LONGEST

    def _state(self) -> tuple[Any, ...]:
        engine, now = self.engine, self.engine.now
        cores = tuple([(core.blocked is None, core.done) for core in engine.cores])
        streams = tuple(
            [
                (
                    run.moving,
                    run.delayed,
                    *[(e.position % e.period, e.left) for e in run.ends if not isinstance(e, ShimEnd)],
                )
                for run in engine.streams
            ]
        )
        shims = tuple([(end.queue[0].number if end.queue else -1, len(end.queue), end.fresh) for end in self.shims])
        events = tuple([(round(time - now, DIGITS), id(who)) for time, _, who in sorted(engine.heap, key=_by_time)])
        ddr = tuple(
            [
                (round(goal - served, DIGITS), id(run))
                for goals, served in zip(engine.ddr.goals, engine.ddr.served, strict=True)
                for goal, _, run in sorted(goals, key=_by_time)
            ]
        )
        sequence = (engine.sequence.position, engine.sequence.waiting is None, engine.sequence.paid)
        return cores, streams, shims, events, ddr, sequence

    def _sample(self) -> Sample:
        engine = self.engine
        counts = [count for core in engine.cores for count in core.counters]
        entries = [count for core in engine.cores for count in core.entries]
        for end in self.shims:
            counts += [end.left, end.queue[0].repeat - end.iteration if end.queue else 0]
            entries += [end.iteration, 0]
        return Sample(engine.now, counts, entries, [t for source in self._sources() for t in source.totals()])

    def _sources(self) -> list[Any]:
        engine = self.engine
        return [*engine.cores, *engine.streams, engine.ddr, engine.sequence]

    def _try(self, first: Sample, second: Sample, third: Sample) -> None:
        period = third.time - second.time
        taken = [a - b for a, b in zip(second.counts, third.counts, strict=True)]
        if abs(second.time - first.time - period) > 10.0**-DIGITS or taken != [
            a - b for a, b in zip(first.counts, second.counts, strict=True)
        ]:
            return
        fixed = [*self.fixed, *[True] * (2 * len(self.shims))]
        for count, uniform, before, after in zip(taken, fixed, second.entries, third.entries, strict=True):
            if count < 0 or (count and (not uniform or before != after)):
                return
        periods = min((now // count for now, count in zip(third.counts, taken, strict=True) if count), default=1) - 1
        if periods < LEAST:
            return
        self._jump(periods, period, taken, [b - a for a, b in zip(second.totals, third.totals, strict=True)])

    def _jump(self, periods: int, period: float, taken: list[int], grown: list[float]) -> None:
        engine = self.engine
        shift = periods * period
        gone = iter(taken)
        for core in engine.cores:
            for i in range(len(core.counters)):
                core.counters[i] -= periods * next(gone)
        for end in self.shims:
            end.left -= periods * next(gone)
            end.iteration += periods * next(gone)
        more = iter(grown)
        for source in self._sources():
            source.add([periods * next(more) for _ in source.totals()])
            source.shift(shift)
        engine.now += shift
        engine.heap[:] = [(time + shift, order, who) for time, order, who in engine.heap]
        for end in self.shims:
            end.began += shift
        self.skipped += shift
        self.jumps += 1
        self._restart()


def _by_time(entry: Any) -> tuple[float, int]:
    return entry[0], entry[1]
