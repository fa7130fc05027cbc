"""The event loop: cores, streams and the runtime sequence on one clock, in function (bytes move) or in time alone.

Deterministic: equal times are served in the order in which they were scheduled.
"""

from __future__ import annotations

import heapq
from collections import deque
from typing import Any

import numpy as np

from . import hardware
from .core_code import CoreCode, Wait
from .ddr import Ddr
from .errors import Deadlock, DesignError
from .explain import explain_deadlock
from .kernel_models import Kernels
from .program import ArrayProgram, Core, Memory, Port, Transfer
from .steady import Steady
from .streams import ShimEnd, StreamRun, TileEnd

ALIGNMENT = 64
POISON = 0xFF  # NaN in bf16 and fp32, -1 in integers: memory that nobody wrote shows


BARRIER = "(barrier)"  # what a core waits for that waits for no FIFO


class RunLock:
    """A lock's value, and who waits for it to change."""

    __slots__ = ("lock", "v", "w")

    def __init__(self, lock: Any) -> None:
        self.lock = lock
        self.v: int = lock.initial
        self.w: list[Any] = []


class CoreRun:
    """A core in motion."""

    def __init__(self, engine: Engine, core: Core, kernels: Kernels) -> None:
        self.core, self.engine = core, engine
        self.busy = 0.0
        self.rounds = 0
        self.waited = {port.name: 0.0 for port in core.ports.values()} | {BARRIER: 0.0}
        self.blocked: Wait | None = None
        self.since = 0.0
        self.done = not core.program
        code = CoreCode(core, kernels, engine, engine.functional)
        function, self.rings, self.counters, self.entries = code.build()
        self.stores = code.stores
        self.uniform = [loop.number not in code.data_dependent for loop in code.counters]
        self.generator = function(self.rings, self.counters, self.entries, self)

    def totals(self) -> list[float]:
        """What a run accumulates."""
        return [self.busy, self.rounds, *self.waited.values()]

    def add(self, more: list[float]) -> None:
        """Accumulates what was skipped."""
        self.busy += more[0]
        self.rounds += int(more[1])
        for name, waited in zip(self.waited, more[2:], strict=True):
            self.waited[name] += waited

    def shift(self, time: float) -> None:
        """Moves everything to a later time."""
        self.since += time

    def wake(self) -> None:
        engine = self.engine
        if self.blocked is not None:
            self.waited[self.blocked.port.name if self.blocked.port else BARRIER] += engine.now - self.since
            self.blocked = None
        pause = next(self.generator, None)
        if pause.__class__ is float:
            engine.at(engine.now + pause, self)
        elif pause is not None:
            self.blocked, self.since = pause, engine.now
        else:
            self.done = True


class SequenceRun:
    """The command processor, one command after the other."""

    def __init__(self, engine: Engine, program: ArrayProgram) -> None:
        self.engine, self.commands, self.position = engine, program.sequence, 0
        self.waiting: Transfer | None = None
        self.finished_at: float | None = None
        self.waited = 0.0
        self.since = 0.0
        self.paid = False  # the time of the command at `position` has passed

    def totals(self) -> list[float]:
        """What a run accumulates."""
        return [self.waited]

    def add(self, more: list[float]) -> None:
        """Accumulates what was skipped."""
        self.waited += more[0]

    def shift(self, time: float) -> None:
        """Moves everything to a later time."""
        self.since += time

    def wake(self) -> None:
        engine, times = self.engine, self.engine.times
        if self.waiting is not None:
            self.waited += engine.now - self.since
            self.waiting = None
        while self.position < len(self.commands):
            kind, *operands = self.commands[self.position]
            if kind == "await" and operands[0] not in engine.finished:
                self.waiting, self.since = operands[0], engine.now
                return
            cost = times.command_cycles(kind)
            if cost and not self.paid:
                self.paid = True
                engine.at(engine.now + cost, self)
                return
            self.paid = False
            self.position += 1
            if kind == "push":
                engine.push(operands[0])
            elif kind == "rtp":
                engine.view(operands[0])[operands[1]] = operands[2]
            elif kind == "lock":
                engine.set_lock(engine.locks[operands[0]], operands[1])
        if self.finished_at is None:
            self.finished_at = engine.now


