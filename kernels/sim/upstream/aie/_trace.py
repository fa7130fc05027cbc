"""What a core function does, recorded by running it once, as upstream does when it emits MLIR.

Loop counters, run-time parameters and loaded elements are not Python numbers but `Value`s: expressions over the core's
state. Python's own `if`, `range` or `int()` cannot look into them, here as little as upstream.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np

INDEX = "index"  # the type of a loop counter; everything else has a numpy type


@dataclass(eq=False)
class Value:
    """A number that exists when the core runs. `kind` and `operands` are its expression.

    const (number) · counter (loop) · load (buffer or element, indices) · binary (operator, a, b) · cast (a)
    """

    kind: str
    operands: tuple[Any, ...]
    dtype: Any

    def __bool__(self) -> bool:
        raise TypeError(
            f"{self} is known only when the core runs, and Python's `if`, `while` or `and` asked for it while the "
            "design is built; compute with it, pass it to a kernel, or use aie.helpers.dialects.scf.if_"
        )

    def __int__(self) -> int:
        raise TypeError(f"{self} is known only when the core runs; Python's range() or int() cannot use it: use range_")

    __index__ = __int__

    def __str__(self) -> str:
        match self.kind:
            case "const":
                return str(self.operands[0])
            case "counter":
                return f"loop counter {self.operands[0].number}"
            case "load":
                return f"{self.operands[0]._label}[{', '.join(map(str, self.operands[1]))}]"
            case "binary":
                return f"({self.operands[1]} {self.operands[0]} {self.operands[2]})"
        return f"{self.dtype}({self.operands[0]})"

    def _with(self, operator: str, other: Any, reflected: bool = False) -> Value:
        other = as_value(other, self.dtype)
        if other.dtype != self.dtype:
            raise TypeError(
                f"{self} has type {name_of(self.dtype)}, {other} has {name_of(other.dtype)}; upstream computes on "
                "equal types only: convert with aie.extras.dialects.arith.index_cast"
            )
        a, b = (other, self) if reflected else (self, other)
        return Value("binary", (operator, a, b), "bool" if operator in COMPARISONS else self.dtype)

    def __add__(self, other: Any) -> Value:
        return self._with("+", other)

    def __radd__(self, other: Any) -> Value:
        return self._with("+", other, True)

    def __sub__(self, other: Any) -> Value:
        return self._with("-", other)

    def __rsub__(self, other: Any) -> Value:
        return self._with("-", other, True)

    def __mul__(self, other: Any) -> Value:
        return self._with("*", other)

    def __rmul__(self, other: Any) -> Value:
        return self._with("*", other, True)

    def __floordiv__(self, other: Any) -> Value:
        return self._with("//", other)

    def __mod__(self, other: Any) -> Value:
        return self._with("%", other)

    def __lt__(self, other: Any) -> Value:
        return self._with("<", other)

    def __le__(self, other: Any) -> Value:
        return self._with("<=", other)

    def __gt__(self, other: Any) -> Value:
        return self._with(">", other)

    def __ge__(self, other: Any) -> Value:
        return self._with(">=", other)

    def __eq__(self, other: Any) -> Value:  # type: ignore[override]
        return self._with("==", other)

    def __ne__(self, other: Any) -> Value:  # type: ignore[override]
        return self._with("!=", other)

    __hash__ = object.__hash__


COMPARISONS = {"<", "<=", ">", ">=", "==", "!="}


def name_of(dtype: Any) -> str:
    """A type in an error text."""
    return dtype if isinstance(dtype, str) else np.dtype(dtype).name


def as_value(number: Any, dtype: Any) -> Value:
    """A Python or numpy number as a constant of a type; a Value as it is."""
    if isinstance(number, Value):
        return number
    if isinstance(number, bool | int | float | np.generic):
        return Value("const", (number.item() if isinstance(number, np.generic) else number,), dtype)
    raise TypeError(f"expected a number or a value of the core, found {type(number).__name__} {number!r}")


@dataclass(eq=False)
class Element:
    """An object of a FIFO between acquire and release, or a part of a core's program that stands for it."""

    handle: Any  # ObjectFifoHandle
    acquire: Acquire
    index: int

    @property
    def _label(self) -> str:
        return f"{self.handle.name}[{self.index}]"

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.handle.shape)

    @property
    def dtype(self) -> Any:
        return self.handle.dtype

    def __getitem__(self, indices: Any) -> Value:
        return load(self, indices)

    def __setitem__(self, indices: Any, number: Any) -> None:
        store(self, indices, number)


