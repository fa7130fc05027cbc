"""`for` and `if` over values that exist only when the core runs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from ..._trace import INDEX, If, Loop, Value, as_value, recorder


def _for(
    start: Any,
    stop: Any = None,
    step: Any = None,
    iter_args: Sequence[Any] | None = None,
    insert_yield: bool = True,
    *,
    loc: Any = None,
    ip: Any = None,
) -> Iterator[Value]:
    """A loop of the core: the body is recorded once; the counter is a value of type index."""
    if iter_args is not None or not insert_yield:
        raise NotImplementedError("range_ with iter_args is not simulated: keep state that loops carry in a Buffer")
    if not isinstance(start, int | np.integer | Value):
        raise ValueError(f"MLIR SCF for loops can only use integer types, not {type(start)}")
    start, stop = (0, start) if stop is None else (start, stop)
    step = 1 if step is None else step
    bounds = [as_value(bound, INDEX) for bound in (start, stop, step)]
    for bound in bounds:
        if bound.dtype != INDEX and not np.issubdtype(bound.dtype, np.integer):
            raise TypeError(f"range_: a bound is an integer; {bound} has type {bound.dtype}")
    current = recorder("range_")
    loop = Loop(current.loops, *bounds)
    current.loops += 1
    current.emit(loop)
    with current.block(loop.body):
        yield Value("counter", (loop,), INDEX)


@contextmanager
def if_(cond: Any, hasElse: bool = True, insert_yield: bool = True, loc: Any = None, ip: Any = None) -> Iterator[If]:
    """The block that runs when the condition holds."""
    if not isinstance(cond, Value):
        raise TypeError(f"if_ needs a value that the core computes, found {cond!r}; a Python `if` serves constants")
    op = If(cond)
    current = recorder("if_")
    current.emit(op)
    with current.block(op.then):
        yield op


@contextmanager
def else_(if_op: If, insert_yield: bool = True) -> Iterator[None]:
    """The other way."""
    with recorder("else_").block(if_op.orelse):
        yield
