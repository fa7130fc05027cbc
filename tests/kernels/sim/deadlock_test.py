"""Runs that cannot go on: the message says who waits for whom. And what silicon would silently lose."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from kernels.sim import Deadlock, DesignError, KernelModel, run, time_design
from tests.kernels.sim import designs
from tests.kernels.sim.designs import Kernel, ObjectFifo, Runtime, Tile, Worker, array, range_

I32 = np.int32


def test_a_fifo_that_nobody_drains_is_refused() -> None:
    with pytest.raises(ValueError, match="Cons endpoint not set"):
        designs.elementwise(no_drain=True)


def test_a_missing_drain_is_a_deadlock_that_is_explained() -> None:
    """Two objects fit into the core, two on the way: the third fill of an output that is drained once must wait."""
    with pytest.raises(Deadlock) as caught:
        time_design(_drained_once(), kernels={})
    text = str(caught.value)
    assert "the runtime sequence waits for fill 1 of in at shim tile (0, 0)" in text
    assert "core (0, 2) after 3 rounds waits for room for fifo out (0 of 2 free): stream out must send it" in text
    assert "stream out waits: no drain is queued at shim tile (0, 0)" in text


def _drained_once() -> Any:
    part = array(64)
    fifo, out = ObjectFifo(part, name="in"), ObjectFifo(part, name="out")

    def core(x: Any, y: Any) -> None:
        x.acquire(1)
        y.acquire(1)
        x.release(1)
        y.release(1)

    rt = Runtime()
    with rt.sequence(array(512), part) as (source, sink):
        rt.start(Worker(core, [fifo.cons(), out.prod()], placement=Tile(0, 2)))
        rt.drain(out.cons(), sink, placement=Tile(0, 0))
        rt.fill(fifo.prod(), source, wait=True, placement=Tile(0, 0))
    return designs.resolve(rt)


def test_a_parameter_that_is_read_before_it_is_written_is_no_parameter() -> None:
    """Without the barrier the core starts first: it finds poison, makes nothing, and the drain says so."""
    with pytest.raises(Deadlock, match="the runtime sequence waits for drain 0 of out"):
        run(designs.parameters(barrier=False), np.zeros(192, I32), kernels={"mark": lambda *_: None})


def test_a_drain_that_nobody_waits_for_still_ends_the_run() -> None:
    data = np.arange(1024, dtype=I32)
    out = np.zeros(1024, I32)
    add = {"add": KernelModel(lambda a, b, c: np.add(a, b, out=c), 16)}
    run(designs.elementwise(wait=False), data, data, out, kernels=add)
    assert np.array_equal(out, 2 * data)


def test_too_little_input_is_a_deadlock_that_is_explained() -> None:
    """The core makes 4 objects, the drain wants 5."""
    part = array(64)
    fifo, out = ObjectFifo(part, name="in"), ObjectFifo(part, name="out")

    def core(x: Any, y: Any) -> None:
        for _ in range_(2):
            x.acquire(1)
            y.acquire(1)
            x.release(1)
            y.release(1)

    rt = Runtime()
    with rt.sequence(array(256), array(320)) as (source, sink):
        rt.start(Worker(core, [fifo.cons(), out.prod()], placement=Tile(0, 2)))
        rt.fill(fifo.prod(), source, placement=Tile(0, 0))
        rt.drain(out.cons(), sink, wait=True, placement=Tile(0, 0))
    with pytest.raises(Deadlock) as caught:
        time_design(designs.resolve(rt), kernels={})
    text = str(caught.value)
    assert "the runtime sequence waits for drain 1 of out at shim tile (0, 0): 256 of 1280 bytes are missing" in text
    assert "core (0, 2) after 2 rounds waits for an object of fifo in (0 of 2 full): stream in must bring it" in text
    assert "stream in waits: no fill is queued at shim tile (0, 0)" in text


def test_a_circle_of_cores_is_explained() -> None:
    """Two cores that each first wait for the other."""
    part = array(64)
    there, back = ObjectFifo(part, name="there"), ObjectFifo(part, name="back")
    done = ObjectFifo(part, name="done")

    def first(there: Any, back: Any, done: Any) -> None:
        back.acquire(1)
        there.acquire(1)
        done.acquire(1)
        for end in (back, there, done):
            end.release(1)

    def second(there: Any, back: Any) -> None:
        there.acquire(1)
        back.acquire(1)
        for end in (there, back):
            end.release(1)

    rt = Runtime()
    with rt.sequence(part) as sink:
        rt.start(
            Worker(first, [there.prod(), back.cons(), done.prod()], placement=Tile(0, 2)),
            Worker(second, [there.cons(), back.prod()], placement=Tile(0, 3)),
        )
        rt.drain(done.cons(), sink, wait=True, placement=Tile(0, 0))
    with pytest.raises(Deadlock) as caught:
        time_design(designs.resolve(rt), kernels={})
    assert "core (0, 2) after 0 rounds waits for an object of fifo back (0 of 2 full): core (0, 3) must" in str(
        caught.value
    )
    assert "core (0, 3) after 0 rounds waits for an object of fifo there (0 of 2 full): core (0, 2) must" in str(
        caught.value
    )


def test_a_fifth_transfer_on_a_channel_is_dropped_on_silicon_and_refused_here() -> None:
    with pytest.raises(DesignError, match=r"task queue overflow: fill \d+ of in.*limit 4 that are not finished"):
        time_design(_slow_core(8), kernels={"slow": KernelModel(None, 1e6)})


def test_a_descriptor_that_still_runs_is_not_given_out_again() -> None:
    with pytest.raises(DesignError, match=r"descriptor overwritten in use: .*pass wait=True"):
        time_design(_slow_core(3, groups=2), kernels={"slow": KernelModel(None, 1e6)})


def _slow_core(transfers: int, groups: int = 1) -> Any:
    part = array(64)
    fifo = ObjectFifo(part, name="in")
    slow = Kernel("slow", "slow.o", [part])

    def core(x: Any, slow: Any) -> None:
        slow(x.acquire(1))
        x.release(1)

    rt = Runtime()
    with rt.sequence(part) as source:
        rt.start(Worker(core, [fifo.cons(), slow], placement=Tile(0, 2)))
        for _ in range(groups):
            group = rt.task_group()
            for _ in range(transfers):
                rt.fill(fifo.prod(), source, placement=Tile(0, 0), task_group=group)
            rt.finish_task_group(group)
    return designs.resolve(rt)
