"""A lone projection, y = W·x with W in 4 or 8 bits (FusedDQP): all 32 tiles stream weights, and only y is written.

tiles     32 workers. Each owns whole strips of rows, in rounds of `strips` strips; a round is whole objects
flow      weights: 16 shim channels → memtile → 2 tiles each (tile_streams.py). x: first in the hub's stream; the
          hub broadcasts it to the others. y: joined over a column in the memtile, out by shim S2MM 0
L1        3 weight objects, 2 of x, x and its group records, 2 parts of y, stack: 27 K + 2.25 K (33 KB at K = 2560)
L2        2 channels x 4 x 10240 B of weights, 4 parts of y
channels  shim 2 in, 1 out a column; memtile 2 + 4 in, 4 + 1 out; tile 2 in, 1 out (hub 1 in, 2 out)
BDs       memtile 22 of 24 (even channels), 18 of 24 (odd); tile 3 + 2 + 2; shim 3 or 4 of 16
DDR       N·K·0.625 B (8 bits: 1.0625) and 2 K + 4 N
roofline  DDR: 0.625 N·K / rate. A tile computes 1 weight in 1.6 B of its stream: far from its limit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from aie.extras import types as T
from aie.extras.dialects.arith import index_cast
from aie.iron import Buffer, Kernel, ObjectFifo, Program, Runtime, Worker
from aie.iron.controlflow import range_
from aie.iron.device import NPU2, Tile
from ml_dtypes import bfloat16

from ..tile_streams import (
    CHANNELS,
    COLUMNS,
    TILES,
    array,
    linear,
    make_tile_streams,
    shim_of,
    tile_of,
    to_both,
    vectors,
)
from .packing import GROUP_COLUMNS, OBJECT_BYTES, STRIP_ROWS, UNIT_BYTES, UNITS_PER_OBJECT, whole_objects

HUB = 12  # column 3, row 2


@dataclass(frozen=True)
class Projection:
    """How the rows of a matrix are dealt to the tiles.

    Attributes:
        rows: N.
        columns: K.
        bits: 4 or 8.
        strips: Strips of 16 rows in a tile's round.
        rounds: Of each column of tiles; column by column they cover the rows in order.
    """

    rows: int
    columns: int
    bits: int
    strips: int
    rounds: tuple[int, ...]

    @property
    def groups(self) -> int:
        """Units of a strip."""
        return self.columns // GROUP_COLUMNS

    @property
    def objects(self) -> int:
        """Objects of a round; the last may be partly empty."""
        return -(-self.strips * self.groups // UNITS_PER_OBJECT)

    @property
    def round_rows(self) -> int:
        """Rows of a round of a column of four tiles."""
        return 4 * self.strips * STRIP_ROWS

    @property
    def padded_rows(self) -> int:
        """Rows of the result; those beyond `rows` are 0."""
        return sum(self.rounds) * self.round_rows

    @property
    def object_bytes(self) -> int:
        """Bytes of an object."""
        return OBJECT_BYTES[self.bits]

    @property
    def x_objects(self) -> int:
        """Objects that x needs."""
        return -(-2 * self.columns // self.object_bytes)

    def channel_bytes(self, channel: int) -> int:
        """Bytes of a channel's weights."""
        return self.rounds[channel // 2] * self.objects * 2 * self.object_bytes


def plan_projection(rows: int, columns: int, bits: int = 4) -> Projection:
    """The round that leaves the busiest column the fewest bytes, then moves the fewest in all."""
    if rows % STRIP_ROWS or columns % GROUP_COLUMNS:
        raise ValueError(f"a {rows}x{columns} matrix is not whole units of {STRIP_ROWS}x{GROUP_COLUMNS}")

    def with_strips(strips: int) -> Projection:
        count = -(-rows // (4 * strips * STRIP_ROWS))
        return Projection(
            rows, columns, bits, strips, tuple(count // COLUMNS + (c < count % COLUMNS) for c in range(COLUMNS))
        )

    def cost(p: Projection) -> tuple[int, int]:
        return max(p.rounds) * p.objects, sum(p.rounds) * p.objects

    plan = min((with_strips(strips) for strips in (4, 3, 2, 1)), key=cost)
    if not plan.rounds[HUB // 4]:
        raise ValueError(f"{rows} rows leave the hub's column without work; at least {4 * 4 * STRIP_ROWS} are needed")
    return plan


def pack_projection(plan: Projection, units: Any) -> Any:
    """The weights as the design reads them, from units `[rows/16, columns/32, bytes]`."""
    strips = sum(plan.rounds) * 4 * plan.strips
    if len(units) < strips:
        none = np.zeros((strips - len(units), *units.shape[1:]), np.uint8)
        units = np.concatenate([units, none])
    by_round = units.reshape(-1, 2, 2, plan.strips * plan.groups, UNIT_BYTES[plan.bits])  # round, half, tile, …
    channels, first = [], 0
    for count in plan.rounds:
        mine = by_round[first : first + count]
        for half in range(2):
            channels += [
                np.stack([whole_objects(r[half, i], plan.bits) for i in range(2)], axis=1).ravel() for r in mine
            ]
        first += count
    return np.concatenate(channels)


def pack_activation(plan: Projection, x: Any) -> Any:
    """bf16 words `[columns]` in whole objects."""
    raw = np.zeros(plan.x_objects * plan.object_bytes, np.uint8)
    raw[: 2 * plan.columns] = np.ascontiguousarray(x).view(np.uint8)
    return raw


def projection(plan: Projection) -> Any:
    """The program: sequence(weights, x, y): pack_projection, pack_activation, fp32 `[padded_rows]`."""
    size, groups = plan.object_bytes, plan.groups
    object_ty = array(size, np.uint8)
    x_ty, sums_ty = array(plan.columns, bfloat16), vectors(4 * groups, bfloat16)
    part_ty = array(plan.strips * STRIP_ROWS, np.float32)
    suffix = "" if plan.bits == 4 else "_8bit"
    i32 = np.int32
    fused_dqp = Kernel(
        f"matmul_nbits{suffix}_aie2p",
        "matmul_nbits_aie2p.o",
        [object_ty, x_ty, sums_ty, part_ty, i32, i32, i32, i32, i32],
    )
    activation = Kernel(
        "matmul_nbits_activation_aie2p", "matmul_nbits_aie2p.o", [object_ty, x_ty, sums_ty, i32, i32, i32]
    )
    zero = Kernel("tile_exchange_zero_aie2p", "tile_exchange_aie2p.o", [part_ty, i32])
    send = Kernel("tile_exchange_pass_aie2p", "tile_exchange_aie2p.o", [object_ty, object_ty, i32, i32])

    streams = make_tile_streams(size, l2_depth=4, l1_depth=3)
    message = ObjectFifo(object_ty, depth=2, name="x")
    outs = []
    for column in range(COLUMNS):
        joined = ObjectFifo(array(plan.round_rows, np.float32), depth=1, name=f"y{column}")
        parts = joined.prod().join(
            [i * plan.strips * STRIP_ROWS for i in range(4)],
            placement=Tile(column, 1),
            obj_types=[part_ty] * 4,
            depths=[2] * 4,
            names=[f"y{column}_row{2 + i}" for i in range(4)],
        )
        outs.append((joined, parts))

    x_per_object = size // 2
    x_parts = [
        (i * x_per_object // GROUP_COLUMNS, min(x_per_object, plan.columns - i * x_per_object))
        for i in range(plan.x_objects)
    ]
    units = [UNITS_PER_OBJECT] * (plan.objects - 1)
    last_units = plan.strips * groups - len(units) * UNITS_PER_OBJECT

    def core(stream: Any, x_end: Any, y_end: Any, x: Any, sums: Any, is_hub: bool, rounds: int, *kernels: Any) -> None:
        activation, fused_dqp, zero, send = kernels
        for group, count in x_parts:
            source = stream if is_hub else x_end
            taken = source.acquire(1)
            activation(taken, x, sums, 0, count, group)
            if is_hub:
                given = x_end.acquire(1)
                send(taken, given, 0, size)
                x_end.release(1)
            source.release(1)
        for _ in range_(rounds):
            y = y_end.acquire(1)
            zero(y, plan.strips * STRIP_ROWS)
            if units:
                for i in range_(len(units)):
                    unit = index_cast(i, to=T.i32()) * UNITS_PER_OBJECT
                    weights = stream.acquire(1)
                    fused_dqp(weights, x, sums, y, UNITS_PER_OBJECT, unit // groups, unit % groups, groups, 0)
                    stream.release(1)
            unit = len(units) * UNITS_PER_OBJECT
            weights = stream.acquire(1)
            fused_dqp(weights, x, sums, y, last_units, unit // groups, unit % groups, groups, 0)
            stream.release(1)
            y_end.release(1)

    def sibling(stream: Any, *rest: Any) -> None:
        for _ in range_(plan.x_objects):  # the other half of the hub's objects
            stream.acquire(1)
            stream.release(1)
        core(stream, *rest)

    workers = []
    for tile in range(TILES):
        column = tile // 4
        if not plan.rounds[column]:
            continue
        name, place = f"tile{tile}", tile_of(tile)
        workers.append(
            Worker(
                sibling if tile == HUB + 1 else core,
                [
                    streams.tiles[tile],
                    message.prod() if tile == HUB else message.cons(),
                    outs[column][1][tile % 4].prod(),
                    Buffer(x_ty, name=f"{name}_x", placement=place),
                    Buffer(sums_ty, name=f"{name}_sums", placement=place),
                    tile == HUB,
                    plan.rounds[column],
                    activation,
                    fused_dqp,
                    zero,
                    send,
                ],
                placement=place,
                stack_size=2048,
            )
        )

    sizes = [plan.channel_bytes(channel) for channel in range(CHANNELS)]
    total, x_bytes = sum(sizes), plan.x_objects * size
    rt = Runtime()
    with rt.sequence(array(total, np.uint8), array(x_bytes, np.uint8), array(plan.padded_rows, np.float32)) as (
        weights,
        x,
        y,
    ):
        rt.start(*workers)
        for first in range(0, x_bytes, size):
            rt.fill(streams.channels[HUB // 2], x, to_both(x_bytes, first, size), placement=shim_of(HUB // 2))
        for channel in range(CHANNELS):
            if sizes[channel]:
                tap = linear(total, sum(sizes[:channel]), sizes[channel])
                rt.fill(streams.channels[channel], weights, tap, placement=shim_of(channel))
        first = 0
        for column, rounds in enumerate(plan.rounds):
            if rounds:
                count = rounds * plan.round_rows
                tap = linear(plan.padded_rows, first, count)
                rt.drain(outs[column][0].cons(), y, tap, wait=True, placement=Tile(column, 0))
                first += count
    return Program(NPU2(), rt).resolve_program()
