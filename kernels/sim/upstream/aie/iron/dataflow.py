"""Object FIFOs: typed queues between cores, mem tiles and DDR, and the links that split, join and forward them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .. import _trace
from .device import AnyMemTile, Tile
from .dtype import array_bytes, array_dtype, array_shape
from .placeable import Placeable

Dims = list[Sequence[int]] | None


class ObjectFifoEndpoint(Placeable):
    """Where an end of a FIFO is."""

    def _handles(self) -> list[ObjectFifoHandle]:
        """The ends of other FIFOs that meet here; only links have such."""
        return []


class ObjectFifo:
    """A queue of `depth` objects of one type from one producer to one or more consumers."""

    __index = 0

    def __init__(
        self,
        obj_type: Any,
        depth: int | None = 2,
        name: str | None = None,
        dims_to_stream: Dims = None,
        dims_from_stream_per_cons: Dims = None,
        plio: bool = False,
        pad_dimensions: Dims = None,
    ) -> None:
        if isinstance(depth, int) and depth < 1:
            raise ValueError(f"Default ObjectFifo depth must be > 0, but got {depth}")
        if plio or pad_dimensions:
            raise NotImplementedError("ObjectFifo(plio=…, pad_dimensions=…) is not simulated")
        self._depth = depth
        self._obj_type = obj_type
        self._dims_to_stream = dims_to_stream
        self._dims_from_stream_per_cons = dims_from_stream_per_cons
        if name is None:
            name = f"of{ObjectFifo.__index}"
            ObjectFifo.__index += 1
        self.name = name
        self._prod: ObjectFifoHandle | None = None
        self._cons: list[ObjectFifoHandle] = []

    @property
    def depth(self) -> int | None:
        """Default depth of its ends."""
        return self._depth

    @property
    def dims_from_stream_per_cons(self) -> Dims:
        """Default layout in which consumers store."""
        return self._dims_from_stream_per_cons

    @property
    def dims_to_stream(self) -> Dims:
        """Layout in which the producer sends."""
        return self._dims_to_stream

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of an object."""
        return array_shape(self._obj_type)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of an object's elements."""
        return array_dtype(self._obj_type)

    @property
    def obj_type(self) -> Any:
        """Type of an object."""
        return self._obj_type

    @property
    def _object_bytes(self) -> int:
        """Bytes of an object."""
        return array_bytes(self._obj_type)

    def __str__(self) -> str:
        prod = self._prod.endpoint if self._prod else None
        cons = [c.endpoint for c in self._cons]
        return f"ObjectFifo({self._obj_type}, depth={self.depth}, name='{self.name}', prod={prod}, cons={cons})"

    def prod(self, depth: int | None = None) -> ObjectFifoHandle:
        """The producer's end; there is one."""
        if self._prod is None:
            self._prod = ObjectFifoHandle(self, True, depth)
        elif depth is None and self._depth is None:
            raise ValueError("If depth is None, then depth must be specified.")
        elif depth is not None and depth < 1:
            raise ValueError(f"Depth must be > 1, but got {depth}")
        return self._prod

    def cons(self, depth: int | None = None, dims_from_stream: Dims = None) -> ObjectFifoHandle:
        """A new consumer's end; with several, each gets every object."""
        if depth is None:
            depth = self._depth
        if depth is None:
            raise ValueError("If depth is None, then depth must be specified.")
        if dims_from_stream is None:
            dims_from_stream = self._dims_from_stream_per_cons
        self._cons.append(ObjectFifoHandle(self, is_prod=False, depth=depth, dims_from_stream=dims_from_stream))
        return self._cons[-1]

    def _get_endpoint(self, is_prod: bool) -> list[Any]:
        if is_prod:
            if self._prod is None:
                raise ValueError(f"Prod endpoint not set for {self}")
            return [self._prod.endpoint]
        if not self._cons:
            raise ValueError(f"Cons endpoint not set for {self}")
        return [handle.endpoint for handle in self._cons]

    def _endpoints(self) -> list[Any]:
        endpoints = self._get_endpoint(True) + self._get_endpoint(False)
        if None in endpoints:
            raise ValueError(
                f"ObjectFifo {self.name}: a {'consumer' if endpoints[0] else 'producer'} handle was made and given to "
                "nobody; give it to a Worker, a link, rt.fill or rt.drain"
            )
        return endpoints


