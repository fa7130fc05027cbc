"""Sixteen streams from DDR to thirty-two tiles: the way in that the decode designs share.

shim MM2S 0 ─► memtile ─┬─► row 2          A channel's L2 object is one object for each of its two tiles; both must
                        └─► row 3          therefore take the same number.
shim MM2S 1 ─► memtile ─┬─► row 4
                        └─► row 5
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from aie.helpers.taplib import TensorAccessPattern
from aie.iron import ObjectFifo
from aie.iron.device import Tile

COLUMNS = 8
CHANNELS = 16
TILES = 32
L2_DEPTH = 6  # 2 x 6 + 6 + 6 descriptors fill the even half of a memtile's 48, and the odd half
L1_DEPTH = 4
VECTOR_BYTES = 64


def array(count: int, dtype: Any) -> Any:
    """The IRON type of a vector."""
    return np.ndarray[(count,), np.dtype[dtype]]  # type: ignore[misc]


def vectors(count: int, dtype: Any) -> Any:
    """The type of a buffer for `count` elements, in whole 64-byte vectors so that what lies behind it is aligned."""
    lanes = VECTOR_BYTES // np.dtype(dtype).itemsize
    return array(-(-count // lanes) * lanes, dtype)


def tile_of(tile: int) -> Tile:
    """Where a tile is: 2c and 2c+1 belong to channel c; channels 2x and 2x+1 enter at column x."""
    return Tile(tile // 4, 2 + tile % 4)


@dataclass(frozen=True)
class TileStreams:
    """The FIFOs' open ends.

    Attributes:
        channels: To fill, one for each shim channel; their objects are two tiles' wide.
        tiles: For the workers, one for each tile.
    """

    channels: list[Any]
    tiles: list[Any]


def make_tile_streams(object_bytes: int, l2_depth: int = L2_DEPTH, l1_depth: int = L1_DEPTH) -> TileStreams:
    """All sixteen.

    The depths must differ: where all ends of a FIFO ask for the same, mlir-aie gives the core only one object more than
    it holds at once.
    """
    if l1_depth == l2_depth:
        raise ValueError(f"depth {l1_depth} at both ends would become 2 in the core")
    channels, tiles = [], []
    for channel in range(CHANNELS):
        l2 = ObjectFifo(array(2 * object_bytes, np.uint8), depth=l2_depth, name=f"stream{channel}")
        parts = l2.cons().split(
            [0, object_bytes],
            placement=Tile(channel // 2, 1),
            obj_types=[array(object_bytes, np.uint8)] * 2,
            names=[f"stream{channel}_tile{2 * channel + i}" for i in range(2)],
        )
        channels.append(l2.prod())
        tiles += [part.cons(depth=l1_depth) for part in parts]
    return TileStreams(channels, tiles)


def shim_of(channel: int) -> Tile:
    """The shim tile of a channel."""
    return Tile(channel // 2, 0)


def linear(total: int, first: int, count: int) -> TensorAccessPattern:
    """`count` elements from `first` on, as they lie."""
    return TensorAccessPattern((total,), first, [1, 1, 1, count], [0, 0, 0, 1])


def to_both(total: int, first: int, object_bytes: int) -> TensorAccessPattern:
    """One object, for both tiles of a channel."""
    return TensorAccessPattern((total,), first, [2, 1, 1, object_bytes], [0, 0, 0, 1])
