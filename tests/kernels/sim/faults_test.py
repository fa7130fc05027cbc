"""Designs that the hardware could not run: each is refused, with the right reason."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from kernels.sim import DesignError, lower
from tests.kernels.sim import designs
from tests.kernels.sim.designs import ObjectFifo, Runtime, TensorAccessPattern, Tile, Worker, array


def third_shim_channel() -> Any:
    part = array(64)
    fifos = [ObjectFifo(part, name=f"in{i}") for i in range(3)]

    def core(*ends: Any) -> None:
        for end in ends:
            end.acquire(1)
            end.release(1)

    rt = Runtime()
    with rt.sequence(*[part] * 3) as buffers:
        rt.start(*[Worker(core, [fifo.cons()], placement=Tile(0, 2 + i)) for i, fifo in enumerate(fifos)])
        for fifo, buffer in zip(fifos, buffers, strict=True):
            rt.fill(fifo.prod(), buffer, wait=True, placement=Tile(0, 0))
    return designs.resolve(rt)


def too_many_core_inputs() -> Any:
    part = array(64)
    fifos = [ObjectFifo(part, name=f"in{i}") for i in range(3)]

    def core(*ends: Any) -> None:
        for end in ends:
            end.acquire(1)
            end.release(1)

    rt = Runtime()
    with rt.sequence(*[part] * 3) as buffers:
        rt.start(Worker(core, [fifo.cons() for fifo in fifos], placement=Tile(0, 2)))
        for i, (fifo, buffer) in enumerate(zip(fifos, buffers, strict=True)):
            rt.fill(fifo.prod(), buffer, wait=True, placement=Tile(i, 0))
    return designs.resolve(rt)


def chain_of_transfers(per_group: int, wait: bool = True) -> Any:
    whole = array(64)
    fifo = ObjectFifo(whole, name="in")
    out = fifo.cons().forward(name="out", placement=Tile(0, 1))
    rt = Runtime()
    with rt.sequence(whole, whole) as (source, sink):
        for _ in range(2):
            group = rt.task_group()
            for _ in range(per_group):
                rt.fill(fifo.prod(), source, placement=Tile(0, 0), task_group=group)
                rt.drain(out.cons(), sink, wait=wait, placement=Tile(0, 0), task_group=group)
            rt.finish_task_group(group)
    return designs.resolve(rt)


def l2_overflow() -> Any:
    big = array(200 * 1024 // 4)
    rt = Runtime()
    fifos = [ObjectFifo(big, depth=2, name=f"big{i}") for i in range(4)]
    outs = [fifo.cons().forward(placement=Tile(3 if i < 2 else 4, 1)) for i, fifo in enumerate(fifos)]
    more = ObjectFifo(big, depth=2, name="more")
    outs.append(more.cons().forward(placement=Tile(3, 1)))
    left = ObjectFifo(big, depth=2, name="left")
    outs.append(left.cons().forward(placement=Tile(2, 1)))
    fifos += [more, left]
    with rt.sequence(big, big) as (a, b):
        for i, (fifo, out) in enumerate(zip(fifos, outs, strict=True)):
            rt.fill(fifo.prod(), a, placement=Tile(i, 0))
            rt.drain(out.cons(), b, wait=True, placement=Tile(i, 0))
    return designs.resolve(rt)


WHOLE = array(4096)

REFUSED: dict[str, tuple[Callable[[], Any], str]] = {
    "a FIFO too deep": (
        lambda: designs.elementwise(count=65536, tile=4096, depth=2),
        r"L1 overflow: core tile \(0, 2\): found 99328 bytes \(a_cons 32768.*limit 65536",
    ),
    "a FIFO too deep for a lock": (
        lambda: _deep_lock(),
        r"FIFO too deep for a lock: fifo deep_cons, mem tile \(0, 1\): found depth 64, limit 63",
    ),
    "a third shim channel": (
        third_shim_channel,
        r"too many MM2S DMA channels: fifo in2, shim tile \(0, 0\): found 3 FIFOs \(in0, in1, in2\), limit 2",
    ),
    "a third input of a core": (
        too_many_core_inputs,
        r"too many S2MM DMA channels: fifo in2, core tile \(0, 2\): found 3 FIFOs",
    ),
    "a stride of two bytes": (
        lambda: designs.passthrough(
            array(64, dtype=np.int16), array(64, dtype=np.int16), dims_to_stream=[(32, 1), (2, 32)]
        ),
        r"stride below the DMA's granularity: fifo out, mem tile \(0, 1\) MM2S: found innermost stride 32",
    ),
    "an odd stride of two-byte elements": (
        lambda: designs.passthrough(
            array(64, dtype=np.int16), array(64, dtype=np.int16), dims_to_stream=[(2, 31), (16, 2), (2, 1)]
        ),
        r"stride 31 elements is not whole words: .* found 62 bytes",
    ),
    "three bytes": (
        lambda: designs.passthrough(array(63, dtype=np.int8), array(63, dtype=np.int8)),
        r"length is not whole words: fifo in, mem tile \(0, 1\) S2MM: found 63 bytes, limit multiples of 4",
    ),
    "a missing release": (
        lambda: designs.elementwise(no_release=True),
        r"a missing release: core \(0, 2\), fifo b: a loop holds 1 more after every round.*Call b's release\(1\)",
    ),
    "too many acquires for a round": (
        lambda: designs.elementwise(acquire=2),
        r"a missing release: core \(0, 2\), fifo a: a loop holds 1 more after every round",
    ),
    "too many transfers at once": (
        lambda: chain_of_transfers(9),
        r"too many buffer descriptors: shim tile \(0, 0\).*found 17 transfers without a finished task group",
    ),
    "too many descriptors on a core": (
        lambda: _deep_core(),
        r"too many buffer descriptors: core tile \(0, 2\): found 18 \(a S2MM 9, c MM2S 9\), limit 16",
    ),
    "too many descriptors on a mem tile": (
        lambda: _deep_split(),
        r"too many buffer descriptors: mem tile \(0, 1\), even channels: found 30.*limit 24",
    ),
    "L2 overflow": (l2_overflow, r"L2 overflow: mem tile \(3, 1\): found 8\d\d\d\d\d bytes.*limit 524288"),
    "a wrap too large on a core": (
        lambda: _core_wrap(),
        r"wrap too large: fifo c, core tile \(0, 2\) MM2S: found 256 words in dimension 1 of 2, limit 255",
    ),
    "a size that upstream refuses": (
        lambda: designs.passthrough(WHOLE, WHOLE, dims_to_stream=[(4, 1024), (1024, 1)]),
        r"size too large: fifo out.*found 1024, limit 512",
    ),
    "too many dimensions on a core": (
        lambda: _core_wrap([(2, 128), (2, 64), (2, 32), (32, 1)]),
        r"too many dimensions: fifo c, core tile \(0, 2\) MM2S: found 4, limit 3 on a core tile",
    ),
    "a layout that leaves the object": (
        lambda: designs.passthrough(array(64), array(64), dims_to_stream=[(8, 16), (8, 1)]),
        r"layout leaves the object: fifo out.*found byte 479, limit 256 bytes",
    ),
    "a layout that forgets elements": (
        lambda: designs.passthrough(array(64), array(64), dims_to_stream=[(4, 8), (8, 1)]),
        r"layout and object differ: fifo out.*128 bytes, limit 256",
    ),
    "a repeat inside of a transfer": (
        lambda: _tap([1, 2, 1, 32], [0, 0, 0, 1]),
        r"stride 0 inside a transfer",
    ),
    "too many repeats": (lambda: _tap([300, 1, 1, 4], [0, 0, 0, 1]), r"repeat too large.*found 300, limit 256"),
    "too many strided iterations": (
        lambda: _tap([65, 1, 1, 4], [4, 0, 0, 1]),
        r"wrap too large.*found 65 iterations with a stride, limit 64",
    ),
    "a shim wrap too large": (
        lambda: _tap([1, 1, 1024, 2], [0, 0, 4, 1], 8192),
        r"wrap too large: fill 0 of in at shim tile \(0, 0\): found 1024 steps in dimension 2 of 4, limit 1023",
    ),
    "a tap of two dimensions": (
        lambda: _tap([2, 32], [32, 1]),
        r"access pattern without all dimensions: .*found 2 dimensions",
    ),
    "a transfer outside of its buffer": (
        lambda: _tap([1, 1, 2, 32], [0, 0, 64, 1]),
        r"transfer outside of the host buffer.*found byte 383, limit 256 bytes",
    ),
    "layout at the shim": (
        lambda: _shim_layout(),
        r"layout change at the shim: fifo in.*TensorAccessPattern",
    ),
    "a stack that misaligns": (
        lambda: designs.elementwise(worker={"stack_size": 1000}),
        r"buffer not aligned for vectors: core \(0, 2\).*multiples of 64",
    ),
    "no route": (lambda: _crowd(), r"no route: from core tile \(0, 2\) to mem tile \(0, 1\).*limit 4 circuits"),
}


def _deep_lock() -> Any:
    part = array(16)
    fifo = ObjectFifo(part, depth=64, name="deep")
    out = fifo.cons().forward(placement=Tile(0, 1))
    rt = Runtime()
    with rt.sequence(part, part) as (a, b):
        rt.fill(fifo.prod(), a, placement=Tile(0, 0))
        rt.drain(out.cons(), b, wait=True, placement=Tile(0, 0))
    return designs.resolve(rt)


def _deep_core() -> Any:
    part = array(16)
    a, c = ObjectFifo(part, depth=9, name="a"), ObjectFifo(part, depth=9, name="c")

    def core(a: Any, c: Any) -> None:
        a.acquire(8)
        c.acquire(8)
        a.release(8)
        c.release(8)

    rt = Runtime()
    with rt.sequence(array(256), array(256)) as (source, sink):
        rt.start(Worker(core, [a.cons(), c.prod()], placement=Tile(0, 2)))
        rt.fill(a.prod(), source, placement=Tile(0, 0))
        rt.drain(c.cons(), sink, wait=True, placement=Tile(0, 0))
    return designs.resolve(rt)


def _deep_split() -> Any:
    part, rounds = array(16), array(64)
    fifo = ObjectFifo(rounds, depth=5, name="in")
    parts = fifo.cons().split([0, 16, 32, 48], obj_types=[part] * 4, placement=Tile(0, 1))

    def core(x: Any) -> None:
        x.acquire(1)
        x.release(1)

    rt = Runtime()
    with rt.sequence(array(256)) as source:
        rt.start(*[Worker(core, [p.cons()], placement=Tile(0, 2 + i)) for i, p in enumerate(parts)])
        rt.fill(fifo.prod(), source, wait=True, placement=Tile(0, 0))
    return designs.resolve(rt)


def _core_wrap(dims: Any = ((1, 256), (256, 1))) -> Any:
    part = array(256)
    fifo = ObjectFifo(part, name="c", dims_to_stream=list(dims))

    def core(c: Any) -> None:
        c.acquire(1)
        c.release(1)

    rt = Runtime()
    with rt.sequence(part) as sink:
        rt.start(Worker(core, [fifo.prod()], placement=Tile(0, 2)))
        rt.drain(fifo.cons(), sink, wait=True, placement=Tile(0, 0))
    return designs.resolve(rt)


def _tap(sizes: list[int], strides: list[int], count: int = 64) -> Any:
    tap = TensorAccessPattern((count,), 0, sizes, strides)
    return designs.passthrough(array(count), array(16), tap=tap)


def _shim_layout() -> Any:
    part = array(64)
    fifo = ObjectFifo(part, name="in", dims_to_stream=[(8, 1), (8, 8)])
    out = fifo.cons().forward(placement=Tile(0, 1))
    rt = Runtime()
    with rt.sequence(part, part) as (a, b):
        rt.fill(fifo.prod(), a, placement=Tile(0, 0))
        rt.drain(out.cons(), b, wait=True, placement=Tile(0, 0))
    return designs.resolve(rt)


def _crowd() -> Any:
    """Twelve streams from the cores of a one-column array to its shim and mem tile; four circuits lead down."""
    from aie.iron import Program
    from aie.iron.device import NPU2Col1

    part, joined = array(64), array(384)

    def core(a: Any, b: Any) -> None:
        for end in (a, b):
            end.acquire(1)
            end.release(1)

    out = ObjectFifo(joined, name="out")
    parts = out.prod().join([64 * i for i in range(6)], obj_types=[part] * 6, placement=Tile(0, 1))
    ends = [p.prod() for p in parts]
    rt = Runtime()
    with rt.sequence(joined) as sink:
        rt.start(*[Worker(core, ends[2 * i : 2 * i + 2], placement=Tile(0, 2 + i)) for i in range(3)])
        rt.drain(out.cons(), sink, wait=True, placement=Tile(0, 0))
    return Program(NPU2Col1(), rt).resolve_program()


@pytest.mark.parametrize("fault", REFUSED)
def test_a_planted_fault_is_refused(fault: str) -> None:
    make, reason = REFUSED[fault]
    with pytest.raises(DesignError, match=reason):
        lower(make())


def test_the_same_designs_without_the_faults_pass() -> None:
    for design in (designs.elementwise(), chain_of_transfers(2), _core_wrap([(2, 128), (128, 1)])):
        lower(design)


def test_a_wrong_type_between_fifo_and_kernel_is_refused() -> None:
    with pytest.raises(
        TypeError, match=r"kernel add, argument 2: declared \(256,\) int32, but c\[0\] has \(256,\) float32"
    ):
        designs.elementwise(output_type=array(256, dtype=np.float32))
    with pytest.raises(TypeError, match=r"declared \(256,\) int32, but c\[0\] has \(16, 16\) int32"):
        designs.elementwise(output_type=array(16, 16))