class Engine:
    """One run of a program."""

    def __init__(
        self,
        program: ArrayProgram,
        kernels: Kernels,
        arguments: list[np.ndarray] | None,
        functional: bool,
        times: hardware.Times = hardware.TIMES,
        fast_forward: bool = False,
    ) -> None:
        self.program, self.functional, self.times = program, functional, times
        self.now = 0.0
        self.heap: list[Any] = []
        self.order = 0
        self.events = 0
        self.ready: deque[Any] = deque()
        self.untimed: set[str] = set()
        self.finished: set[Transfer] = set()
        self.ddr = Ddr(times)
        self.locks = {lock: RunLock(lock) for lock in program.locks}
        self.lock_list = list(self.locks.values())
        self.bytes: dict[Memory, np.ndarray] = {}
        self.arguments = [a.reshape(-1).view(np.uint8) for a in arguments] if arguments is not None else []
        self.streams = [StreamRun(self, stream) for stream in program.streams]
        self.shim_ends = {
            end.channel: (run, end) for run in self.streams for end in run.ends if isinstance(end, ShimEnd)
        }
        self.cores = [CoreRun(self, core, kernels) for core in program.cores]
        self.sequence = SequenceRun(self, program)
        stateful = any(core.stores for core in self.cores)  # numbers in buffers: state that Steady does not see
        self.steady = Steady(self) if fast_forward and not functional and not stateful else None

    # ---- memory

    def memory(self, memory: Memory) -> np.ndarray:
        """Its bytes."""
        if memory not in self.bytes:
            raw = np.full(memory.nbytes + ALIGNMENT, POISON, np.uint8)
            start = -raw.ctypes.data % ALIGNMENT
            data = raw[start : start + memory.nbytes]
            if memory.initial is not None:
                data[:] = np.ascontiguousarray(memory.initial, memory.dtype).reshape(-1).view(np.uint8)
            self.bytes[memory] = data
        return self.bytes[memory]

    def view(self, memory: Memory) -> np.ndarray:
        """Its elements."""
        return self.memory(memory).view(memory.dtype).reshape(memory.shape)

    def views(self, port: Port) -> list[np.ndarray]:
        """The objects of a FIFO's end; without bytes in time mode."""
        return [self.view(memory) for memory in port.memories] if self.functional else []

    # ---- events

    def at(self, time: float, who: Any) -> None:
        """Wakes somebody at a time."""
        self.order += 1
        heapq.heappush(self.heap, (time, self.order, who))

    def push(self, transfer: Transfer) -> None:
        """Puts a transfer on its shim channel's queue."""
        run, end = self.shim_ends[transfer.channel]
        if len(end.queue) >= hardware.QUEUE:
            raise DesignError(
                "task queue overflow",
                where=str(transfer),
                found=f"{len(end.queue) + 1} transfers on {transfer.channel}, the oldest of them {end.queue[0]}",
                limit=f"{hardware.QUEUE} that are not finished (the next is dropped)",
                do="Wait for a task group earlier, or move more with one transfer.",
            )
        for _, other in self.shim_ends.values():
            for task in other.queue:
                if task.channel.place == transfer.channel.place and task.descriptor == transfer.descriptor:
                    raise DesignError(
                        "descriptor overwritten in use",
                        where=str(transfer),
                        found=f"{task} still runs with it",
                        limit=f"descriptor {task.descriptor} of {task.channel.place}",
                        do="Its task group was finished without waiting for it: pass wait=True to what ends last.",
                    )
        end.queue.append(transfer)
        run.advance()

    def set_lock(self, lock: RunLock, value: int) -> None:
        """Writes a lock from the sequence."""
        lock.v = value
        self.ready.extend(lock.w)
        lock.w.clear()

    def run(self) -> None:
        """To the end of the sequence and of every transfer."""
        self.ready.extend([*self.streams, *self.cores, self.sequence])
        heap, ready, ddr, pop, steady = self.heap, self.ready, self.ddr, heapq.heappop, self.steady
        outstanding = len(self.program.transfers)
        while True:
            while ready:
                ready.popleft().wake()
            if self.sequence.finished_at is not None and len(self.finished) == outstanding:
                return
            self.events += 1
            if steady is not None and steady.due:
                steady.look()
            if heap and heap[0][0] <= ddr.next:
                self.now, _, who = pop(heap)
                who.wake()
            elif ddr.next != float("inf"):
                self.now = ddr.next
                stream = ddr.finish()
                stream.complete()
                if steady is not None:
                    if stream is steady.stream:
                        steady.due = True
                        if not stream.shim.queue:
                            steady.choose()
                    elif steady.stream is None:
                        steady.choose()
            else:
                self._stuck()

    def _stuck(self) -> None:
        waits = explain_deadlock(self)
        if self.sequence.finished_at is None:
            raise Deadlock("deadlock: nothing moves and the runtime sequence waits", waits)
        late = [t for t in self.program.transfers if t not in self.finished]
        raise Deadlock(f"the sequence is over, and {len(late)} transfers can never end ({late[0]})", waits)


__all__ = ["Engine", "TileEnd"]
