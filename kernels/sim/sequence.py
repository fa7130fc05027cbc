"""The runtime sequence, lowered: transfers on shim channels with their descriptors, run-time parameters, locks."""

from __future__ import annotations

from collections.abc import Iterable
from math import prod
from typing import Any

from . import hardware
from .errors import DesignError
from .patterns import check_dimensions, whole_words
from .program import ArrayProgram, Channel, Core, Memory, Pattern, Place, Transfer


def lower_sequence(
    module: Any,
    program: ArrayProgram,
    channels: dict[tuple[Any, bool], Channel],
    memories: dict[Any, Memory],
    cores: Iterable[Core],
) -> None:
    """Fills `program.transfers` and `program.sequence`; descriptors are given out and freed as upstream does."""
    free = {Place(col, 0): list(range(hardware.DESCRIPTORS["shim"])) for col in range(program.columns)}
    transfers: dict[Any, Transfer] = {}
    arguments = {id(data): i for i, data in enumerate(program.arguments)}
    for kind, *operands in module.sequence:
        if kind == "dma":
            task = operands[0]
            channel = channels[task.fifo._object_fifo, task.fifo._is_prod]
            transfer = _transfer(task, channel, len(program.transfers), arguments[id(task.data)])
            available = free[channel.place]
            if not available:
                raise DesignError(
                    "too many buffer descriptors",
                    where=f"{channel.place}, {transfer}",
                    found=f"{hardware.DESCRIPTORS['shim'] + 1} transfers without a finished task group between",
                    limit=f"{hardware.DESCRIPTORS['shim']} descriptors",
                    do="Finish a task group earlier; its descriptors are free then.",
                )
            transfer.descriptor = available.pop(0)
            transfers[task] = transfer
            program.transfers.append(transfer)
            program.sequence.append(("push", transfer))
        elif kind in {"await", "free"}:
            transfer = transfers[operands[0]]
            free[transfer.channel.place].append(transfer.descriptor)
            free[transfer.channel.place].sort()
            program.sequence.append((kind, transfer))
        elif kind == "rtp":
            buffer, index, value = operands
            if buffer not in memories:
                raise DesignError(
                    "run-time parameter of no core",
                    where=f"buffer {buffer._name}",
                    found="no worker has it",
                    do="Pass the Buffer to its Worker in fn_args.",
                )
            program.sequence.append((kind, memories[buffer], index, value))
        elif kind == "barrier":
            barrier, value = operands
            for core in cores:
                if barrier in core.barriers:
                    program.sequence.append(("lock", core.barriers[barrier], value))


def _transfer(task: Any, channel: Channel, number: int, argument: int) -> Transfer:
    data, tap = task.data, task.tap
    itemsize = data.dtype.itemsize
    sizes, strides = [int(s) for s in tap.sizes], [int(s) for s in tap.strides]
    where = f"{'fill' if channel.direction == 'MM2S' else 'drain'} {number} of {channel.fifo} at {channel.place}"
    if len(sizes) != hardware.DIMENSIONS["shim"] and sizes[0] > 1:
        raise DesignError(
            "access pattern without all dimensions",
            where=where,
            found=f"{len(sizes)} dimensions {sizes}",
            limit="4 (mlir-aie takes the first as the repeat count)",
            do="Put sizes of 1 in front.",
        )
    sizes, strides = [1] * (4 - len(sizes)) + sizes, [0] * (4 - len(strides)) + strides
    repeat, repeat_stride = sizes[0], strides[0] if sizes[0] > 1 else 0
    whole_words(where, "offset", int(tap.offset) * itemsize)
    whole_words(where, "length", prod(sizes[1:]) * itemsize)
    inner = Pattern(
        int(tap.offset) * itemsize, tuple(sizes[1:]), tuple(stride * itemsize for stride in strides[1:]), itemsize
    )
    _check_shim_dimensions(where, channel.place, sizes, strides, itemsize, inner)
    if repeat > hardware.MAX_REPEAT:
        raise DesignError(
            "repeat too large",
            where=where,
            found=repeat,
            limit=hardware.MAX_REPEAT,
            do="Use several transfers.",
        )
    total = prod(data.shape) * itemsize
    last = inner.end + (repeat - 1) * repeat_stride * itemsize
    if last > total:
        raise DesignError(
            "transfer outside of the host buffer",
            where=where,
            found=f"byte {last - 1}",
            limit=f"{total} bytes",
            do="Check offset, sizes and strides of the access pattern.",
        )
    return Transfer(number, channel, argument, inner, repeat, repeat_stride * itemsize, task.wait, -1)


def _check_shim_dimensions(
    where: str, place: Place, sizes: list[int], strides: list[int], itemsize: int, inner: Pattern
) -> None:
    for i, (size, stride) in enumerate(zip(sizes[1:], strides[1:], strict=True)):
        if size > 1 and stride < 1:
            raise DesignError(
                "stride 0 inside a transfer",
                where=where,
                found=f"size {size}, stride {stride} in dimension {i + 1}",
                limit="only the outermost dimension may repeat",
                do="Move the repeat to the outermost dimension.",
            )
    if sizes[0] > 1 and strides[0] > 0 and sizes[0] > 1 << hardware.ITERATION_BITS:
        raise DesignError(
            "wrap too large",
            where=where,
            found=f"{sizes[0]} iterations with a stride",
            limit=1 << hardware.ITERATION_BITS,
            do="Use several transfers.",
        )
    if inner.run < inner.nbytes:  # a linear transfer has no dimensions to count
        check_dimensions(where, place, sizes, strides, itemsize)
    elif sizes[2] > (1 << hardware.WRAP_BITS["shim"]) - 1:
        raise DesignError(
            "wrap too large",
            where=where,
            found=f"{sizes[2]} in dimension 2",
            limit=(1 << hardware.WRAP_BITS["shim"]) - 1,
            do="Give a linear transfer as one dimension: sizes [1, 1, 1, n].",
        )
    else:
        check_dimensions(where, place, [sizes[0], 1], [strides[0], 1], hardware.WORD)
