"""A core's recorded program as a Python generator, the form in which it runs fast.

The generator yields a float to let that many cycles pass, or a wait record when a lock is too low; it is resumed when
the lock has changed. Loop rounds that remain are in the list `C`, so that a jump over identical rounds can lower them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from types import CodeType
from typing import Any, NamedTuple

import numpy as np

from .errors import DesignError
from .kernel_models import Kernels, model_of
from .program import Core, Port
from .relevance import looked_at


class Wait(NamedTuple):
    """Why a core stands still."""

    lock: Any  # the engine's
    objects: int  # or the barrier's value
    port: Port | None  # None: a barrier


class CoreCode:
    """Writes the generator of one core."""

    def __init__(self, core: Core, kernels: Kernels, engine: Any, functional: bool) -> None:
        self.core, self.kernels, self.engine, self.functional = core, kernels, engine, functional
        self.times = engine.times
        self.lines: list[str] = []
        self.names: dict[str, Any] = {"E": engine.ready, "fixed": _fixed_cycles}
        self.known: dict[int, str] = {}
        self.kept: list[Any] = []  # keeps ids of `known` from being reused
        self.counters: list[Any] = []  # loops, by their place in C
        self.rings: list[Any] = []  # FIFO ends, by their place in S
        self.elements: dict[Any, str] = {}  # acquire operation → the local that has its first object's position
        self.kernel_written: set[Any] = set()
        self.stores = False  # the core itself writes numbers that it may read again
        self.data_dependent: set[int] = set()  # loops whose counter decides how long something takes

    def build(self) -> tuple[Callable[..., Iterator[Any]], list[int], list[int], list[int]]:
        """(generator function of the lists and `me`; S ring positions; C rounds left, R entries of each loop)."""
        self._find_kernel_written(self.core.program)
        self._emit(0, "def core(S, C, R, me):")
        self._emit(1, "t = 0.0")
        depth = 1
        if self.core.forever:
            self._emit(1, "while True:")
            depth = 2
        self._block(self.core.program, depth)
        if self.core.forever:
            self._emit(2, "if t: yield t; t = 0.0" if self.core.program else "return")
            self._emit(2, "me.rounds += 1")
        self._emit(1, "if t: yield t")
        self._emit(1, "yield None") if not self.core.program else None
        exec(_compiled("\n".join(self.lines)), self.names)
        loops = len(self.counters)
        return self.names["core"], [0] * len(self.rings), [0] * loops, [0] * loops

    def _emit(self, depth: int, text: str) -> None:
        self.lines.append("    " * depth + text)

    def _name(self, thing: Any, prefix: str) -> str:
        if id(thing) not in self.known:
            self.known[id(thing)] = f"{prefix}{len(self.known)}"
            self.names[self.known[id(thing)]] = thing
            self.kept.append(thing)
        return self.known[id(thing)]

    def _find_kernel_written(self, program: list[Any]) -> None:
        for op in program:
            for part in ("body", "then", "orelse"):
                self._find_kernel_written(getattr(op, part, []))
            if type(op).__name__ == "Call":
                self.kernel_written |= {a for a in op.arguments if a in self.core.buffers}

    # ---- operations

    def _block(self, program: list[Any], depth: int) -> None:
        if not program:
            self._emit(depth, "pass")
        for op in program:
            getattr(self, f"_{type(op).__name__.lower()}")(op, depth)

    def _loop(self, op: Any, d: int) -> None:
        self.counters.append(op)
        c, i = f"C[{len(self.counters) - 1}]", op.number
        start, stop, step = (self._value(bound, timing=True) for bound in (op.start, op.stop, op.step))
        self._emit(
            d, f"b{i} = {start}; s{i} = {step}; n{i} = len(range(b{i}, {stop}, s{i})); {c} = n{i}; R{c[1:]} += 1"
        )
        self._emit(d, f"while {c} > 0:")
        self._emit(d + 1, f"i{i} = b{i} + (n{i} - {c}) * s{i}")
        self._block(op.body, d + 1)
        self._emit(d + 1, f"t += {self.times.loop}")
        self._emit(d + 1, f"{c} -= 1")

    def _if(self, op: Any, d: int) -> None:
        self._emit(d, f"if {self._value(op.condition, timing=True)}:")
        self._block(op.then, d + 1)
        self._emit(d, "else:")
        self._block(op.orelse, d + 1)

    def _acquire(self, op: Any, d: int) -> None:
        port = self.core.ports[op.handle]
        if (count := self.core.acquires[op]) > 0:
            self._take(d, port.acquire_lock, count, port)
        name = f"p{len(self.elements)}"
        self.elements[op] = name
        self._emit(d, f"{name} = S[{self._ring(op.handle)}]")

    def _take(self, d: int, lock: Any, count: int, port: Port | None, equal: bool = False) -> None:
        engine_lock = self.engine.locks[lock]
        name = self._name(engine_lock, "L")
        wait = self._name(Wait(engine_lock, count, port), "W")
        self._emit(d, f"t += {self.times.lock}")
        self._emit(d, f"if {name}.v {'!=' if equal else '<'} {count}:")
        self._emit(d + 1, "if t: yield t; t = 0.0")
        self._emit(d + 1, f"while {name}.v {'!=' if equal else '<'} {count}:")
        self._emit(d + 2, f"{name}.w.append(me); yield {wait}")
        self._emit(d, f"{name}.v -= {count}")

    def _release(self, op: Any, d: int) -> None:
        port = self.core.ports[op.handle]
        ring = self._ring(op.handle)
        self._give(d, port.release_lock, op.count)
        self._emit(d, f"S[{ring}] = (S[{ring}] + {op.count}) % {port.depth}")

    def _give(self, d: int, lock: Any, count: int) -> None:
        name = self._name(self.engine.locks[lock], "L")
        self._emit(d, "if t: yield t; t = 0.0")
        self._emit(d, f"{name}.v += {count}")
        self._emit(d, f"if {name}.w: E.extend({name}.w); {name}.w.clear()")
        self._emit(d, f"t += {self.times.lock}")

    def _barrierwait(self, op: Any, d: int) -> None:
        self._take(d, self._barrier(op), op.value, None, equal=True)

    def _barrierrelease(self, op: Any, d: int) -> None:
        self._give(d, self._barrier(op), op.value)

    def _barrier(self, op: Any) -> Any:
        if op.barrier not in self.core.barriers:
            raise DesignError(
                "barrier not given to its worker",
                where=self.core.name,
                found="a barrier in the core function",
                do="Pass the WorkerRuntimeBarrier in fn_args.",
            )
        return self.core.barriers[op.barrier]

    def _call(self, op: Any, d: int) -> None:
        model = model_of(self.kernels, op.kernel._name)
        scalars = [a for a in op.arguments if type(a).__name__ == "Value"]
        if self.functional:
            if model.run is None:
                raise DesignError(
                    "kernel without code",
                    where=f"{self.core.name}, kernel {op.kernel._name}",
                    found="run=None",
                    do="Pass KernelModel(run=…), or use time_design.",
                )
            arguments = ", ".join(
                self._value(a) if type(a).__name__ == "Value" else self._array(a) for a in op.arguments
            )
            self._emit(d, f"{self._name(model.run, 'K')}({arguments})")
        if model.cycles is None:
            if not self.functional:
                raise DesignError(
                    "kernel without cycles",
                    where=f"{self.core.name}, kernel {op.kernel._name}",
                    found="cycles=None",
                    do="Pass KernelModel(cycles=…).",
                )
            self.engine.untimed.add(op.kernel._name)
            cost = "1.0"
        elif callable(model.cycles):
            if all(a.kind == "const" for a in scalars):
                cost = repr(float(model.cycles(*(a.operands[0] for a in scalars))))
            else:
                matters = looked_at(model.cycles, len(scalars))
                given = ", ".join(
                    self._value(a, timing=True) if used else "0" for a, used in zip(scalars, matters, strict=True)
                )
                cost = f"fixed({self._name(model.cycles, 'Y')}, {given})"
        else:
            cost = repr(float(model.cycles))
        self._emit(
            d, f"t += {self.times.bundles_per_slot} * {cost} + {self.times.call}; me.busy += t; yield t; t = 0.0"
        )

    def _store(self, op: Any, d: int) -> None:
        indices = ", ".join(self._value(i) for i in op.indices)
        self.stores |= op.target in self.core.buffers
        if self.functional or op.target in self.core.buffers:
            self._emit(d, f"{self._array(op.target)}[{indices}] = {self._value(op.number)}")
        self._emit(d, f"t += {self.times.scalar_access}")

    # ---- operands

    def _ring(self, handle: Any) -> int:
        if handle not in self.rings:
            self.rings.append(handle)
        return self.rings.index(handle)

    def _array(self, target: Any) -> str:
        if target in self.core.buffers:
            return self._name(self.engine.view(self.core.buffers[target]), "A")
        if type(target).__name__ != "Element":
            raise DesignError(
                "buffer not given to its worker",
                where=self.core.name,
                found=f"buffer {target._label} in the core function",
                do="Pass the Buffer in fn_args.",
            )
        port = self.core.ports[target.handle]
        views = self._name(self.engine.views(port), "V")
        first = self.elements[target.acquire]
        return f"{views}[({first} + {target.index}) % {port.depth}]"

    def _value(self, value: Any, timing: bool = False) -> str:
        match value.kind:
            case "const":
                return repr(value.operands[0])
            case "counter":
                if timing:
                    self.data_dependent.add(value.operands[0].number)
                return f"i{value.operands[0].number}"
            case "cast":
                return self._value(value.operands[0], timing)
            case "binary":
                a, b = (self._value(x, timing) for x in value.operands[1:])
                return f"({a} {value.operands[0]} {b})"
        target, indices = value.operands
        if not self.functional and (target not in self.core.buffers or target in self.kernel_written):
            if not timing:
                return "0"
            raise DesignError(
                "time depends on data",
                where=f"{self.core.name}, {target._label}",
                found="a loop, branch or kernel argument",
                do="Time mode moves no bytes: let such numbers come from a use_write_rtp buffer.",
            )
        listed = ", ".join(self._value(i, timing) for i in indices)
        plain = "int" if np.issubdtype(np.dtype(value.dtype), np.integer) else "float"
        return f"{plain}({self._array(target)}[{listed}])"


@cache
def _compiled(source: str) -> CodeType:
    """Cores that do the same on other objects share their code, and so do runs: what differs is in `names`."""
    return compile(source, "<core>", "exec")


_cycle_cache: dict[tuple[Any, ...], float] = {}


def _fixed_cycles(function: Callable[..., float], *scalars: int) -> float:
    """Cycles of a call, asked once for each set of scalars."""
    key = (function, *scalars)
    if key not in _cycle_cache:
        _cycle_cache[key] = float(function(*scalars))
    return _cycle_cache[key]
