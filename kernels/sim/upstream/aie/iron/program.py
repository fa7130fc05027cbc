"""A device and a runtime together are a program."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from .dataflow import ObjectFifo, ObjectFifoHandle
from .device import Device, Tile
from .placers import Placer
from .runtime import Runtime
from .worker import Worker


@dataclass(eq=False)
class Module:
    """A placed design: what `kernels.sim` lowers, checks and runs. Upstream has MLIR in this place."""

    device: Device
    runtime: Runtime
    workers: list[Worker]
    programs: list[list[Any]]  # of each worker
    fifos: list[ObjectFifo]
    sequence: list[tuple[Any, ...]]


class Program:
    """The whole design."""

    def __init__(self, device: Device, rt: Runtime) -> None:
        self._device = device
        self._rt = rt

    def resolve_program(self, placer: Placer | None = None, device_name: str = "main") -> Module:
        """Places what is not placed and runs every core function once to record it."""
        device, workers = type(self._device)(), self._rt.workers
        handles: set[ObjectFifoHandle] = set(self._rt.fifos)
        for worker in workers:
            handles.update(worker.fifos)
        ordered = sorted(handles, key=lambda handle: (handle.name, handle._is_prod, handle._number))
        if placer:
            placer.make_placement(device, self._rt, workers, ordered)
        for worker in workers:
            if not isinstance(worker.tile, Tile):
                raise ValueError("Must place Worker before it can be resolved.")
        fifos = self._all_fifos(ordered)
        resolved = [worker.tile for worker in workers]
        resolved += [end.tile for fifo in fifos for end in fifo._endpoints()]
        for worker in workers:
            for buffer in worker.buffers:
                if not isinstance(buffer.tile, Tile):
                    raise ValueError(
                        f"Cannot resolve buffer {buffer._name} until it has been placed: without a placer, "
                        "give it its worker's Tile as placement."
                    )
                if not any(buffer.tile is tile for tile in resolved):
                    raise ValueError(
                        f"Cannot get op of the tile of buffer {buffer._name} before it is set: its placement must be "
                        "the same Tile object as its worker's, not an equal one."
                    )
        return Module(
            device, self._rt, workers, [worker._record() for worker in workers], fifos, self._rt._record_sequence()
        )

    @staticmethod
    def _all_fifos(handles: list[ObjectFifoHandle]) -> list[ObjectFifo]:
        """Every FIFO that a handle or a link reaches, in the order of upstream's resolution."""
        fifos: list[ObjectFifo] = []

        def visit(fifo: ObjectFifo) -> None:
            if fifo in fifos:
                return
            fifos.append(fifo)
            for endpoint in fifo._endpoints():
                for handle in endpoint._handles():
                    visit(handle._object_fifo)

        for handle in handles:
            visit(handle._object_fifo)
        return fifos
