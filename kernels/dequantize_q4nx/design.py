"""The dequantisation engine: Q4NX units in, bfp16 tiles out in the order that the prefill matmul reads them.

    tiles     32 workers; a work item is one weight tile of the matmul (tile_n columns x 64 of K). A channel has a run
              of neighbouring pairs of tiles, its two cores take turns
    flow      units: 16 shim MM2S channels → memtile → 2 cores each (tile_streams.py). Tiles: joined in pairs in the
              memtile → 16 shim S2MM channels, each writing one linear stretch
    L1        units 2 x 40 n B, tiles 2 x 72 n B, stack: 22 KB at n = 96
    L2        units 2 x 3 x 80 n B, tiles 2 x 2 x 144 n B: 99 KB at n = 96
    channels  shim 2 in, 2 out; memtile 2 + 4 in, 4 + 2 out (all twelve); core 1 in, 1 out
    BDs       memtile 20 of 24 even, 20 of 24 odd; core 2 + 2; shim ≤ 8 of 16
    DDR       0.625 B a weight in, runs of 640 B; 1.125 B out, linear (the paper's bf16 is 2 B)
    roofline  DDR: 1.75 B a weight. A core makes a weight in 0.09 cycles, 32 need 0.003; DDR needs 0.047.

The matrix is read as `units[strip, group, bytes]` (matmul_nbits/packing.py), rows filled up to whole tiles with zeros.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from aie.helpers.taplib import TensorAccessPattern
from aie.iron import Kernel, ObjectFifo, Program, Runtime, Worker
from aie.iron.controlflow import range_
from aie.iron.device import NPU2, Tile

from ..matmul_bf16.design import TILE_K, Matmul
from ..matmul_nbits.packing import GROUP_COLUMNS, STRIP_ROWS, UNIT_BYTES
from ..tile_streams import CHANNELS, TILES, array, linear, make_tile_streams, shim_of, tile_of

UNIT = UNIT_BYTES[4]
GROUPS = TILE_K // GROUP_COLUMNS  # of a tile
STACK = 1024
MOST_ITERATIONS = 64  # of a shim transfer's outermost dimension


@dataclass(frozen=True)
class Dequantize:
    """A matrix.

    Attributes:
        inner: K, a multiple of 128.
        rows: N, whole tiles.
        tile_n: Rows of a tile (columns of the matmul's y).
    """

    inner: int
    rows: int
    tile_n: int

    @property
    def strips(self) -> int:
        """Of a tile."""
        return self.tile_n // STRIP_ROWS

    @property
    def units_bytes(self) -> int:
        """Of a tile in 4 bits."""
        return self.strips * GROUPS * UNIT

    @property
    def tile_bytes(self) -> int:
        """Of a tile in bfp16."""
        return self.tile_n * TILE_K * 9 // 8

    @property
    def row_pairs(self) -> int:
        """Pairs of tiles along K."""
        return self.inner // (2 * TILE_K)

    @property
    def pairs(self) -> int:
        """Pairs of tiles."""
        return self.rows // self.tile_n * self.row_pairs

    def channel_pairs(self, channel: int) -> tuple[int, int]:
        """[first, last) of a channel."""
        return self.pairs * channel // CHANNELS, self.pairs * (channel + 1) // CHANNELS

    @property
    def ddr_bytes(self) -> int:
        """What crosses DDR."""
        return 2 * self.pairs * (self.units_bytes + self.tile_bytes)


def plan_dequantize(matmul: Matmul) -> Dequantize:
    """For the weights of a matmul."""
    if matmul.inner % (2 * TILE_K):
        raise ValueError(f"K = {matmul.inner} is not whole pairs of tiles of {TILE_K}")
    return Dequantize(matmul.inner, matmul.padded_columns, matmul.tile_n)


def pack_units(plan: Dequantize, units: Any) -> Any:
    """Units `[N/16, K/32, 320]` with the rows that whole tiles need; bytes as they are otherwise."""
    missing = plan.rows // STRIP_ROWS - len(units)
    return np.concatenate([units, np.zeros((missing, *units.shape[1:]), np.uint8)]).ravel()


def dequantize(plan: Dequantize) -> Any:
    """The program: sequence(units by pack_units, weights as matmul_bf16's pack_weights gives them)."""
    units_ty, tile_ty = array(plan.units_bytes, np.uint8), array(plan.tile_bytes, np.uint8)
    kernel = Kernel("dequantize_q4nx_bfp16_aie2p", "dequantize_q4nx_aie2p.o", [units_ty, tile_ty, np.int32, np.int32])
    streams = make_tile_streams(plan.units_bytes, l2_depth=3, l1_depth=2)
    outs, ends = [], []
    for channel in range(CHANNELS):
        joined = ObjectFifo(array(2 * plan.tile_bytes, np.uint8), depth=2, name=f"tiles{channel}")
        parts = joined.prod().join(
            [0, plan.tile_bytes],
            placement=Tile(channel // 2, 1),
            obj_types=[tile_ty] * 2,
            depths=[2] * 2,
            names=[f"tiles{channel}_{i}" for i in range(2)],
        )
        outs.append(joined)
        ends += [part.prod() for part in parts]

    def core(units: Any, tile: Any, count: int, kernel: Any) -> None:
        for _ in range_(count):
            kernel(units.acquire(1), tile.acquire(1), plan.strips, GROUPS)
            tile.release(1)
            units.release(1)

    workers = []
    for tile in range(TILES):
        first, last = plan.channel_pairs(tile // 2)
        arguments = [streams.tiles[tile], ends[tile], last - first, kernel]
        workers.append(Worker(core, arguments, placement=tile_of(tile), stack_size=STACK))

    rt = Runtime()
    with rt.sequence(
        array(2 * plan.pairs * plan.units_bytes, np.uint8), array(2 * plan.pairs * plan.tile_bytes, np.uint8)
    ) as (units, weights):
        rt.start(*workers)
        for channel in range(CHANNELS):
            for tap in _units_taps(plan, *plan.channel_pairs(channel)):
                rt.fill(streams.channels[channel], units, tap, placement=shim_of(channel))
        for channel in range(CHANNELS):
            first, last = plan.channel_pairs(channel)
            size = 2 * plan.tile_bytes
            tap = linear(plan.pairs * size, first * size, (last - first) * size)
            rt.drain(outs[channel].cons(), weights, tap, wait=True, placement=shim_of(channel))
    return Program(NPU2(), rt).resolve_program()


def _units_taps(plan: Dequantize, first: int, last: int) -> list[TensorAccessPattern]:
    """A run of pairs, tile by tile: the rest of a row of tiles, whole rows, the start of another."""
    strip_bytes = plan.inner // GROUP_COLUMNS * UNIT
    row_bytes = plan.strips * strip_bytes
    taps = []
    while first < last:
        row, column = divmod(first, plan.row_pairs)
        if column or last - first < plan.row_pairs:
            rows, pairs = 1, min(last - first, plan.row_pairs - column)
        else:
            rows, pairs = min((last - first) // plan.row_pairs, MOST_ITERATIONS), plan.row_pairs
        taps.append(
            TensorAccessPattern(
                (plan.rows // plan.tile_n * row_bytes,),
                row * row_bytes + column * 2 * GROUPS * UNIT,
                [rows, 2 * pairs, plan.strips, GROUPS * UNIT],
                [row_bytes, GROUPS * UNIT, strip_bytes, 1],
            )
        )
        first += rows * pairs
    return taps
