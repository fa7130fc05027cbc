"""The prefill projection: y[M, N] = x[M, K] · Wᵀ on all 32 cores, output-stationary, W in bfp16.

    tiles     column c takes rows m c … of a block of 8 m rows of x, row r the columns n r … of a block of 4 n of y;
              each core keeps an m x n tile of sums in fp32 while K streams by, 64 at a time
    flow      x: shim MM2S 0 of a column → memtile, which cuts it into blocks of 8 x 8 → the column's 4 cores
              W: shim MM2S 1 of columns 0, 2, 4, 6 → memtile → the row's 8 cores
              y: cores → memtile, which joins the column and undoes the blocks → shim S2MM 0, m / 2 rows at a time
    L1        x 2 x 128 m B, W 2 x 72 n B, sums 4 mn B, y mn B, stack: 62 KB at m = 64, n = 96
    L2        x 4 x 128 m B, W 4 x 72 n B, y 2 x 4 mn B: 109 KB at m = 64, n = 96
    channels  shim 2 in, 1 out; memtile 2 + 4 in, 2 + 1 out; core 2 in, 1 out
    DDR       2 MK (N / 4n) + 1.125 NK (M / 8m) + 2 MN
    roofline  DDR at M'·N' = 512 x 384: 7.4e-3 B a product, 6.6e12 products a second at 49.1 GB/s, two fifths of
              what the cores could do. The paper's figure is 3.4e12 at best.

M is padded to whole blocks of 8 m rows by the caller (the last rows of y are then of no use), N to whole blocks of 4 n.
m is 64, less for a short prompt: as few blocks as 512 rows allow, none higher than they must be.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from aie.helpers.taplib import TensorAccessPattern
from aie.iron import Buffer, Kernel, ObjectFifo, Program, Runtime, Worker
from aie.iron.controlflow import range_
from aie.iron.device import NPU2, Tile
from ml_dtypes import bfloat16

from ..tile_streams import array, linear

COLUMNS, ROWS = 8, 4
TILE_K = 64
HEIGHTS = (16, 32, 48, 64)  # of a core's tile; 64 fills L1
BLOCK_M = COLUMNS * HEIGHTS[-1]  # the highest block
BYTES_PER_8 = 9  # bfp16: eight mantissas and their exponent
STACK = 1024
WIDTHS = (96, 80, 64, 48, 32)  # of a core's tile; 96 fills L1


@dataclass(frozen=True)
class Matmul:
    """A projection of `rows` tokens.

    Attributes:
        rows: M, whole blocks.
        inner: K, a multiple of 64.
        columns: N of the weights.
        tile_m, tile_n: Rows and columns of a core's tile.
    """

    rows: int
    inner: int
    columns: int
    tile_m: int
    tile_n: int

    @property
    def block_m(self) -> int:
        """Rows of y that the array makes at a time."""
        return COLUMNS * self.tile_m

    @property
    def store_m(self) -> int:
        """Rows of a core's tile that leave at a time."""
        return self.tile_m // 2

    @property
    def block_n(self) -> int:
        """Columns of y that the array makes at a time."""
        return ROWS * self.tile_n

    @property
    def padded_columns(self) -> int:
        """N, up to whole blocks."""
        return -(-self.columns // self.block_n) * self.block_n

    @property
    def weight_tile(self) -> int:
        """Bytes of a core's tile of W, one step of K."""
        return self.tile_n * TILE_K * BYTES_PER_8 // 8

    @property
    def weight_bytes(self) -> int:
        """Bytes of W in the order that the design reads."""
        return self.padded_columns * self.inner * BYTES_PER_8 // 8

    @property
    def ddr_bytes(self) -> int:
        """What crosses DDR."""
        blocks_n, blocks_m = self.padded_columns // self.block_n, self.rows // self.block_m
        return (
            2 * self.rows * self.inner * blocks_n + self.weight_bytes * blocks_m + 2 * self.rows * self.padded_columns
        )


def plan_matmul(tokens: int, inner: int, columns: int) -> Matmul:
    """The width with the least padding, then the widest; rows for at least `tokens`."""
    if tokens < 1 or inner % TILE_K or columns % 16:
        raise ValueError(f"{tokens}x{inner}x{columns}: needs a token, whole {TILE_K} of K, whole 16 columns")
    blocks = -(-tokens // BLOCK_M)
    tile_m = next(m for m in HEIGHTS if blocks * COLUMNS * m >= tokens)
    plans = [Matmul(blocks * COLUMNS * tile_m, inner, columns, tile_m, n) for n in WIDTHS]
    return min(plans, key=lambda plan: (plan.padded_columns // 64, -plan.tile_n))


def pack_weights(plan: Matmul, blocks: Any) -> Any:
    """W as the design reads it: for each block of 4 n columns and each core row, its tiles of 64 of K.

    Args:
        plan: The projection.
        blocks: What dequantize_q4nx_bfp16_aie2p makes of the whole matrix: bytes `[N/16, K/8, 2, 72]`.
    """
    raw = np.asarray(blocks, np.uint8).reshape(plan.columns // 16, plan.inner // TILE_K, -1)
    missing = (plan.padded_columns - plan.columns) // 16
    raw = np.concatenate([raw, np.zeros((missing, *raw.shape[1:]), np.uint8)])
    tiles = raw.reshape(-1, plan.tile_n // 16, *raw.shape[1:]).swapaxes(1, 2)
    return np.ascontiguousarray(tiles).reshape(-1)


def matmul(plan: Matmul) -> Any:
    """The program: sequence(x bf16 [M, K], weights by pack_weights, y bf16 [M, padded N])."""
    m, n = plan.tile_m, plan.tile_n
    m_blocks, n_blocks = plan.rows // plan.block_m, plan.padded_columns // plan.block_n
    i32 = np.int32
    x_ty = array(m * TILE_K, bfloat16)
    w_ty = array(plan.weight_tile, np.uint8)
    c_ty = array(m * n, np.float32)
    y_ty = array(plan.store_m * n, bfloat16)
    multiply = Kernel("matmul_bf16_aie2p", "matmul_bf16_aie2p.o", [x_ty, w_ty, c_ty, i32, i32, i32, i32])
    store = Kernel("matmul_bf16_store_aie2p", "matmul_bf16_aie2p.o", [c_ty, y_ty, i32, i32, i32])

    x_l2 = [ObjectFifo(x_ty, depth=4, name=f"x_l2_{c}") for c in range(COLUMNS)]
    x_in = [
        fifo.cons().forward(
            depth=2,
            name=f"x_{c}",
            placement=Tile(c, 1),
            dims_to_stream=[(m // 8, 8 * TILE_K), (TILE_K // 8, 8), (8, TILE_K), (8, 1)],
        )
        for c, fifo in enumerate(x_l2)
    ]
    w_l2 = [ObjectFifo(w_ty, depth=4, name=f"w_l2_{r}") for r in range(ROWS)]
    w_in = [fifo.cons().forward(depth=2, name=f"w_{r}", placement=Tile(2 * r, 1)) for r, fifo in enumerate(w_l2)]
    y_l2 = [ObjectFifo(array(plan.store_m * plan.block_n, bfloat16), depth=2, name=f"y_l2_{c}") for c in range(COLUMNS)]
    unblocked = [(plan.store_m // 8, 8 * n), (n // 8, 8), (8, n), (8, 1)]
    y_out = [
        fifo.prod().join(
            [plan.store_m * n * r for r in range(ROWS)],
            obj_types=[y_ty] * ROWS,
            depths=[1] * ROWS,
            names=[f"y_{c}_{r}" for r in range(ROWS)],
            placement=Tile(c, 1),
            dims_from_stream=[unblocked] * ROWS,
        )
        for c, fifo in enumerate(y_l2)
    ]

    def core(x: Any, w: Any, y: Any, sums: Any, multiply: Any, store: Any) -> None:
        for _ in range_(m_blocks * n_blocks):
            multiply(x.acquire(1), w.acquire(1), sums, m, TILE_K, n, 1)
            x.release(1)
            w.release(1)
            for _ in range_(plan.inner // TILE_K - 1):
                multiply(x.acquire(1), w.acquire(1), sums, m, TILE_K, n, 0)
                x.release(1)
                w.release(1)
            for row in range(0, m, plan.store_m):
                store(sums, y.acquire(1), plan.store_m, n, row)
                y.release(1)

    workers = []
    for c in range(COLUMNS):
        for r in range(ROWS):
            tile = Tile(c, 2 + r)
            sums = Buffer(c_ty, name=f"sums_{c}_{r}", placement=tile)
            ends = [x_in[c].cons(), w_in[r].cons(), y_out[c][r].prod()]
            workers.append(Worker(core, [*ends, sums, multiply, store], placement=tile, stack_size=STACK))

    rt = Runtime()
    with rt.sequence(
        array(plan.rows * plan.inner, bfloat16),
        array(plan.weight_bytes, np.uint8),
        array(plan.rows * plan.padded_columns, bfloat16),
    ) as (x, w, y):
        rt.start(*workers)
        groups = []
        for block in range(m_blocks * n_blocks):
            row, column = divmod(block, n_blocks)
            group = rt.task_group()
            for c in range(COLUMNS):
                rt.fill(x_l2[c].prod(), x, _x_tap(plan, row * plan.block_m + c * m), group, placement=Tile(c, 0))
            for r in range(ROWS):
                size = plan.inner // TILE_K * plan.weight_tile
                tap = linear(plan.weight_bytes, (column * ROWS + r) * size, size)
                rt.fill(w_l2[r].prod(), w, tap, group, placement=Tile(2 * r, 0))
            for c in range(COLUMNS):
                tap = _y_tap(plan, row * plan.block_m + c * m, column * plan.block_n)
                rt.drain(y_l2[c].cons(), y, tap, group, wait=True, placement=Tile(c, 0))
            groups.append(group)
            if len(groups) == 3:
                rt.finish_task_group(groups.pop(0))
        for group in groups:
            rt.finish_task_group(group)
    return Program(NPU2(), rt).resolve_program()


def _x_tap(plan: Matmul, first_row: int) -> TensorAccessPattern:
    """The rows of a column's tiles, 64 of K at a time: runs of 128 bytes."""
    return TensorAccessPattern(
        (plan.rows * plan.inner,),
        first_row * plan.inner,
        [1, plan.inner // TILE_K, plan.tile_m, TILE_K],
        [0, TILE_K, plan.inner, 1],
    )


def _y_tap(plan: Matmul, first_row: int, first_column: int) -> TensorAccessPattern:
    """The upper halves of the tiles of a column's four cores, then the lower ones."""
    return TensorAccessPattern(
        (plan.rows * plan.padded_columns,),
        first_row * plan.padded_columns + first_column,
        [2, ROWS, plan.store_m, plan.tile_n],
        [plan.store_m * plan.padded_columns, plan.tile_n, plan.padded_columns, 1],
    )
