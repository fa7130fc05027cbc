"""What runs on a core, and the barrier by which the runtime sequence holds it back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .. import _trace
from .buffer import Buffer
from .dataflow import ObjectFifo, ObjectFifoEndpoint, ObjectFifoHandle
from .device import AnyComputeTile, Tile


class Worker(ObjectFifoEndpoint):
    """A function on a core, again and again (`while_true`) or once."""

    def __init__(
        self,
        core_fn: Callable[..., None] | None,
        fn_args: list[Any] = [],  # noqa: B006
        placement: Any = AnyComputeTile,
        while_true: bool = True,
        stack_size: int | None = None,
        allocation_scheme: str | None = None,
        trace: int | None = None,
        trace_events: list[Any] | None = None,
    ) -> None:
        if trace is not None or trace_events is not None:
            raise NotImplementedError("Worker(trace=…) is not simulated; the simulator's report has each tile's use")
        self._while_true = while_true
        self.stack_size = stack_size
        self.allocation_scheme = allocation_scheme
        self.core_fn = core_fn
        self.fn_args = fn_args
        self._fifos: list[ObjectFifoHandle] = []
        self._buffers: list[Buffer] = []
        self._barriers: list[WorkerRuntimeBarrier] = []
        super().__init__(placement)
        for arg in fn_args:
            if isinstance(arg, ObjectFifoHandle):
                arg.endpoint = self
                self._fifos.append(arg)
            elif isinstance(arg, Buffer):
                self._buffers.append(arg)
            elif isinstance(arg, ObjectFifo):
                raise ValueError(
                    "Cannot give an ObjectFifo directly to a worker; must give an ObjectFifoHandle obtained through "
                    "ObjectFifo.prod() or ObjectFifo.cons()"
                )
            elif isinstance(arg, WorkerRuntimeBarrier):
                self._barriers.append(arg)

    def place(self, tile: Tile) -> None:
        """Gives the core."""
        ObjectFifoEndpoint.place(self, tile)

    @property
    def fifos(self) -> list[ObjectFifoHandle]:
        """The FIFO ends among its arguments."""
        return self._fifos.copy()

    @property
    def buffers(self) -> list[Buffer]:
        """The buffers among its arguments."""
        return self._buffers.copy()

    def _record(self) -> list[Any]:
        """Its program."""
        with _trace.recording() as recorder:
            if self.core_fn is not None:
                self.core_fn(*self.fn_args)
        return recorder.program


class WorkerRuntimeBarrier:
    """A lock on each core that was given it; the runtime sequence sets it, the core waits for the value."""

    def __init__(self, initial_value: int = 0) -> None:
        self.initial_value = initial_value

    def wait_for_value(self, value: int) -> None:
        """In a core function: wait until the lock has the value; it is then 0 again."""
        _trace.recorder("wait_for_value").emit(_trace.BarrierWait(self, value))

    def release_with_value(self, value: int) -> None:
        """In a core function: add the value to the lock."""
        _trace.recorder("release_with_value").emit(_trace.BarrierRelease(self, value))