class ObjectFifoHandle:
    """An end of a FIFO."""

    __count = 0

    def __init__(self, of: ObjectFifo, is_prod: bool, depth: int | None = None, dims_from_stream: Dims = None) -> None:
        depth = depth if depth is not None else of.depth
        if not depth:
            raise ValueError("Must specify either ObjectFifoHandle depth or ObjectFifo default depth; both are None.")
        if depth < 1:
            raise ValueError(f"Depth must be > 0 but is {depth}")
        if is_prod and dims_from_stream:
            raise ValueError("Can only specify dims_from_stream for cons handles")
        if not is_prod and not dims_from_stream:
            dims_from_stream = of.dims_from_stream_per_cons
        self._is_prod = is_prod
        self._object_fifo = of
        self._depth = depth
        self._endpoint: Any = None
        self._dims_from_stream = dims_from_stream
        self._number = ObjectFifoHandle.__count
        ObjectFifoHandle.__count += 1

    def acquire(self, num_elem: int) -> Any:
        """In a core function: hold `num_elem` objects; one is returned itself, several as a list."""
        if self._depth < num_elem:
            raise ValueError(f"Number of elements to acquire {num_elem} must be smaller than depth {self._depth}")
        if num_elem < 1:
            raise ValueError("Must consume at least one element")
        op = _trace.Acquire(self, num_elem)
        _trace.recorder(f"{self.name}.acquire").emit(op)
        elements = [_trace.Element(self, op, i) for i in range(num_elem)]
        return elements[0] if num_elem == 1 else elements

    def release(self, num_elem: int) -> None:
        """In a core function: give the oldest `num_elem` held objects on."""
        if self._depth < num_elem:
            raise ValueError(f"Number of elements to release {num_elem} must be smaller than depth {self._depth}")
        if num_elem < 1:
            raise ValueError("Must produce at least one element")
        _trace.recorder(f"{self.name}.release").emit(_trace.Release(self, num_elem))

    @property
    def name(self) -> str:
        """Name of the FIFO."""
        return self._object_fifo.name

    @property
    def obj_type(self) -> Any:
        """Type of an object."""
        return self._object_fifo.obj_type

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of an object."""
        return self._object_fifo.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of an object's elements."""
        return self._object_fifo.dtype

    @property
    def handle_type(self) -> str:
        """'prod' or 'cons'."""
        return "prod" if self._is_prod else "cons"

    @property
    def depth(self) -> int:
        """Objects at this end."""
        return self._depth

    @property
    def dims_from_stream(self) -> Dims:
        """Layout in which this consumer stores."""
        if self._is_prod:
            raise ValueError("prod ObjectFifoHandles cannot have dims_from_stream")
        return self._dims_from_stream

    @property
    def endpoint(self) -> Any:
        """Who has this end."""
        return self._endpoint

    @endpoint.setter
    def endpoint(self, endpoint: Any) -> None:
        if self._endpoint and self._endpoint != endpoint:
            raise ValueError(
                f"Endpoint already set for ObjectFifoHandle {self.name}.{self.handle_type}: "
                f"Set to {self._endpoint}, trying to set to {endpoint}"
            )
        self._endpoint = endpoint

    def all_of_endpoints(self) -> list[Any]:
        """Both ends of its FIFO."""
        return self._object_fifo._endpoints()

    def join(
        self,
        offsets: list[int],
        placement: Any = AnyMemTile,
        depths: list[int] | None = None,
        obj_types: list[Any] | None = None,
        names: list[str] | None = None,
        dims_to_stream: list[Any] | None = None,
        dims_from_stream: list[Any] | None = None,
        plio: bool = False,
    ) -> list[ObjectFifo]:
        """FIFOs whose objects become parts, at `offsets` (elements), of this producer's objects."""
        if not self._is_prod:
            raise ValueError(f"Cannot join() a {self.handle_type} ObjectFifoHandle")
        depths, obj_types, names, dims_to_stream, dims_from_stream = self._parts(
            len(offsets), "_join", depths, obj_types, names, dims_to_stream, dims_from_stream
        )
        parts = [
            ObjectFifo(kind, name=name, depth=depth, dims_to_stream=dims, plio=plio)
            for kind, name, depth, dims in zip(obj_types, names, depths, dims_to_stream, strict=True)
        ]
        ends = [
            part.cons(depth=depth, dims_from_stream=dims)
            for part, depth, dims in zip(parts, depths, dims_from_stream, strict=True)
        ]
        ObjectFifoLink(ends, self, placement, offsets, [])
        return parts

    def split(
        self,
        offsets: list[int],
        placement: Any = AnyMemTile,
        depths: list[int] | None = None,
        obj_types: list[Any] | None = None,
        names: list[str] | None = None,
        dims_to_stream: list[Any] | None = None,
        dims_from_stream: list[Any] | None = None,
        plio: bool = False,
    ) -> list[ObjectFifo]:
        """FIFOs that each get a part, at `offsets` (elements), of this consumer's objects."""
        if self._is_prod:
            raise ValueError(f"Cannot split() a {self.handle_type} ObjectFifoHandle")
        depths, obj_types, names, dims_to_stream, dims_from_stream = self._parts(
            len(offsets), "_split", depths, obj_types, names, dims_to_stream, dims_from_stream
        )
        parts = [
            ObjectFifo(
                kind, name=name, depth=depth, dims_to_stream=to, dims_from_stream_per_cons=from_stream, plio=plio
            )
            for kind, name, depth, to, from_stream in zip(
                obj_types, names, depths, dims_to_stream, dims_from_stream, strict=True
            )
        ]
        ObjectFifoLink(self, [part.prod() for part in parts], placement, [], offsets)
        return parts

    def _parts(self, count: int, suffix: str, *given: list[Any] | None) -> list[list[Any]]:
        defaults: list[list[Any]] = [
            [self.depth] * count,
            [self.obj_type] * count,
            [f"{self.name}{suffix}{i}" for i in range(count)],
            [[]] * count,
            [[]] * count,
        ]
        words = ("depths", "obj_types", "names", "dims to stream", "dims_from_stream")
        for word, values in zip(words, given, strict=True):
            if values is not None and len(values) != count:
                raise ValueError(f"Number of {word} does not match number of offsets")
        return [default if values is None else values for values, default in zip(given, defaults, strict=True)]

    def forward(
        self,
        placement: Any = AnyMemTile,
        obj_type: Any = None,
        depth: int | None = None,
        name: str | None = None,
        dims_to_stream: Dims = None,
        dims_from_stream: Dims = None,
        plio: bool = False,
    ) -> ObjectFifo:
        """One FIFO that gets this consumer's objects, possibly in another layout."""
        if self._is_prod:
            raise ValueError(f"Cannot forward a {self.handle_type} ObjectFifoHandle")
        return self.split(
            [0],
            placement=placement,
            obj_types=[obj_type] if obj_type else None,
            depths=[depth] if depth else None,
            names=[name if name else self.name + "_fwd"],
            dims_to_stream=[dims_to_stream] if dims_to_stream else None,
            dims_from_stream=[dims_from_stream] if dims_from_stream else None,
            plio=plio,
        )[0]