@dataclass(eq=False)
class Loop:
    """`for counter in range(start, stop, step)`; bounds may be known only when it runs."""

    number: int
    start: Value
    stop: Value
    step: Value
    body: list[Any] = field(default_factory=list)


@dataclass(eq=False)
class If:
    """A branch on a value."""

    condition: Value
    then: list[Any] = field(default_factory=list)
    orelse: list[Any] = field(default_factory=list)


@dataclass(eq=False)
class Acquire:
    """Wait until `count` objects of the FIFO are held."""

    handle: Any
    count: int


@dataclass(eq=False)
class Release:
    """Give the oldest `count` held objects on."""

    handle: Any
    count: int


@dataclass(eq=False)
class Call:
    """A call of a compiled kernel."""

    kernel: Any
    arguments: tuple[Any, ...]  # Element, Buffer or Value


@dataclass(eq=False)
class Store:
    """One element written by the core itself."""

    target: Any  # Element or Buffer
    indices: tuple[Value, ...]
    number: Value


@dataclass(eq=False)
class BarrierWait:
    """Wait until the barrier's lock has the value, and take it."""

    barrier: Any
    value: int


@dataclass(eq=False)
class BarrierRelease:
    """Add to the barrier's lock."""

    barrier: Any
    value: int


class Recorder:
    """The program of the core whose function is running now."""

    def __init__(self) -> None:
        self.program: list[Any] = []
        self.blocks = [self.program]
        self.loops = 0

    def emit(self, op: Any) -> None:
        self.blocks[-1].append(op)

    @contextmanager
    def block(self, ops: list[Any]) -> Iterator[None]:
        self.blocks.append(ops)
        try:
            yield
        finally:
            self.blocks.pop()


_current: list[Recorder] = []


def recorder(what: str) -> Recorder:
    """The recorder, for an operation that only a core function may do."""
    if not _current:
        raise RuntimeError(f"{what} outside of a core function: it belongs into the function that a Worker runs")
    return _current[-1]


@contextmanager
def recording() -> Iterator[Recorder]:
    """Collects what the core function called inside does."""
    _current.append(Recorder())
    try:
        yield _current[-1]
    finally:
        _current.pop()


def is_recording() -> bool:
    """Whether a core function is running."""
    return bool(_current)


def _indices(target: Any, indices: Any) -> tuple[Value, ...]:
    indices = indices if isinstance(indices, tuple) else (indices,)
    if len(indices) != len(target.shape):
        raise IndexError(
            f"{target._label} has shape {target.shape}; found {len(indices)} indices: slices are not supported"
        )
    for position, index in enumerate(indices):
        if not isinstance(index, Value) and not 0 <= int(index) < target.shape[position]:
            raise IndexError(f"{target._label}: index {index} of dimension {position} is outside of {target.shape}")
    return tuple(as_value(index, INDEX) for index in indices)


def load(target: Any, indices: Any) -> Value:
    """An element of a buffer, read when the core gets there."""
    recorder(f"reading {target._label}")
    return Value("load", (target, _indices(target, indices)), np.dtype(target.dtype))


def store(target: Any, indices: Any, number: Any) -> None:
    """Records the write of one element."""
    dtype = np.dtype(target.dtype)
    value = as_value(number, dtype)
    if value.dtype != dtype:
        raise TypeError(f"{target._label} holds {name_of(dtype)}; {value} has type {name_of(value.dtype)}")
    recorder(f"writing {target._label}").emit(Store(target, _indices(target, indices), value))
