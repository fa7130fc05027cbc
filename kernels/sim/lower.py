"""From a recorded design to locks, buffers, descriptors and streams, as mlir-aie's object FIFO pass makes them.

The rules are those of upstream's AIEObjectFifoStatefulTransform (spring 2026), so that resources are counted as the
compiler will use them:

1. A FIFO between cores that share a memory, with one consumer and no new layout, is one set of objects.
   Every other FIFO has a set at each end and a stream between them; an end at the shim has none.
2. A core's end of a streamed FIFO has `max acquired + 1` objects, not `depth`, unless its ends ask for different
   depths.
3. A link uses one set of buffers for both sides, that of the larger objects. A split or join has a descriptor and two
   locks for every part.
4. Channels are given out in the order of the FIFOs, the lowest free one first.
"""

from __future__ import annotations

from typing import Any

from . import hardware
from .checks import check_core_program, check_program
from .errors import DesignError
from .patterns import linear, tile_pattern
from .program import ArrayProgram, Channel, Core, Descriptor, Lock, Memory, Place, Port, Stream
from .sequence import lower_sequence


def lower(module: Any) -> ArrayProgram:
    """Lowers what `Program.resolve_program` returned, and checks it against the hardware."""
    if not hasattr(module, "programs"):
        raise TypeError(
            f"expected what Program(NPU2(), rt).resolve_program() returns with the aie package of kernels/sim, "
            f"found {type(module).__module__}.{type(module).__name__}; with mlir-aie installed, designs compile instead"
        )
    return _Lowering(module).result()


def place_of(endpoint: Any, what: str) -> Place:
    """Where an endpoint is."""
    tile = endpoint.tile
    if not hasattr(tile, "col"):
        raise DesignError(
            "not placed",
            where=what,
            found=getattr(tile, "__name__", tile),
            do="Give a placement, or a placer to resolve_program.",
        )
    return Place(tile.col, tile.row)