class ObjectFifoLink(ObjectFifoEndpoint):
    """The place where FIFOs meet: one to many (split), many to one (join), one to one (forward)."""

    def __init__(
        self,
        srcs: list[ObjectFifoHandle] | ObjectFifoHandle,
        dsts: list[ObjectFifoHandle] | ObjectFifoHandle,
        placement: Any = AnyMemTile,
        src_offsets: list[int] = [],  # noqa: B006  upstream's signature
        dst_offsets: list[int] = [],  # noqa: B006
    ) -> None:
        self._srcs = srcs if isinstance(srcs, list) else [srcs]
        self._dsts = dsts if isinstance(dsts, list) else [dsts]
        self._src_offsets = src_offsets
        self._dst_offsets = dst_offsets
        if not self._srcs:
            raise ValueError("An ObjectFifoLink must have at least one source")
        if not self._dsts:
            raise ValueError("An ObjectFifoLink must have at least one destination")
        if len(self._srcs) != 1 and len(self._dsts) != 1:
            raise ValueError("An ObjectFifoLink may only have > 1 of either sources or destinations, but not both")
        if src_offsets and len(src_offsets) != len(self._srcs):
            raise ValueError("The number of source offsets does not match the number of sources")
        if dst_offsets and len(dst_offsets) != len(self._dsts):
            raise ValueError("The number of destination offsets does not match the number of destinations")
        for handle in self._srcs + self._dsts:
            handle.endpoint = self
        super().__init__(placement)

    def _handles(self) -> list[ObjectFifoHandle]:
        return self._srcs + self._dsts

    def __str__(self) -> str:
        where = self.tile if isinstance(self.tile, Tile) else self.tile.__name__
        return f"link at {where} [{', '.join(h.name for h in self._srcs)}] → [{', '.join(h.name for h in self._dsts)}]"
