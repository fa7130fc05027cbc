"""The runtime sequence: which host buffers flow through which FIFOs, in what order, and what is waited for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from ..helpers.taplib import TensorAccessPattern, TensorTiler2D
from .buffer import Buffer
from .dataflow import ObjectFifoEndpoint, ObjectFifoHandle
from .device import AnyShimTile
from .dtype import array_dtype, array_shape
from .worker import Worker, WorkerRuntimeBarrier


class RuntimeData:
    """A host buffer, an argument of the sequence."""

    def __init__(self, arr_type: Any) -> None:
        self._arr_type = arr_type

    @property
    def shape(self) -> tuple[int, ...]:
        """Its shape."""
        return array_shape(self._arr_type)

    @property
    def dtype(self) -> np.dtype[Any]:
        """The type of its elements."""
        return array_dtype(self._arr_type)

    @property
    def arr_type(self) -> Any:
        """Its type."""
        return self._arr_type

    def default_tap(self) -> TensorAccessPattern:
        """All of it, in order."""
        return TensorTiler2D.simple_tiler(self.shape)[0]


class RuntimeTaskGroup:
    """Transfers that are finished together."""

    def __init__(self, id: int) -> None:
        self._group_id = id

    @property
    def group_id(self) -> int:
        """Its number."""
        return self._group_id

    def __str__(self) -> str:
        return f"TaskGroup({self.group_id})"


class RuntimeEndpoint(ObjectFifoEndpoint):
    """A FIFO's end at DDR."""

    def __eq__(self, other: object) -> bool:
        return self.tile == other.tile if isinstance(other, RuntimeEndpoint) else NotImplemented

    __hash__ = object.__hash__

    def __str__(self) -> str:
        return f"RuntimeEndpoint({self.tile})"


class DMATask:
    """One transfer between a host buffer and a FIFO."""

    def __init__(
        self,
        object_fifo: ObjectFifoHandle,
        rt_data: RuntimeData,
        tap: TensorAccessPattern,
        task_group: RuntimeTaskGroup | None = None,
        wait: bool = False,
    ) -> None:
        self.fifo = object_fifo
        self.data = rt_data
        self.tap = tap
        self.task_group = task_group
        self.wait = wait


