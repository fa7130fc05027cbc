"""What a tile kernel promises: one definition that its test, its design, the simulator and `kernels list` read.

A contract is data. Shapes are expressions over the kernel's shape symbols (`"rows * hidden"`), so that the L1 bytes of
a tile, the check of a design's parameters and the table in the docs come from the same lines.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

DType = Literal["bfloat16", "float32", "int32", "uint8", "int8", "bfp16ebs8"]
Role = Literal["in", "out", "inout", "scalar"]
Arrays = Mapping[str, Any]

BITS: Mapping[str, int] = {"bfloat16": 16, "float32": 32, "int32": 32, "uint8": 8, "int8": 8, "bfp16ebs8": 9}
L1_BYTES = 64 * 1024


def evaluate(expression: str | int, shape: Mapping[str, int]) -> int:
    """The value of an expression such as `"key_tile * head_dim"` for named sizes."""
    if isinstance(expression, int):
        return expression
    try:
        return int(eval(expression, {"__builtins__": {}}, dict(shape)))
    except NameError as missing:
        raise ValueError(f"'{expression}' needs a size that was not given ({missing}); given: {dict(shape)}") from None


@dataclass(frozen=True)
class Arg:
    """An argument of the C function: a pointer into L1, or an int32 passed by value (role `scalar`, no shape).

    Attributes:
        name: As in the C signature.
        dtype: Type of an element. bfp16ebs8 counts values: eight of them share an exponent and fill nine bytes.
        role: What the kernel does with it. `inout` is state that lives from call to call in the same buffer.
        shape: Sizes, outermost first.
        doc: Layout and meaning.
    """

    name: str
    dtype: DType
    role: Role
    shape: tuple[str | int, ...] = ()
    doc: str = ""

    def __post_init__(self) -> None:
        if (self.role == "scalar") != (not self.shape):
            raise ValueError(
                f"argument {self.name}: scalars have no shape, buffers have one; found {self.role} {self.shape}"
            )

    def dims(self, **shape: int) -> tuple[int, ...]:
        """Its sizes."""
        return tuple(evaluate(size, shape) for size in self.shape)

    def bytes(self, **shape: int) -> int:
        """Its bytes in L1; 0 for a scalar."""
        return 0 if self.role == "scalar" else int(np.prod(self.dims(**shape))) * BITS[self.dtype] // 8


def buffer(name: str, dtype: DType, role: Role, *shape: str | int, doc: str = "") -> Arg:
    """A pointer argument."""
    return Arg(name, dtype, role, shape, doc)


def scalar(name: str, doc: str = "") -> Arg:
    """An int32 passed by value: a design may feed it from a run-time parameter."""
    return Arg(name, "int32", "scalar", (), doc)


@dataclass(frozen=True)
class Limit:
    """A condition on the shape, and why it is there: `Limit("hidden % 32 == 0", "a vector is 32 bf16")`."""

    condition: str
    why: str


@dataclass(frozen=True)
class Tolerance:
    """How far a kernel's result may be from the truth (the reference in float64 on the operands as stored).

    The rule is relative: the error may be `times_ideal` that of ideal arithmetic in the same operand formats, in root
    mean square and in the worst element. `floor`, a fraction of the largest |truth|, is for outputs where the ideal
    happens to make no error.

    Attributes:
        note: Evidence: what was measured, on what, and the figure.
        times_ideal: The design's rule is 2.
        floor: Fraction of max |truth| that is always allowed.
    """

    note: str
    times_ideal: float = 2.0
    floor: float = 0.0

    def excess(self, actual: Any, truth: Any, ideal: Any) -> float:
        """The larger of the two errors, rms and worst element, over what is allowed: at most 1 is within."""
        a, t, i = (np.asarray(x, dtype=np.float64) for x in (actual, truth, ideal))
        if not np.array_equal(np.isfinite(a), np.isfinite(t)):
            return float("inf")
        kept = np.isfinite(t)
        if not kept.any():
            return 0.0
        error, allowed = np.abs(a[kept] - t[kept]), np.abs(i[kept] - t[kept])
        least = self.floor * np.abs(t[kept]).max()
        worst = error.max() / max(self.times_ideal * allowed.max() + least, 1e-300)
        rms = np.sqrt(np.mean(error**2)) / max(self.times_ideal * np.sqrt(np.mean(allowed**2)) + least, 1e-300)
        return float(max(worst, rms))


@dataclass(frozen=True)
class KernelContract:
    """A tile kernel: one C symbol of a `kernels/<op>/aie2p*.cc`.

    Attributes:
        symbol: The extern "C" name.
        source: The file, relative to `kernels/`.
        args: In the order of the C signature.
        numerics: Formats, rounding, order of sums, what NaN and infinity do.
        tolerance: How the result is judged.
        reference: The truth: (arguments by name, as numpy arrays and ints) → outputs by name, in float64.
        cycles: Lower bound of the cycles of a call, from the shape: the busiest issue slot with everything else hidden.
        ideal: The same with the operands rounded to the kernel's formats and the sums in float32 or better; the
            yardstick of `tolerance`.
        limits: What the shape must satisfy.
        stack_bytes: Of the C function with what it calls; a core's stack is at least the sum over its deepest call.
        static_bytes: Tables and scratch that the object file itself places in L1.
        defines: `-D` macros that this symbol needs (the tile shape, where one is compiled in).
    """

    symbol: str
    source: str
    args: tuple[Arg, ...]
    numerics: str
    tolerance: Tolerance
    reference: Callable[..., dict[str, Any]]
    cycles: Callable[..., int]
    ideal: Callable[..., dict[str, Any]] | None = None
    limits: tuple[Limit, ...] = ()
    stack_bytes: int = 1024
    static_bytes: int = 0
    defines: tuple[str, ...] = ()

    def arg(self, name: str) -> Arg:
        """The argument of this name."""
        for candidate in self.args:
            if candidate.name == name:
                return candidate
        raise KeyError(f"{self.symbol} has no argument '{name}'; it has {[arg.name for arg in self.args]}")

    def l1_bytes(self, depth: Mapping[str, int] | None = None, **shape: int) -> int:
        """Bytes of L1 that a core needs: stack, tables, buffers (`depth` copies of those named)."""
        depth = depth or {}
        for name in depth:
            self.arg(name)
        buffers = sum(arg.bytes(**shape) * depth.get(arg.name, 1) for arg in self.args)
        return buffers + self.static_bytes + self.stack_bytes

    def check(self, depth: Mapping[str, int] | None = None, **shape: int) -> None:
        """Raises ValueError with what, found and why, if the kernel cannot run at this shape."""
        for limit in self.limits:
            if not evaluate(limit.condition, shape):
                raise ValueError(f"{self.symbol}: {limit.why}: needs {limit.condition}; found {dict(shape)}")
        if (needed := self.l1_bytes(depth, **shape)) > L1_BYTES:
            raise ValueError(f"{self.symbol}: {needed} bytes of L1 at {dict(shape)}; a core has {L1_BYTES}")