class _Lowering:
    def __init__(self, module: Any) -> None:
        self.module = module
        self.columns: int = module.device.cols
        self.memories: list[Memory] = []
        self.locks: list[Lock] = []
        self.channels: list[Channel] = []
        self.streams: list[Stream] = []
        self.used: dict[tuple[Place, str], int] = {}  # channels of a tile and direction
        self.links: dict[Any, _Link] = {}
        self.cores: dict[Any, Core] = {}  # by Worker
        self.shim_channels: dict[tuple[Any, bool], Channel] = {}  # by FIFO and side

    def result(self) -> ArrayProgram:
        seen: dict[Place, Any] = {}
        for worker, program in zip(self.module.workers, self.module.programs, strict=True):
            place = place_of(worker, "a worker")
            if place.kind != "core" or place in seen:
                raise DesignError(
                    "not a free core",
                    where=f"worker at {place}",
                    found="taken twice" if place in seen else place.kind,
                    limit="one worker on a tile of rows 2 to 5",
                    do="Place it elsewhere.",
                )
            seen[place] = worker
            stack = hardware.DEFAULT_STACK if worker.stack_size is None else worker.stack_size
            self.cores[worker] = core = Core(place, program, worker._while_true, stack, {}, {}, {})
            check_core_program(core)
        for fifo in self.module.fifos:
            self._check_name(fifo)
            self._lower_fifo(fifo)
        for link in self.links.values():
            link.check_both_sides()
        for worker in self.module.workers:
            self._lower_core_state(worker)
        program = ArrayProgram(
            self.columns,
            self.module.runtime._rt_data,
            self.memories,
            self.locks,
            self.channels,
            self.streams,
            list(self.cores.values()),
            [],
            [],
        )
        lower_sequence(self.module, program, self.shim_channels, self._memory_of_buffer(), self.cores.values())
        check_program(program)
        return program

    def _check_name(self, fifo: Any) -> None:
        if sum(other.name == fifo.name for other in self.module.fifos) > 1:
            raise DesignError(
                "name used twice", where=f"fifo {fifo.name}", found=fifo.name, do="Give each FIFO its own name."
            )

    # ---- FIFOs

    def _lower_fifo(self, fifo: Any) -> None:
        prod_end, cons_ends = fifo._prod, list(fifo._cons)
        where = f"fifo {fifo.name}"
        source = place_of(prod_end.endpoint, f"{where}, producer")
        sinks = [place_of(end.endpoint, f"{where}, consumer") for end in cons_ends]
        self._check_shim_layouts(fifo, source, sinks)
        depths = {prod_end.depth, *(end.depth for end in cons_ends)}
        uniform = len(depths) == 1
        shared = self._shared_memory(fifo, source, sinks)
        if shared is not None:
            self._lower_shared(fifo, prod_end, cons_ends[0], shared)
            return
        source_channel = self._end(fifo, prod_end, source, uniform)
        sink_channels = [self._end(fifo, end, place, uniform) for end, place in zip(cons_ends, sinks, strict=True)]
        self.streams.append(Stream(fifo.name, source_channel, sink_channels))

    @staticmethod
    def _check_shim_layouts(fifo: Any, source: Place, sinks: list[Place]) -> None:
        if (source.kind == "shim" and fifo.dims_to_stream) or any(
            place.kind == "shim" and end.dims_from_stream for place, end in zip(sinks, fifo._cons, strict=True)
        ):
            raise DesignError(
                "layout change at the shim",
                where=f"fifo {fifo.name}",
                found="dims at an end in row 0",
                do="Use the TensorAccessPattern of fill or drain.",
            )

    def _shared_memory(self, fifo: Any, source: Place, sinks: list[Place]) -> Place | None:
        """The tile whose memory both cores reach, if the FIFO needs no stream."""
        if len(sinks) != 1 or fifo.dims_to_stream or fifo._cons[0].dims_from_stream:
            return None
        if self._link_of(fifo._prod) or self._link_of(fifo._cons[0]) or {source.kind, sinks[0].kind} != {"core"}:
            return None
        if _reaches(sinks[0], source):
            return source
        return sinks[0] if _reaches(source, sinks[0]) else None

    def _lower_shared(self, fifo: Any, prod_end: Any, cons_end: Any, place: Place) -> None:
        memories = self._objects(fifo, place, prod_end.depth, fifo.name)
        free, full = self._lock_pair(place, fifo.name, prod_end.depth)
        self._port(prod_end, memories, free, full)
        self._port(cons_end, memories, full, free)

    def _end(self, fifo: Any, end: Any, place: Place, uniform: bool) -> Channel:
        """Buffers, locks, channel and descriptors of one end of a streamed FIFO."""
        channel = self._channel(place, "MM2S" if end._is_prod else "S2MM", fifo.name)
        if place.kind == "shim":
            self.shim_channels[fifo, end._is_prod] = channel
            return channel
        dims = fifo.dims_to_stream if end._is_prod else end.dims_from_stream
        link = self._link_of(end)
        if link is not None:
            channel.descriptors = link.descriptors(end, place, dims, uniform)
            return channel
        if place.kind != "core":
            raise DesignError(
                "FIFO ends at a mem tile",
                where=f"fifo {fifo.name}, {place}",
                found="no link",
                do="A mem tile only forwards, splits or joins.",
            )
        depth = self._core_depth(end) if uniform else end.depth
        suffix = "" if end._is_prod else "_cons"
        memories = self._objects(fifo, place, depth, fifo.name + suffix)
        free, full = self._lock_pair(place, fifo.name + suffix, depth)
        acquire, release = (full, free) if end._is_prod else (free, full)  # of the DMA
        for memory in memories:
            pattern = tile_pattern(channel, dims, fifo.dtype.itemsize, 0, fifo._object_bytes)
            channel.descriptors.append(Descriptor(memory, pattern, (acquire, 1), (release, 1)))
        self._port(end, memories, release, acquire)
        return channel

    def _core_depth(self, end: Any) -> int:
        """Upstream's findObjectFifoSize: what the core acquires at most, and one more for the DMA."""
        core = self.cores[end.endpoint]
        most: int = max((op.count for op in core.acquires if op.handle is end), default=0)
        if most == 0 or (most == 1 and end.depth == 1):
            return int(end.depth)
        return most + 1

    def _objects(self, fifo: Any, place: Place, depth: int, name: str) -> list[Memory]:
        memories = [Memory(place, f"{name}_buff_{i}", fifo.shape, fifo.dtype) for i in range(depth)]
        self.memories += memories
        return memories

    def _lock_pair(self, place: Place, name: str, depth: int) -> tuple[Lock, Lock]:
        """(free objects, full objects)."""
        pair = Lock(place, f"{name}_prod_lock", depth), Lock(place, f"{name}_cons_lock", 0)
        if depth > hardware.MAX_LOCK:
            raise DesignError(
                "FIFO too deep for a lock",
                where=f"fifo {name}, {place}",
                found=f"depth {depth}",
                limit=hardware.MAX_LOCK,
                do="Use a smaller depth.",
            )
        self.locks += pair
        return pair

    def _channel(self, place: Place, direction: Any, fifo: str) -> Channel:
        index = self.used.get((place, direction), 0)
        limit = hardware.CHANNELS[place.kind]
        if index >= limit:
            taken = [c.fifo for c in self.channels if (c.place, c.direction) == (place, direction)]
            raise DesignError(
                f"too many {direction} DMA channels",
                where=f"fifo {fifo}, {place}",
                found=f"{index + 1} FIFOs ({', '.join([*taken, fifo])})",
                limit=f"{limit} {direction} channels",
                do="Move the FIFO to another column, or join FIFOs into one.",
            )
        self.used[place, direction] = index + 1
        self.channels.append(Channel(place, direction, index, fifo))
        return self.channels[-1]

    def _port(self, end: Any, memories: list[Memory], acquire: Lock, release: Lock) -> None:
        core = self.cores.get(end.endpoint)
        if core is None:
            raise DesignError(
                "worker not started",
                where=f"fifo {end.name}",
                found="its worker is not among rt.start()",
                do="Start every worker in the runtime sequence.",
            )
        core.ports[end] = Port(end.name, end._is_prod, memories, acquire, release)

    def _link_of(self, end: Any) -> _Link | None:
        endpoint = end.endpoint
        if not hasattr(endpoint, "_srcs"):
            return None
        if endpoint not in self.links:
            self.links[endpoint] = _Link(self, endpoint)
        return self.links[endpoint]

    # ---- cores

    def _lower_core_state(self, worker: Any) -> None:
        core = self.cores[worker]
        for buffer in worker.buffers:
            place = place_of(buffer, f"buffer {buffer._name}")
            if not _reaches(core.place, place):
                raise DesignError(
                    "buffer out of reach",
                    where=f"{core.name}, buffer {buffer._name}",
                    found=place,
                    limit="own memory, or the core's to the west, north or south",
                    do="Place it with its worker.",
                )
            memory = self._memory_of_buffer().get(buffer)
            if memory is None:
                memory = Memory(place, buffer._name, buffer.shape, buffer.dtype, buffer._initial_value)
                self.memories.append(memory)
            core.buffers[buffer] = memory
        for barrier in worker._barriers:
            core.barriers[barrier] = Lock(core.place, f"barrier_{len(core.barriers)}", barrier.initial_value)
            self.locks.append(core.barriers[barrier])

    def _memory_of_buffer(self) -> dict[Any, Memory]:
        return {buffer: memory for core in self.cores.values() for buffer, memory in core.buffers.items()}