class Runtime:
    """Records what the host's instruction stream will do."""

    def __init__(self, strict_task_groups: bool = True) -> None:
        self._rt_data: list[RuntimeData] = []
        self._tasks: list[tuple[Any, ...]] = []
        self._fifos: set[ObjectFifoHandle] = set()
        self._workers: list[Worker] = []
        self._open_task_groups: list[RuntimeTaskGroup] = []
        self._groups = 0
        self._strict_task_groups = strict_task_groups

    @contextmanager
    def sequence(self, *input_types: Any) -> Iterator[Any]:
        """The sequence; yields its host buffers."""
        try:
            self._rt_data = [RuntimeData(kind) for kind in input_types]
            yield self._rt_data[0] if len(self._rt_data) == 1 else tuple(self._rt_data)
        finally:
            if self._open_task_groups:
                raise ValueError(f"Failed to close task groups: {', '.join(map(str, self._open_task_groups))}")
            for handle in self._fifos:
                if not handle._is_prod:
                    self._keep_one_consumer(handle)

    @staticmethod
    def _keep_one_consumer(handle: ObjectFifoHandle) -> None:
        """Every drain(fifo.cons()) makes a consumer; they are one."""
        fifo = handle._object_fifo
        first: ObjectFifoHandle | None = None
        for consumer in list(fifo._cons):
            if not isinstance(consumer.endpoint, RuntimeEndpoint):
                continue
            if first is None:
                first = consumer
            elif (consumer.depth, consumer.dims_from_stream) == (first.depth, first.dims_from_stream):
                fifo._cons.remove(consumer)
            else:
                raise ValueError(f"Found two different RuntimeEndpoints for consumers of the same ObjectFifo: {fifo}")

    def task_group(self) -> RuntimeTaskGroup:
        """A new group of transfers."""
        group = RuntimeTaskGroup(self._groups)
        self._groups += 1
        self._open_task_groups.append(group)
        return group

    def finish_task_group(self, task_group: RuntimeTaskGroup) -> None:
        """Waits for the group's transfers made with wait=True; then frees the descriptors of all."""
        self._open_task_groups.remove(task_group)
        self._tasks.append(("finish", task_group))

    def fill(
        self,
        in_fifo: ObjectFifoHandle,
        source: RuntimeData,
        tap: TensorAccessPattern | None = None,
        task_group: RuntimeTaskGroup | None = None,
        wait: bool = False,
        placement: Any = AnyShimTile,
    ) -> None:
        """Sends a host buffer into a FIFO."""
        if source not in self._rt_data:
            raise ValueError(f"Source {source} is not a RuntimeData object generated by sequence()")
        self._transfer(in_fifo, source, tap, task_group, wait, placement)

    def drain(
        self,
        out_fifo: ObjectFifoHandle,
        dest: RuntimeData,
        tap: TensorAccessPattern | None = None,
        task_group: RuntimeTaskGroup | None = None,
        wait: bool = False,
        placement: Any = AnyShimTile,
    ) -> None:
        """Receives a FIFO into a host buffer."""
        if dest not in self._rt_data:
            raise ValueError(f"Destination {dest} is not a RuntimeData object generated by sequence()")
        self._transfer(out_fifo, dest, tap, task_group, wait, placement)

    def _transfer(self, fifo: Any, data: Any, tap: Any, group: Any, wait: bool, placement: Any) -> None:
        fifo.endpoint = RuntimeEndpoint(placement)
        self._fifos.add(fifo)
        self._tasks.append(("dma", DMATask(fifo, data, data.default_tap() if tap is None else tap, group, wait)))

    def start(self, *args: Worker) -> None:
        """The workers that belong to the design."""
        for worker in args:
            if not isinstance(worker, Worker):
                raise ValueError("Runtime can only start Worker objects")
            self._workers.append(worker)

    def inline_ops(self, inline_func: Callable[..., None], inline_args: list[Any]) -> None:
        """A function that writes run-time parameters at this point of the sequence."""
        self._tasks.append(("inline", inline_func, inline_args))

    def set_barrier(self, barrier: WorkerRuntimeBarrier, value: int) -> None:
        """Sets the barrier's lock on every core that has it."""
        self._tasks.append(("barrier", barrier, value))

    @property
    def workers(self) -> list[Worker]:
        """The workers that were started."""
        return self._workers.copy()

    @property
    def fifos(self) -> set[ObjectFifoHandle]:
        """The FIFO ends of fill and drain."""
        return self._fifos.copy()

    def _record_sequence(self) -> list[tuple[Any, ...]]:
        """Flattened: ("dma" task), ("rtp" buffer index value), ("barrier" barrier value), ("await" or "free" task)."""
        out: list[tuple[Any, ...]] = []
        default = RuntimeTaskGroup(-1)
        groups: dict[RuntimeTaskGroup, list[DMATask]] = {}

        def finish(group: RuntimeTaskGroup) -> None:
            tasks = groups.pop(group, [])
            out.extend(("await", task) for task in tasks if task.wait)
            out.extend(("free", task) for task in tasks if not task.wait)

        for kind, *operands in self._tasks:
            if kind == "dma":
                task = operands[0]
                groups.setdefault(task.task_group or default, []).append(task)
                out.append((kind, task))
            elif kind == "finish":
                finish(operands[0])
            elif kind == "inline":
                out.extend(_record_inline(*operands))
            else:
                out.append((kind, *operands))
        dma = [operands[0] for kind, *operands in self._tasks if kind == "dma"]
        if self._strict_task_groups and len({task.task_group is None for task in dma}) > 1:
            raise Exception(
                "Mixing explicit task groups and the default task group is prohibitted. "
                "Please assign all default tasks to a task group."
            )
        finish(default)
        return out


def _record_inline(function: Callable[..., None], arguments: list[Any]) -> list[tuple[Any, ...]]:
    """Runs an inline_ops function; only writes of run-time parameters are simulated."""
    written: list[tuple[Any, ...]] = []
    buffers = [buffer for argument in arguments for buffer in _buffers(argument)]
    for buffer in buffers:
        buffer._sequence = written
    try:
        function(*arguments)
    finally:
        for buffer in buffers:
            buffer._sequence = None
    return written


def _buffers(argument: Any) -> list[Buffer]:
    if isinstance(argument, Buffer):
        return [argument]
    return [b for item in argument for b in _buffers(item)] if isinstance(argument, list | tuple) else []
