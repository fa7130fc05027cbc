"""Anchor: mlir-air's bf16 GEMM on all 32 cores, C in fp32.

A panel of a column goes to its 4 cores, B panel of a row to its 8 cores; L2 tiles are `k_l2` deep, L1 tiles `k_l1`,
both in ping-pong; a core keeps its C tile while K streams by.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from aie.helpers.taplib import TensorAccessPattern
from aie.iron import Kernel, ObjectFifo, Program, Runtime, Worker
from aie.iron.controlflow import range_
from aie.iron.device import NPU2, Tile
from aie.iron.placers import SequentialPlacer
from ml_dtypes import bfloat16

from ...tile_streams import array

COLUMNS, ROWS = 8, 4


def gemm(m: int, k: int, n: int, *, tile_m: int, k_l2: int, k_l1: int = 32, tile_n: int = 128) -> Any:
    """C[m, n] = A[m, k] B[k, n]; panels of A and B are contiguous in DDR here, as their order costs no bytes."""

    def bf16(count: int) -> Any:
        return array(count, bfloat16)

    def fp32(count: int) -> Any:
        return array(count, np.float32)

    a_type, b_type, c_type = bf16(tile_m * k_l1), bf16(k_l1 * tile_n), fp32(tile_m * tile_n)
    kernel = Kernel("gemm", "mm.o", [a_type, b_type, c_type])
    a_l2 = [ObjectFifo(bf16(tile_m * k_l2), name=f"a_l2_{c}") for c in range(COLUMNS)]
    b_l2 = [ObjectFifo(bf16(k_l2 * tile_n), name=f"b_l2_{r}") for r in range(ROWS)]
    c_l2 = [ObjectFifo(fp32(tile_m * tile_n * ROWS), depth=1, name=f"c_l2_{c}") for c in range(COLUMNS)]
    a_in = [f.cons().forward(obj_type=a_type, name=f"a_{c}", placement=Tile(c, 1)) for c, f in enumerate(a_l2)]
    b_in = [f.cons().forward(obj_type=b_type, name=f"b_{r}", placement=Tile(2 * r, 1)) for r, f in enumerate(b_l2)]
    c_out = [
        f.prod().join(
            [tile_m * tile_n * r for r in range(ROWS)],
            obj_types=[c_type] * ROWS,
            depths=[1] * ROWS,
            names=[f"c_{c}_{r}" for r in range(ROWS)],
            placement=Tile(c, 1),
        )
        for c, f in enumerate(c_l2)
    ]
    blocks_m, blocks_n = m // (tile_m * COLUMNS), n // (tile_n * ROWS)

    def core(a: Any, b: Any, c: Any, kernel: Any) -> None:
        for _ in range_(blocks_m * blocks_n):
            result = c.acquire(1)
            for _ in range_(k // k_l1):
                left, right = a.acquire(1), b.acquire(1)
                kernel(left, right, result)
                a.release(1)
                b.release(1)
            c.release(1)

    workers = [
        Worker(core, [a_in[c].cons(), b_in[r].cons(), c_out[c][r].prod(), kernel], placement=Tile(c, 2 + r))
        for c in range(COLUMNS)
        for r in range(ROWS)
    ]

    def linear(total: int, offset: int, count: int) -> TensorAccessPattern:
        return TensorAccessPattern((total,), offset, [1, 1, 1, count], [0, 0, 0, 1])

    runtime = Runtime()
    with runtime.sequence(bf16(m * k), bf16(k * n), fp32(m * n)) as (a, b, c):
        runtime.start(*workers)
        for block in range(blocks_m * blocks_n):
            row, column = divmod(block, blocks_n)
            group = runtime.task_group()
            for i in range(COLUMNS):
                panel = linear(m * k, (row * COLUMNS + i) * tile_m * k, tile_m * k)
                runtime.fill(a_l2[i].prod(), a, panel, task_group=group, placement=Tile(i, 0))
            for i in range(ROWS):
                panel = linear(k * n, (column * ROWS + i) * tile_n * k, tile_n * k)
                runtime.fill(b_l2[i].prod(), b, panel, task_group=group, placement=Tile(2 * i, 0))
            for i in range(COLUMNS):
                size = tile_m * tile_n * ROWS
                tile = linear(m * n, (block * COLUMNS + i) * size, size)
                runtime.drain(c_l2[i].cons(), c, tile, wait=True, task_group=group, placement=Tile(i, 0))
            runtime.finish_task_group(group)
    return Program(NPU2(), runtime).resolve_program(SequentialPlacer())
