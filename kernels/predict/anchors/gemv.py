"""Anchor: mlir-air's bf16 GEMV, one core a column.

A panel of `tile_m` rows is staged in the mem tile and handed on to the core, neither twice (32 KB of L1 a panel leave
no room for a second); the vector is read from DDR again for each panel.
"""

from __future__ import annotations

from typing import Any

from aie.helpers.taplib import TensorAccessPattern
from aie.iron import Kernel, ObjectFifo, Program, Runtime, Worker
from aie.iron.controlflow import range_
from aie.iron.device import NPU2, Tile
from aie.iron.placers import SequentialPlacer
from ml_dtypes import bfloat16

from ...tile_streams import array

COLUMNS = 8


def gemv(m: int, k: int, tile_m: int) -> Any:
    """y[m] = A[m, k] x[k]; panel j of column c holds the rows (8 j + c) tile_m and following."""
    panel = tile_m * k
    panels = m // (tile_m * COLUMNS)
    panel_type = array(panel, bfloat16)
    x_type = array(k, bfloat16)
    y_type = array(tile_m, bfloat16)
    kernel = Kernel("gemv", "mv.o", [panel_type, x_type, y_type])
    staged = [ObjectFifo(panel_type, depth=1, name=f"a_l2_{c}") for c in range(COLUMNS)]
    panels_in = [f.cons().forward(depth=1, name=f"a_{c}", placement=Tile(c, 1)) for c, f in enumerate(staged)]
    x_in = [ObjectFifo(x_type, depth=1, name=f"x_{c}") for c in range(COLUMNS)]
    y_out = [ObjectFifo(y_type, depth=1, name=f"y_{c}") for c in range(COLUMNS)]

    def core(a: Any, x: Any, y: Any, kernel: Any) -> None:
        for _ in range_(panels):
            rows, vector, result = a.acquire(1), x.acquire(1), y.acquire(1)
            kernel(rows, vector, result)
            a.release(1)
            x.release(1)
            y.release(1)

    workers = [
        Worker(core, [panels_in[c].cons(), x_in[c].cons(), y_out[c].prod(), kernel], placement=Tile(c, 2))
        for c in range(COLUMNS)
    ]
    run = max(d for d in range(2, 513, 2) if panel % d == 0)  # a panel as two dimensions within the wrap limits
    runtime = Runtime()
    with runtime.sequence(array(m * k, bfloat16), x_type, array(m, bfloat16)) as (
        a,
        x,
        y,
    ):
        runtime.start(*workers)
        group = runtime.task_group()
        for c in range(COLUMNS):
            taps = (
                TensorAccessPattern((m * k,), c * panel, [1, panels, panel // run, run], [0, COLUMNS * panel, run, 1]),
                TensorAccessPattern((k,), 0, [panels, 1, 1, k], [0, 0, 0, 1]),
                TensorAccessPattern((m,), c * tile_m, [1, 1, panels, tile_m], [0, 0, COLUMNS * tile_m, 1]),
            )
            runtime.fill(staged[c].prod(), a, taps[0], task_group=group, placement=Tile(c, 0))
            runtime.fill(x_in[c].prod(), x, taps[1], task_group=group, placement=Tile(c, 0))
            runtime.drain(y_out[c].cons(), y, taps[2], wait=True, task_group=group, placement=Tile(c, 0))
        runtime.finish_task_group(group)
    return Program(NPU2(), runtime).resolve_program(SequentialPlacer())
