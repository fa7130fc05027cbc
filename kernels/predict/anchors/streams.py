"""Anchors of streaming: an element-wise kernel on one core a column, operands straight from DDR (add, RoPE)."""

from __future__ import annotations

from typing import Any

from aie.helpers.taplib import TensorAccessPattern
from aie.iron import Kernel, ObjectFifo, Program, Runtime, Worker
from aie.iron.controlflow import range_
from aie.iron.device import NPU2, Tile
from aie.iron.placers import SequentialPlacer
from ml_dtypes import bfloat16

from ...tile_streams import array

MAX_ROWS = 512  # of one strided transfer


def streams(elements: int, tile: int, *, columns: int, interleaved: bool) -> Any:
    """Two inputs and an output of `elements` bf16, `tile` of them a call.

    Args:
        elements: Of each operand.
        tile: Elements of an object.
        columns: Columns in use, one core each.
        interleaved: Column c takes the tiles c, c + columns, …; else one contiguous part.
    """
    tensor = array(elements, bfloat16)
    object_type = array(tile, bfloat16)
    kernel = Kernel("elementwise", "elementwise.o", [object_type] * 3)
    calls = elements // tile // columns
    inputs = [[ObjectFifo(object_type, name=f"in{i}_{c}") for i in range(2)] for c in range(columns)]
    outputs = [ObjectFifo(object_type, name=f"out_{c}") for c in range(columns)]

    def core(a: Any, b: Any, y: Any, kernel: Any) -> None:
        for _ in range_(calls):
            elements_a, elements_b, elements_y = a.acquire(1), b.acquire(1), y.acquire(1)
            kernel(elements_a, elements_b, elements_y)
            a.release(1)
            b.release(1)
            y.release(1)

    workers = [
        Worker(core, [inputs[c][0].cons(), inputs[c][1].cons(), outputs[c].prod(), kernel], placement=Tile(c, 2))
        for c in range(columns)
    ]

    def part(column: int, first: int, count: int) -> TensorAccessPattern:
        if interleaved:
            offset = (first * columns + column) * tile
            return TensorAccessPattern((elements,), offset, [1, 1, count, tile], [0, 0, columns * tile, 1])
        return TensorAccessPattern((elements,), (column * calls + first) * tile, [1, 1, 1, count * tile], [0, 0, 0, 1])

    runtime = Runtime()
    with runtime.sequence(tensor, tensor, tensor) as (a, b, y):
        runtime.start(*workers)
        step = min(calls, MAX_ROWS) if interleaved else calls
        for first in range(0, calls, step):
            group = runtime.task_group()
            for c in range(columns):
                pattern = part(c, first, min(step, calls - first))
                for source, fifo in zip((a, b), inputs[c], strict=True):
                    runtime.fill(fifo.prod(), source, pattern, task_group=group, placement=Tile(c, 0))
                runtime.drain(outputs[c].cons(), y, pattern, wait=True, task_group=group, placement=Tile(c, 0))
            runtime.finish_task_group(group)
    return Program(NPU2(), runtime).resolve_program(SequentialPlacer())
