"""A design as the hardware has it: buffers and locks on tiles, descriptors on DMA channels, streams between them."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import prod
from typing import Any, Literal, NamedTuple

import numpy as np

Direction = Literal["MM2S", "S2MM"]  # memory to stream, stream to memory


class Place(NamedTuple):
    """A tile. Row 0 is the shim, row 1 the mem tile, rows 2 to 5 are cores."""

    col: int
    row: int

    @property
    def kind(self) -> str:
        """'shim', 'mem' or 'core'."""
        return ("shim", "mem")[self.row] if self.row < 2 else "core"

    def __str__(self) -> str:
        return f"{self.kind} tile ({self.col}, {self.row})"


@dataclass(eq=False)
class Memory:
    """A buffer on a tile."""

    place: Place
    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    initial: np.ndarray | None = None

    @property
    def nbytes(self) -> int:
        """Its bytes."""
        return prod(self.shape) * self.dtype.itemsize


@dataclass(eq=False)
class Lock:
    """A semaphore on a tile."""

    place: Place
    name: str
    initial: int


@dataclass(eq=False)
class Pattern:
    """Where the bytes of a transfer lie, outermost dimension first; strides in bytes. The innermost runs are whole."""

    offset: int
    sizes: tuple[int, ...]
    strides: tuple[int, ...]
    itemsize: int

    @property
    def nbytes(self) -> int:
        """Its bytes."""
        return prod(self.sizes) * self.itemsize

    @property
    def end(self) -> int:
        """One past the last byte."""
        return self.offset + sum((n - 1) * s for n, s in zip(self.sizes, self.strides, strict=True)) + self.itemsize

    @property
    def run(self) -> int:
        """Bytes that lie side by side before the address jumps."""
        run = self.itemsize
        for size, stride in zip(reversed(self.sizes), reversed(self.strides), strict=True):
            if size > 1 and stride != run:
                break
            run *= size
        return run

    @property
    def runs(self) -> int:
        """How often the address jumps, and once more."""
        return self.nbytes // self.run


@dataclass(eq=False)
class Descriptor:
    """One buffer descriptor of a tile's DMA channel: what it moves, between which lock operations."""

    memory: Memory
    pattern: Pattern
    acquire: tuple[Lock, int]
    release: tuple[Lock, int]


@dataclass(eq=False)
class Channel:
    """A DMA channel. `descriptors` go round for ever; a shim's channel has a queue of transfers instead."""

    place: Place
    direction: Direction
    index: int
    fifo: str
    descriptors: list[Descriptor] = field(default_factory=list)

    def __str__(self) -> str:
        return f"{self.place} {self.direction} {self.index} ({self.fifo})"


@dataclass(eq=False)
class Stream:
    """A circuit from one channel to others; several sinks get the same words at the same time."""

    fifo: str
    source: Channel
    sinks: list[Channel]
    hops: int = 0


@dataclass(eq=False)
class Port:
    """A FIFO's end in a core: its objects and the two locks that count them."""

    name: str
    is_producer: bool
    memories: list[Memory]
    acquire_lock: Lock
    release_lock: Lock

    @property
    def depth(self) -> int:
        """Objects."""
        return len(self.memories)


@dataclass(eq=False)
class Core:
    """A core with its program (see `upstream/aie/_trace.py`)."""

    place: Place
    program: list[Any]
    forever: bool
    stack: int
    ports: dict[Any, Port]  # by FIFO handle
    buffers: dict[Any, Memory]  # by IRON Buffer
    barriers: dict[Any, Lock]  # by WorkerRuntimeBarrier
    acquires: dict[Any, int] = field(default_factory=dict)  # locks that each acquire operation takes
    positions: dict[Any, int] = field(default_factory=dict)  # of an acquire's first object, from the oldest held

    @property
    def name(self) -> str:
        """For messages."""
        return f"core ({self.place.col}, {self.place.row})"


@dataclass(eq=False)
class Transfer:
    """A task of the runtime sequence on a shim channel."""

    number: int
    channel: Channel
    argument: int
    pattern: Pattern  # of one iteration
    repeat: int
    repeat_stride: int  # bytes between iterations
    wait: bool
    descriptor: int  # BD id on the shim

    @property
    def nbytes(self) -> int:
        """Its bytes."""
        return self.pattern.nbytes * self.repeat

    def __str__(self) -> str:
        verb = "fill" if self.channel.direction == "MM2S" else "drain"
        return f"{verb} {self.number} of {self.channel.fifo} at {self.channel.place}"


@dataclass(eq=False)
class ArrayProgram:
    """A lowered and checked design."""

    columns: int
    arguments: list[Any]  # RuntimeData
    memories: list[Memory]
    locks: list[Lock]
    channels: list[Channel]
    streams: list[Stream]
    cores: list[Core]
    transfers: list[Transfer]
    sequence: list[tuple[Any, ...]]  # ("push" t) ("await" t) ("free" t) ("rtp" memory index value) ("lock" lock value)