def _reaches(core: Place, memory: Place) -> bool:
    """Whether a core has a load and store path to a core tile's memory."""
    step = (memory.col - core.col, memory.row - core.row)
    return memory.kind == "core" and step in {(0, 0), (-1, 0), (0, 1), (0, -1)}


class _Link:
    """A split, join or forward on a mem tile: one set of buffers for both sides."""

    def __init__(self, lowering: _Lowering, link: Any) -> None:
        self.lowering, self.link = lowering, link
        self.where = str(link)
        self.place = place_of(link, self.where)
        if self.place.kind != "mem":
            raise DesignError(
                "link not on a mem tile",
                where=self.where,
                found=self.place,
                do="Place split, join and forward in row 1.",
            )
        self.is_join, self.is_split = len(link._srcs) > 1, len(link._dsts) > 1
        inner = link._srcs[0]._object_fifo, link._dsts[0]._object_fifo
        sizes = [len_of(fifo) for fifo in inner]
        on_source_side = self.is_split or (not self.is_join and sizes[0] >= sizes[1])
        self.owner_end = link._srcs[0] if on_source_side else link._dsts[0]
        self.owner = self.owner_end._object_fifo
        self.parts = self._parts()
        self.memories: list[Memory] | None = None
        self.pairs: list[tuple[Lock, Lock]] = []
        self.sides: set[Any] = set()

    def _parts(self) -> list[tuple[int, int]]:
        """(offset, bytes) of each part of an object."""
        total, itemsize = self.owner._object_bytes, self.owner.dtype.itemsize
        if not (self.is_join or self.is_split):
            return [(0, total)]
        ends, offsets = (
            (self.link._srcs, self.link._src_offsets) if self.is_join else (self.link._dsts, self.link._dst_offsets)
        )
        starts = [offset * itemsize for offset in offsets]
        parts = [(start, stop - start) for start, stop in zip(starts, [*starts[1:], total], strict=True)]
        for end, (_, length) in zip(ends, parts, strict=True):
            if end._object_fifo._object_bytes != length:
                raise DesignError(
                    "part and object differ",
                    where=f"{self.where}, fifo {end.name}",
                    found=f"objects of {end._object_fifo._object_bytes} bytes",
                    limit=f"{length} bytes, from the offsets",
                    do="Make the offsets those of the parts' sizes, in order.",
                )
        return parts

    def _allocate(self, uniform: bool) -> None:
        depth = self.owner_end.depth
        suffix = "" if self.owner_end._is_prod else "_cons"
        name = self.owner.name + suffix
        self.memories = self.lowering._objects(self.owner, self.place, depth, name)
        for i in range(len(self.parts)):
            self.pairs.append(
                self.lowering._lock_pair(self.place, f"{name}_{i}" if len(self.parts) > 1 else name, depth)
            )

    def descriptors(self, end: Any, place: Place, dims: Any, uniform: bool) -> list[Descriptor]:
        """The descriptors of one side, in the order of the channel's round."""
        if self.memories is None:
            self._allocate(uniform)
        assert self.memories is not None
        self.sides.add(end)
        channel = Channel(place, "MM2S" if end._is_prod else "S2MM", -1, end.name)
        several = self.is_split if end in self.link._srcs else self.is_join
        ours = range(len(self.parts))
        if (self.is_split or self.is_join) and not several:
            ours = range(0)
            index = (self.link._dsts if self.is_split else self.link._srcs).index(end)
            ours = range(index, index + 1)
        found = []
        for memory in self.memories:
            for part in ours:
                offset, length = self.parts[part]
                pattern = tile_pattern(channel, dims, self.owner.dtype.itemsize, offset, length)
                free, full = self.pairs[part]
                acquire, release = (full, free) if end._is_prod else (free, full)
                found.append(Descriptor(memory, pattern, (acquire, 1), (release, 1)))
        return found

    def check_both_sides(self) -> None:
        for end in self.link._srcs + self.link._dsts:
            if end not in self.sides:
                raise DesignError(
                    "link with an open end", where=self.where, found=end.name, do="Give the FIFO its other end."
                )
            size, total = end._object_fifo._object_bytes, self.owner._object_bytes
            if not (self.is_join or self.is_split) and total % size:
                raise DesignError(
                    "forward between sizes that do not divide",
                    where=self.where,
                    found=f"{size} and {total} bytes",
                    do="Make one object a multiple of the other.",
                )


def len_of(fifo: Any) -> int:
    """Elements of an object."""
    return int(fifo._object_bytes // fifo.dtype.itemsize)


__all__ = ["linear", "lower"]
