"""Designs in function: the bytes that come out are those that numpy computes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from kernels.sim import DesignError, KernelModel, run
from tests.kernels.sim import designs

I32 = np.int32


def add(a: Any, b: Any, c: Any) -> None:
    c[:] = a + b


def test_vector_add() -> None:
    a, b = np.arange(1024, dtype=I32), np.arange(1024, dtype=I32) * 7
    c = np.zeros(1024, I32)
    result = run(designs.elementwise(), a, b, c, kernels={"add": KernelModel(add, 32)})
    assert np.array_equal(c, a + b)
    assert (result.ddr_read, result.ddr_written) == (2 * a.nbytes, c.nbytes)


def test_passthrough_over_a_mem_tile() -> None:
    a, b = np.arange(4096, dtype=I32), np.zeros(4096, I32)
    run(designs.passthrough(designs.array(4096), designs.array(1024)), a, b, kernels={})
    assert np.array_equal(a, b)


def test_the_mem_tile_transposes_as_it_sends() -> None:
    rows, cols = 16, 24
    a, b = np.arange(rows * cols, dtype=I32), np.zeros(rows * cols, I32)
    whole = designs.array(rows * cols)
    run(designs.passthrough(whole, whole, dims_to_stream=[(cols, 1), (rows, cols)]), a, b, kernels={})
    assert np.array_equal(b.reshape(cols, rows), a.reshape(rows, cols).T)


def test_the_mem_tile_transposes_as_it_stores() -> None:
    rows, cols = 16, 24
    a, b = np.arange(rows * cols, dtype=I32), np.zeros(rows * cols, I32)
    whole = designs.array(rows * cols)
    run(designs.passthrough(whole, whole, dims_from_stream=[(rows, 1), (cols, rows)]), a, b, kernels={})
    assert np.array_equal(b.reshape(cols, rows), a.reshape(rows, cols).T)


def test_two_byte_elements_move_in_pairs() -> None:
    a, b = np.arange(64 * 32, dtype=np.int16), np.zeros(64 * 32, np.int16)
    whole = designs.array(64 * 32, dtype=np.int16)
    blocks = [(4, 8), (64, 32), (8, 1)]  # 8 columns at a time
    run(designs.passthrough(whole, whole, dims_to_stream=blocks), a, b, kernels={})
    assert np.array_equal(b.reshape(4, 64, 8), a.reshape(64, 4, 8).transpose(1, 0, 2))


def test_a_transfer_repeats_and_strides() -> None:
    a, b = np.arange(64, dtype=I32), np.zeros(64, I32)
    tap = designs.TensorAccessPattern((64,), 4, [4, 1, 2, 4], [0, 0, 16, 1])  # 4 times (elements 4…7, 20…23)
    inward_whole, obj = designs.array(64), designs.array(32)
    design = designs.ObjectFifo(obj, name="in")
    outward = design.cons().forward(name="out", placement=designs.Tile(0, 1))
    rt = designs.Runtime()
    with rt.sequence(inward_whole, inward_whole) as (source, sink):
        rt.fill(design.prod(), source, tap=tap, placement=designs.Tile(0, 0))
        out = designs.TensorAccessPattern((64,), 0, [1, 1, 1, 32], [0, 0, 0, 1])
        rt.drain(outward.cons(), sink, tap=out, wait=True, placement=designs.Tile(0, 0))
    run(designs.resolve(rt), a, b, kernels={})
    assert np.array_equal(b[:32], np.tile(np.r_[a[4:8], a[20:24]], 4))
    assert not b[32:].any()


def test_split_and_join() -> None:
    def work(x: Any, y: Any, row: int) -> None:
        y[:] = x * (row + 1)

    a, b = np.arange(3 * 256, dtype=I32), np.zeros(3 * 256, I32)
    run(designs.split_join(), a, b, kernels={"work": KernelModel(work, 16)})
    assert np.array_equal(b.reshape(3, 4, 64), a.reshape(3, 4, 64) * np.arange(1, 5)[:, None])


def test_a_gemv_over_the_whole_array() -> None:
    rows, inner = 2 * 8 * 4 * 32, 96

    def gemv(w: Any, x: Any, y: Any) -> None:
        y[:] = w @ x

    rng = np.random.default_rng(0)
    w, x = rng.integers(-8, 8, (rows, inner)).astype(np.float32), rng.integers(-8, 8, inner).astype(np.float32)
    y = np.zeros(rows, np.float32)
    result = run(designs.gemv(rows, inner), w, x, y, kernels={"gemv": KernelModel(gemv, 100)})
    assert np.array_equal(y, w @ x)
    assert len(result.core_busy) == 32
    assert result.ddr_read == w.nbytes + 8 * x.nbytes


def test_run_time_parameters_steer_a_core() -> None:
    def mark(obj: Any, number: int, base: int) -> None:
        obj[:] = base + number

    out = np.zeros(3 * 64, I32)
    run(designs.parameters(barrier=True), out, kernels={"mark": KernelModel(mark, 16)})
    assert np.array_equal(out, np.repeat([100, 101, 102], 64))


def test_memory_that_nobody_wrote_is_poisoned() -> None:
    """A kernel that does not fill its output must not look right."""
    out = np.zeros(1024, I32)
    data = np.ones(1024, I32)
    run(designs.elementwise(), data, data, out, kernels={"add": KernelModel(lambda *_: None, 1)})
    assert (out == -1).all()


def test_two_runs_are_equal() -> None:
    a = np.arange(1024, dtype=I32)
    runs = [run(designs.elementwise(), a, a, np.zeros(1024, I32), kernels={"add": KernelModel(add, 32)}) for _ in "12"]
    assert runs[0].cycles == runs[1].cycles
    assert runs[0].events == runs[1].events


def test_a_buffer_of_another_size_is_refused() -> None:
    a = np.zeros(1000, I32)
    with pytest.raises(DesignError, match=r"host buffer does not fit: argument 0: found .*4000 bytes.*4096 bytes"):
        run(designs.elementwise(), a, a, a, kernels={"add": add})
