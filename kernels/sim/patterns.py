"""Transfers' layouts: from (size, stride) pairs and access patterns to byte patterns the DMA can do, or a refusal.

The DMA counts in words of 4 bytes. An element of 2 bytes can be moved only as half of a word that goes with its
neighbour: the innermost stride is then 1. Limits differ by the kind of tile (hardware.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from . import hardware
from .errors import DesignError
from .program import Channel, Pattern, Place


def linear(offset: int, nbytes: int) -> Pattern:
    """Bytes side by side."""
    return Pattern(offset, (nbytes,), (1,), 1)


def tile_pattern(channel: Channel, dims: Any, itemsize: int, offset: int, nbytes: int) -> Pattern:
    """The layout of a core's or mem tile's descriptor for an object (or part) of `nbytes` at `offset`."""
    where = f"fifo {channel.fifo}, {channel.place} {channel.direction}"
    whole_words(where, "length", nbytes)
    whole_words(where, "offset", offset)
    if not dims:
        return linear(offset, nbytes)
    sizes, strides = tuple(int(size) for size, _ in dims), tuple(int(stride) for _, stride in dims)
    for size, stride in zip(sizes, strides, strict=True):
        if size < 1 or stride < 1:
            raise DesignError(
                "size or stride below 1",
                where=where,
                found=(size, stride),
                limit="positive integers",
                do="Leave dimensions of size 1 out; a repeat is not possible here.",
            )
        if size > hardware.COMPILER_MAX_SIZE:
            raise DesignError(
                "size too large",
                where=where,
                found=size,
                limit=f"{hardware.COMPILER_MAX_SIZE} (mlir-aie's verifier)",
                do="Split the dimension in two.",
            )
    check_dimensions(where, channel.place, sizes, strides, itemsize)
    pattern = Pattern(offset, sizes, tuple(stride * itemsize for stride in strides), itemsize)
    if pattern.nbytes != nbytes:
        raise DesignError(
            "layout and object differ",
            where=where,
            found=f"dims {list(zip(sizes, strides, strict=True))} of {pattern.nbytes} bytes",
            limit=f"{nbytes} bytes",
            do="Cover every element of the object (of the part, for split and join).",
        )
    if pattern.end - offset > nbytes:
        raise DesignError(
            "layout leaves the object",
            where=where,
            found=f"byte {pattern.end - offset - 1}",
            limit=f"{nbytes} bytes",
            do="Strides are in elements of the FIFO's type.",
        )
    return pattern


def check_dimensions(where: str, place: Place, sizes: Sequence[int], strides: Sequence[int], itemsize: int) -> None:
    """Refuses what the address generator of this kind of tile cannot count."""
    kind = place.kind
    if len(sizes) > hardware.DIMENSIONS[kind]:
        raise DesignError(
            "too many dimensions",
            where=where,
            found=len(sizes),
            limit=f"{hardware.DIMENSIONS[kind]} on a {kind} tile",
            do="Merge dimensions that lie side by side, or reorder on the mem tile, which has 4.",
        )
    if strides[-1] != 1 and itemsize != hardware.WORD:
        raise DesignError(
            "stride below the DMA's granularity",
            where=where,
            found=f"innermost stride {strides[-1]} elements of {itemsize} bytes = {strides[-1] * itemsize} bytes apart",
            limit="whole words of 4 bytes: innermost stride 1 for types that are not 4 bytes",
            do="Keep pairs of elements together, or transpose in the kernel.",
        )
    whole_words(where, "innermost size", sizes[-1] * itemsize)
    step_limit, wrap_limit = 1 << hardware.STEP_BITS[kind], (1 << hardware.WRAP_BITS[kind]) - 1
    for i, (size, stride) in enumerate(zip(sizes, strides, strict=True)):
        innermost, outermost = i == len(sizes) - 1, i == 0
        if size > 1 and not innermost:
            whole_words(where, f"stride {stride} elements", stride * itemsize)
        if size > 1 and stride * itemsize // hardware.WORD > step_limit:
            raise DesignError(
                "stride too large",
                where=where,
                found=f"{stride * itemsize} bytes",
                limit=f"{step_limit * hardware.WORD} bytes",
                do="Use several transfers, or a layout with nearer rows.",
            )
        wrap = size * itemsize // hardware.WORD if innermost else size
        full = len(sizes) == hardware.DIMENSIONS[kind]
        uncounted = (outermost and full) or (kind == "shim" and i == 1)  # ends with the transfer's length
        if not uncounted and wrap > wrap_limit and len(sizes) > 1:
            raise DesignError(
                "wrap too large",
                where=where,
                found=f"{wrap} {'words' if innermost else 'steps'} in dimension {i} of {len(sizes)}",
                limit=f"{wrap_limit} on a {kind} tile",
                do="Split the dimension in two.",
            )


def whole_words(where: str, what: str, nbytes: int) -> None:
    """Refuses a number of bytes that is not whole words."""
    if nbytes % hardware.WORD:
        raise DesignError(
            f"{what} is not whole words",
            where=where,
            found=f"{nbytes} bytes",
            limit=f"multiples of {hardware.WORD} bytes",
            do="The DMA moves words of 4 bytes; pad, or keep two 2-byte elements together.",
        )
