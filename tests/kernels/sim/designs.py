"""Small designs that the simulator's tests run, written as a user writes them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from kernels.sim import provide_aie

if provide_aie() is None:
    pytest.skip("mlir-aie is installed: designs compile here and are not recorded", allow_module_level=True)

import aie.extras.types as T
from aie.extras.dialects.arith import index_cast
from aie.helpers.taplib import TensorAccessPattern
from aie.iron import Buffer, Kernel, ObjectFifo, Program, Runtime, Worker, WorkerRuntimeBarrier
from aie.iron.controlflow import range_
from aie.iron.device import NPU2, Tile
from aie.iron.placers import SequentialPlacer

I32 = np.int32


def array(*shape: int, dtype: Any = I32) -> Any:
    return np.ndarray[shape, np.dtype[dtype]]


def resolve(rt: Any) -> Any:
    return Program(NPU2(), rt).resolve_program(SequentialPlacer())


def elementwise(count: int = 1024, tile: int = 256, depth: int = 2, **wrong: Any) -> Any:
    """c = kernel(a, b), tile by tile on one core; `wrong` plants faults."""
    whole, part = array(count), array(tile)
    a, b = (ObjectFifo(part, depth, name=name) for name in "ab")
    c = ObjectFifo(wrong.get("output_type", part), depth, name="c")
    kernel = Kernel("add", "add.o", [part, part, part])
    acquired = wrong.get("acquire", 1)

    def core(a: Any, b: Any, c: Any, kernel: Any) -> None:
        for _ in range_(count // tile):
            x, y, z = a.acquire(acquired), b.acquire(1), c.acquire(1)
            kernel(x if acquired == 1 else x[0], y, z)
            a.release(1)
            if "no_release" not in wrong:
                b.release(1)
            c.release(1)

    worker = Worker(core, [a.cons(), b.cons(), c.prod(), kernel], placement=Tile(0, 2), **wrong.get("worker", {}))
    rt = Runtime()
    with rt.sequence(whole, whole, whole) as (host_a, host_b, host_c):
        rt.start(worker)
        rt.fill(a.prod(), host_a, placement=Tile(0, 0))
        rt.fill(b.prod(), host_b, placement=Tile(0, 0))
        if "no_drain" not in wrong:
            rt.drain(c.cons(), host_c, wait=wrong.get("wait", True), placement=Tile(0, 0))
    return resolve(rt)


def passthrough(
    whole: Any, obj: Any, dims_to_stream: Any = None, dims_from_stream: Any = None, tap: Any = None, count: int = 1
) -> Any:
    """DDR → mem tile → DDR, the mem tile sending in `dims_to_stream` and storing in `dims_from_stream`."""
    inward = ObjectFifo(obj, name="in")
    outward = inward.cons(dims_from_stream=dims_from_stream).forward(
        name="out", dims_to_stream=dims_to_stream, placement=Tile(0, 1)
    )
    rt = Runtime()
    with rt.sequence(whole, whole) as (source, sink):
        group = rt.task_group()
        for _ in range(count):
            rt.fill(inward.prod(), source, tap=tap, placement=Tile(0, 0), task_group=group)
            rt.drain(outward.cons(), sink, wait=True, placement=Tile(0, 0), task_group=group)
        rt.finish_task_group(group)
    return resolve(rt)


def split_join(rows: int = 4, tile: int = 64, rounds: int = 3) -> Any:
    """One column: an object is split over four cores, each works on its part, the parts are joined."""
    part, obj, whole = array(tile), array(rows * tile), array(rounds * rows * tile)
    offsets = [row * tile for row in range(rows)]
    inward, outward = ObjectFifo(obj, name="in"), ObjectFifo(obj, name="out")
    parts = inward.cons().split(offsets, obj_types=[part] * rows, placement=Tile(0, 1))
    results = outward.prod().join(offsets, obj_types=[part] * rows, placement=Tile(0, 1))
    kernel = Kernel("work", "work.o", [part, part, I32])

    def core(x: Any, y: Any, kernel: Any, row: int) -> None:
        source, sink = x.acquire(1), y.acquire(1)
        kernel(source, sink, row)
        x.release(1)
        y.release(1)

    workers = [
        Worker(core, [parts[row].cons(), results[row].prod(), kernel, row], placement=Tile(0, 2 + row))
        for row in range(rows)
    ]
    rt = Runtime()
    with rt.sequence(whole, whole) as (source, sink):
        rt.start(*workers)
        rt.fill(inward.prod(), source, placement=Tile(0, 0))
        rt.drain(outward.cons(), sink, wait=True, placement=Tile(0, 0))
    return resolve(rt)


def gemv(rows: int, inner: int, tile: int = 32, columns: int = 8) -> Any:
    """y = W x over the whole array: a column's weights split over its four cores, x broadcast, y joined."""
    per_round = columns * 4 * tile
    rounds = rows // per_round
    f32 = np.float32
    weights, vector, result = array(tile, inner, dtype=f32), array(inner, dtype=f32), array(tile, dtype=f32)
    kernel = Kernel("gemv", "gemv.o", [weights, vector, result])

    def core(w: Any, x: Any, y: Any, kernel: Any) -> None:
        vector = x.acquire(1)
        for _ in range_(rounds):
            weights, result = w.acquire(1), y.acquire(1)
            kernel(weights, vector, result)
            w.release(1)
            y.release(1)
        x.release(1)

    workers, inputs, outputs, vectors = [], [], [], []
    for col in range(columns):
        w = ObjectFifo(array(4 * tile, inner, dtype=f32), name=f"w{col}")
        x = ObjectFifo(vector, depth=1, name=f"x{col}")
        y = ObjectFifo(array(4 * tile, dtype=f32), name=f"y{col}")
        parts = w.cons().split(
            [r * tile * inner for r in range(4)], obj_types=[weights] * 4, placement=Tile(col, 1), depths=[2] * 4
        )
        results = y.prod().join([r * tile for r in range(4)], obj_types=[result] * 4, placement=Tile(col, 1))
        workers += [
            Worker(core, [parts[r].cons(), x.cons(), results[r].prod(), kernel], placement=Tile(col, 2 + r))
            for r in range(4)
        ]
        inputs.append(w)
        vectors.append(x)
        outputs.append(y)
    rt = Runtime()
    dims = (rows, inner)
    with rt.sequence(array(*dims, dtype=f32), array(inner, dtype=f32), array(rows, dtype=f32)) as (W, X, Y):
        rt.start(*workers)
        for col in range(columns):
            shim = Tile(col, 0)
            rt.fill(vectors[col].prod(), X, placement=shim)
            first, sizes = col * 4 * tile * inner, [1, rounds, 4 * tile, inner]
            tap = TensorAccessPattern(dims, first, sizes, [0, per_round * inner, inner, 1])
            rt.fill(inputs[col].prod(), W, tap=tap, placement=shim)
            tap = TensorAccessPattern((rows,), col * 4 * tile, [1, 1, rounds, 4 * tile], [0, 0, per_round, 1])
            rt.drain(outputs[col].cons(), Y, tap=tap, wait=True, placement=shim)
    return resolve(rt)


def parameters(barrier: bool = False, rounds: int = 3, count: int = 64) -> Any:
    """A core that makes as many objects as a run-time parameter says, each marked with its number."""
    part = array(count)
    out = ObjectFifo(part, name="out")
    rtp = Buffer(array(4), name="rtp", use_write_rtp=True)
    gate = WorkerRuntimeBarrier()
    kernel = Kernel("mark", "mark.o", [part, I32, I32])

    def core(rtp: Any, out: Any, kernel: Any, gate: Any) -> None:
        if barrier:
            gate.wait_for_value(1)
        for i in range_(rtp[0]):
            obj = out.acquire(1)
            kernel(obj, index_cast(i, to=T.i32()), rtp[1])
            out.release(1)

    worker = Worker(core, [rtp, out.prod(), kernel, gate], placement=Tile(0, 2), while_true=False)
    rt = Runtime()

    def write(buffer: Any) -> None:
        buffer[0] = rounds
        buffer[1] = 100

    with rt.sequence(array(rounds * count)) as sink:
        rt.inline_ops(write, [rtp])
        rt.start(worker)
        if barrier:
            rt.set_barrier(gate, 1)
        rt.drain(out.cons(), sink, wait=True, placement=Tile(0, 0))
    return resolve(rt)
