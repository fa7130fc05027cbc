"""The time model against cases that are computed by hand from the parameters of hardware.py."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from kernels.sim import KernelModel, TimedRun, run, time_design
from kernels.sim.ddr import READ, WRITE, Ddr
from kernels.sim.hardware import CLOCK, TIMES
from kernels.sim.relevance import looked_at
from tests.kernels.sim import designs
from tests.kernels.sim.designs import Kernel, ObjectFifo, Runtime, TensorAccessPattern, Tile, Worker, array, range_


def bandwidth(result: TimedRun) -> float:
    assert result.seconds is not None
    return result.ddr_bytes / result.seconds


def far_cores(objects: int, words: int) -> Any:
    """One core sends to another across the array; at the end the other writes one word home."""
    obj, word = array(words), array(1)
    fifo, done = ObjectFifo(obj, name="far"), ObjectFifo(word, name="done")

    def send(out: Any) -> None:
        for _ in range_(objects):
            out.acquire(1)
            out.release(1)

    def receive(x: Any, done: Any) -> None:
        for _ in range_(objects):
            x.acquire(1)
            x.release(1)
        done.acquire(1)
        done.release(1)

    rt = Runtime()
    with rt.sequence(word) as sink:
        rt.start(
            Worker(send, [fifo.prod()], placement=Tile(0, 2), while_true=False),
            Worker(receive, [fifo.cons(), done.prod()], placement=Tile(4, 4), while_true=False),
        )
        rt.drain(done.cons(), sink, wait=True, placement=Tile(4, 0))
    return designs.resolve(rt)


def test_a_stream_is_the_limit() -> None:
    objects, words = 500, 4096
    result = time_design(far_cores(objects, words), kernels={})
    assert result.cycles == pytest.approx(objects * (words * 4 / TIMES.stream + TIMES.descriptor), rel=0.01)
    assert result.stream_busy["far"] > 0.99


def test_a_core_is_the_limit() -> None:
    tiles, cycles = 400, 5000
    result = time_design(designs.elementwise(tiles * 256), kernels={"add": KernelModel(None, cycles)})
    call = TIMES.bundles_per_slot * cycles + TIMES.call
    a_round = call + 6 * TIMES.lock + TIMES.loop
    assert result.cycles == pytest.approx(tiles * a_round, rel=0.01)
    assert result.core_busy[0, 2] == pytest.approx(call / a_round, rel=0.01)


def test_cycles_follow_the_scalar_arguments() -> None:
    quick, slow = (
        time_design(
            designs.split_join(rounds=50), kernels={"work": KernelModel(None, lambda row, cost=cost: cost * (row + 1))}
        )
        for cost in (1000, 2000)
    )
    last_row = 50 * 4 * 1000 * TIMES.bundles_per_slot  # decides
    assert slow.cycles - quick.cycles == pytest.approx(last_row, rel=0.05)


def test_ddr_is_the_limit_when_all_columns_read() -> None:
    result = time_design(designs.gemv(64 * 1024, 96), kernels={"gemv": KernelModel(None, 100)})
    assert bandwidth(result) == pytest.approx(TIMES.ddr_read * CLOCK, rel=0.03)
    assert result.ddr_busy > 0.97


def test_a_channel_is_the_limit_when_one_column_reads() -> None:
    result = time_design(designs.gemv(8 * 1024, 96, columns=1), kernels={"gemv": KernelModel(None, 100)})
    assert result.ddr_read / result.seconds == pytest.approx(TIMES.shim * CLOCK, rel=0.03)  # type: ignore[operator]


def copy(whole: int, obj: int, columns: int, run_elements: int | None = None) -> Any:
    """Each column copies its part through its mem tile; with `run_elements`, reading every second run."""
    rt = Runtime()
    part = whole // columns
    with rt.sequence(array(2 * whole), array(whole)) as (source, sink):
        for col in range(columns):
            fifo = ObjectFifo(array(obj), name=f"in{col}")
            out = fifo.cons().forward(placement=Tile(col, 1))
            shim = Tile(col, 0)
            pattern = ([1, 1, 1, part], [0, 0, 0, 1])
            if run_elements:
                rows = part // run_elements
                pattern = ([1, rows // 256, 256, run_elements], [0, 512 * run_elements, 2 * run_elements, 1])
            rt.fill(fifo.prod(), source, tap=TensorAccessPattern((2 * whole,), col * part, *pattern), placement=shim)
            linear = TensorAccessPattern((whole,), col * part, [1, 1, 1, part], [0, 0, 0, 1])
            rt.drain(out.cons(), sink, tap=linear, wait=True, placement=shim)
    return designs.resolve(rt)


def test_reads_and_writes_together_have_their_own_limit() -> None:
    result = time_design(copy(1 << 22, 4096, 8), kernels={})
    assert bandwidth(result) == pytest.approx(TIMES.ddr * CLOCK, rel=0.03)
    assert result.ddr_read == result.ddr_written


def test_short_runs_cost_whole_bursts() -> None:
    whole, sixteen_bytes = 1 << 20, 4
    long, short = (time_design(copy(whole, 4096, 8, run), kernels={}) for run in (TIMES.ddr_burst // 4, sixteen_bytes))
    cost = TIMES.ddr_burst / 16  # for every byte read; a byte written costs one
    expected = whole * 4 * (cost + 1) / TIMES.ddr
    assert short.cycles == pytest.approx(expected, rel=0.25)
    assert short.cycles > 2 * long.cycles


def test_fair_shares() -> None:
    """Two reads and a write under limits of 10, 10 and 12: four each; when the write has ended, five each."""
    ddr = Ddr(replace(TIMES, shim=8.0, ddr_read=10.0, ddr_write=10.0, ddr=12.0))
    ddr.start(0.0, 100.0, READ, "a")
    assert ddr.rates[READ] == 8.0
    ddr.start(0.0, 100.0, READ, "b")
    assert ddr.rates[READ] == 5.0
    ddr.start(0.0, 40.0, WRITE, "c")
    assert ddr.rates == (4.0, 4.0)
    assert ddr.next == 10.0
    assert ddr.finish() == "c"
    assert ddr.rates[READ] == 5.0
    assert ddr.next == pytest.approx(10.0 + 60.0 / 5.0)
    assert [ddr.finish(), ddr.finish()] == ["a", "b"]
    assert ddr.busy == pytest.approx(22.0)


def test_commands_take_their_time() -> None:
    result = time_design(designs.parameters(barrier=True, rounds=1), kernels={"mark": KernelModel(None, 0)})
    commands = 2 * TIMES.register_write + TIMES.command + 3 * TIMES.command
    assert result.cycles > commands
    assert result.cycles == pytest.approx(commands + TIMES.command, abs=2 * TIMES.ddr_latency)


def test_function_and_time_are_the_same_run() -> None:
    """The bytes do not change when things happen."""
    a = np.arange(4096, dtype=np.int32)
    kernels = {"add": KernelModel(lambda a, b, c: np.add(a, b, out=c), 77)}
    moved = run(designs.elementwise(4096), a, a, np.zeros_like(a), kernels=kernels)
    timed = time_design(designs.elementwise(4096), kernels=kernels, fast_forward=False)
    assert (moved.cycles, moved.events) == (timed.cycles, timed.events)
    assert moved.seconds == timed.seconds


def test_a_run_with_an_untimed_kernel_has_no_time() -> None:
    a = np.zeros(1024, np.int32)
    assert run(designs.elementwise(), a, a, a.copy(), kernels={"add": lambda *_: None}).seconds is None


@pytest.mark.parametrize("cycles", [10, 700, 3000])
def test_fast_forward_changes_nothing(cycles: int) -> None:
    """DDR bound, balanced, compute bound: the same figures with most of the rounds skipped."""
    kernels = {"gemv": KernelModel(None, cycles)}
    design = designs.gemv(256 * 1024, 96)
    full, quick = (time_design(design, kernels=kernels, fast_forward=skip) for skip in (False, True))
    assert quick.skipped > 0.5
    assert quick.events < full.events / 2
    assert quick.cycles == pytest.approx(full.cycles, rel=1e-7)
    assert (quick.ddr_read, quick.ddr_written) == (full.ddr_read, full.ddr_written)
    assert quick.core_busy == pytest.approx(full.core_busy, rel=1e-6)
    assert quick.stream_busy == pytest.approx(full.stream_busy, rel=1e-6)
    for place, waits in full.core_waits.items():
        assert quick.core_waits[place] == pytest.approx(waits, rel=1e-4, abs=1e-6)


def test_a_formula_is_asked_which_arguments_it_looks_at() -> None:
    assert looked_at(lambda rows, first: 100 * rows + 7, 2) == [True, False]
    assert looked_at(lambda rows, first: 10 if rows == 0 else 10 + max(first, 2), 2) == [True, True]
    assert looked_at(lambda rows, first: 1000 // rows, 2) == [True, False]
    assert looked_at(lambda *_: 5, 3) == [False] * 3
    assert looked_at(lambda flag: 5 if flag else 6, 1) == [True]
    assert looked_at(lambda rows, first: sum(range(rows)), 2) == [True, False]  # a range looks where nobody sees it
    assert looked_at(lambda: 5, 1) == [True]  # it never answered


def test_fast_forward_passes_a_counter_that_no_duration_looks_at() -> None:
    kernels = {"mark": KernelModel(None, lambda number, base: 500)}
    design = designs.parameters(barrier=True, rounds=400, count=1024)
    full, quick = (time_design(design, kernels=kernels, fast_forward=skip) for skip in (False, True))
    assert quick.skipped > 0.5
    assert quick.cycles == pytest.approx(full.cycles, rel=1e-9)
    kernels = {"mark": KernelModel(None, lambda number, base: 500 + number)}
    full, quick = (time_design(design, kernels=kernels, fast_forward=skip) for skip in (False, True))
    assert quick.skipped == 0.0
    assert quick.cycles == full.cycles


def test_fast_forward_sees_that_a_loop_grows() -> None:
    """Round i does i objects: nothing repeats, so nothing may be skipped."""
    word = array(64)
    fifo = ObjectFifo(word, name="in")
    slow = Kernel("slow", "slow.o", [word])

    def core(x: Any, slow: Any) -> None:
        for i in range_(40):
            for _ in range_(i):
                slow(x.acquire(1))
                x.release(1)

    rt = Runtime()
    with rt.sequence(array(64 * 780)) as source:
        rt.start(Worker(core, [fifo.cons(), slow], placement=Tile(0, 2), while_true=False))
        rt.fill(fifo.prod(), source, wait=True, placement=Tile(0, 0))
    design = designs.resolve(rt)
    kernels = {"slow": KernelModel(None, 500)}
    full, quick = (time_design(design, kernels=kernels, fast_forward=skip) for skip in (False, True))
    assert quick.cycles == pytest.approx(full.cycles, rel=1e-9)


def test_another_machine() -> None:
    slower = replace(TIMES, ddr_read=0.5 * TIMES.ddr_read)
    design, kernels = designs.gemv(64 * 1024, 96), {"gemv": KernelModel(None, 100)}
    assert bandwidth(time_design(design, kernels=kernels, times=slower)) == pytest.approx(
        0.5 * TIMES.ddr_read * CLOCK, rel=0.03
    )
