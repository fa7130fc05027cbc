"""Anchor: the weight stream of mlir-air's fused decode, 16 cores fed by both shim channels of four columns.

Each channel stages pairs of 5120-byte blocks in the mem tile and hands them to its two cores, in ping-pong.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from aie.helpers.taplib import TensorAccessPattern
from aie.iron import Kernel, ObjectFifo, Program, Runtime, Worker
from aie.iron.controlflow import range_
from aie.iron.device import NPU2, Tile
from aie.iron.placers import SequentialPlacer

from ...tile_streams import array

BLOCK = 5120
FIRST_COLUMN, COLUMNS, CHANNELS, CORES = 2, 4, 8, 16


def weight_stream(blocks: int) -> Any:
    """All cores together consume `blocks` blocks of weights (rounded up to whole rounds of 16)."""
    rounds = -(-blocks // CORES)
    block_type = array(BLOCK, np.uint8)
    pair_type = array(2 * BLOCK, np.uint8)
    sum_type = array(4, np.float32)
    kernel = Kernel("project", "proj.o", [block_type])
    finish = Kernel("finish", "proj.o", [sum_type])
    staged = [ObjectFifo(pair_type, name=f"w_l2_{ch}") for ch in range(CHANNELS)]
    blocks_in = [
        f.cons().split(
            [0, BLOCK],
            obj_types=[block_type] * 2,
            names=[f"w_{ch}_{i}" for i in range(2)],
            placement=Tile(FIRST_COLUMN + ch // 2, 1),
        )
        for ch, f in enumerate(staged)
    ]
    done = [ObjectFifo(sum_type, depth=1, name=f"done_{ch}") for ch in range(CHANNELS)]

    def core(w: Any, kernel: Any) -> None:
        for _ in range_(rounds):
            block = w.acquire(1)
            kernel(block)
            w.release(1)

    def reporting_core(w: Any, y: Any, kernel: Any, finish: Any) -> None:
        core(w, kernel)
        result = y.acquire(1)
        finish(result)
        y.release(1)

    workers = []
    for ch in range(CHANNELS):
        column, row = FIRST_COLUMN + ch // 2, 2 + 2 * (ch % 2)
        ends = [f.cons() for f in blocks_in[ch]]
        workers.append(Worker(core, [ends[0], kernel], placement=Tile(column, row)))
        workers.append(
            Worker(reporting_core, [ends[1], done[ch].prod(), kernel, finish], placement=Tile(column, row + 1))
        )
    runtime = Runtime()
    total = rounds * CORES * BLOCK
    with runtime.sequence(array(total, np.uint8), array(4 * CHANNELS, np.float32)) as (w, y):
        runtime.start(*workers)
        group = runtime.task_group()
        share = total // CHANNELS
        for ch in range(CHANNELS):
            shim = Tile(FIRST_COLUMN + ch // 2, 0)
            part = TensorAccessPattern((total,), ch * share, [1, 1, 1, share], [0, 0, 0, 1])
            runtime.fill(staged[ch].prod(), w, part, task_group=group, placement=shim)
            part = TensorAccessPattern((4 * CHANNELS,), 4 * ch, [1, 1, 1, 4], [0, 0, 0, 1])
            runtime.drain(done[ch].cons(), y, part, wait=True, task_group=group, placement=shim)
        runtime.finish_task_group(group)
    return Program(NPU2(), runtime).resolve_program(SequentialPlacer())
