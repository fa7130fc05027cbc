"""The bytes of a run in function: gathered and scattered in the order in which a descriptor visits them."""

from __future__ import annotations

from typing import Any

import numpy as np

from .program import Channel, Pattern


class TileData:
    """The bytes of a tile's channel."""

    def __init__(self, engine: Any, channel: Channel) -> None:
        self.engine, self.channel = engine, channel
        self.reads = channel.direction == "MM2S"
        self.mover: Mover | None = None

    def begin(self, position: int) -> None:
        """A descriptor starts."""
        descriptor = self.channel.descriptors[position]
        self.mover = Mover(self.engine.memory(descriptor.memory), descriptor.pattern, self.reads)

    def take(self, nbytes: int) -> np.ndarray:
        """The next bytes of the stream."""
        assert self.mover is not None
        return self.mover.take(nbytes)

    def put(self, piece: np.ndarray) -> None:
        """The next bytes of the stream."""
        assert self.mover is not None
        self.mover.put(piece)

    def end(self) -> None:
        """The descriptor is through."""
        assert self.mover is not None
        self.mover.end()


class ShimData(TileData):
    """The bytes of a shim channel: those of the host buffer."""

    def __init__(self, engine: Any) -> None:
        self.engine = engine
        self.mover = None

    def begin(self, transfer: Any, iteration: int = 0) -> None:
        """An iteration starts."""
        pattern = transfer.pattern
        moved = Pattern(
            pattern.offset + iteration * transfer.repeat_stride, pattern.sizes, pattern.strides, pattern.itemsize
        )
        self.mover = Mover(self.engine.arguments[transfer.argument], moved, transfer.channel.direction == "MM2S")


class Mover:
    """One descriptor's bytes in the order of the stream."""

    def __init__(self, memory: np.ndarray, pattern: Pattern, reads: bool) -> None:
        items = memory[pattern.offset : pattern.end]
        self.there = np.lib.stride_tricks.as_strided(items, (*pattern.sizes, pattern.itemsize), (*pattern.strides, 1))
        self.direct = pattern.runs == 1
        if self.direct:
            self.stream = items
        elif reads:
            self.stream = self.there.reshape(-1)
        else:
            self.stream = np.empty(pattern.nbytes, np.uint8)
        self.position = 0
        self.reads = reads

    def take(self, nbytes: int) -> np.ndarray:
        """The next bytes of the stream."""
        self.position += nbytes
        return self.stream[self.position - nbytes : self.position]

    def put(self, piece: np.ndarray) -> None:
        """The next bytes of the stream."""
        self.stream[self.position : self.position + len(piece)] = piece
        self.position += len(piece)

    def end(self) -> None:
        """The descriptor is through."""
        if not self.reads and not self.direct:
            self.there[...] = self.stream.reshape(self.there.shape)
