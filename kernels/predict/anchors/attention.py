"""Anchor: mlir-air's flash attention on all 32 cores, heads of 64, every key (flash_attention/kernel_fusion_based).

A launch is 256 queries of two heads. A column has 64 queries of a head, a row a quarter of the keys: its cores get the
four query tiles and keep one, then key and value tiles of 64; at the end the rows merge downwards.
"""

from __future__ import annotations

from typing import Any

from aie.iron import Kernel, ObjectFifo, Program, Runtime, Worker
from aie.iron.controlflow import range_
from aie.iron.device import NPU2, Tile
from aie.iron.placers import SequentialPlacer
from ml_dtypes import bfloat16

from ...tile_streams import array, linear

HEADS, TILES, STAGES = 2, 4, 4  # of a launch: heads, query tiles of each, parts of the keys
SIZE = 64  # of a tile, both ways
TILE = SIZE * SIZE
QUERIES = TILES * SIZE  # of a head


def attention(keys: int) -> Any:
    """One launch; every head has keys and values of its own, as the two of a launch are read twice anyway."""
    chunks = keys // SIZE // STAGES
    tile = array(TILE, bfloat16)
    state = array(TILE + 2 * SIZE, bfloat16)  # sums, maxima, denominators
    arguments = {
        "init": [],
        "keep": [tile],
        "scores": [tile],
        "values": [tile],
        "send": [state],
        "merge": [state, state],
        "finish": [state, tile],
    }
    kernels = [Kernel(name, "attn.o", types) for name, types in arguments.items()]

    def broadcast(name: str, column: int) -> tuple[Any, Any]:
        """A memtile between a shim channel and the cores of a row."""
        staged = ObjectFifo(tile, name=f"{name}_l2")
        return staged, staged.cons().forward(depth=1, name=name, placement=Tile(column, 1))

    streams = {
        (head, stage): [broadcast(f"{what}_{head}_{stage}", head * TILES + stage) for what in ("qk", "v")]
        for head in range(HEADS)
        for stage in range(STAGES)
    }
    merged = {
        (column, stage): ObjectFifo(state, depth=1, name=f"merge_{column}_{stage}")
        for column in range(HEADS * TILES)
        for stage in range(1, STAGES)
    }
    outputs = [ObjectFifo(tile, depth=1, name=f"y_{column}") for column in range(HEADS * TILES)]

    def core_of(own: int, stage: int) -> Any:
        def core(qk: Any, v: Any, above: Any, below: Any, *kernels: Any) -> None:
            init, keep, scores, values, send, merge, finish = kernels
            init()
            for query_tile in range(TILES):
                taken = qk.acquire(1)
                if query_tile == own:
                    keep(taken)
                qk.release(1)
            for _ in range_(chunks):
                scores(qk.acquire(1))
                qk.release(1)
                values(v.acquire(1))
                v.release(1)
            if above is None:
                send(below.acquire(1))
            else:
                given = above.acquire(1)
                (merge if stage else finish)(given, below.acquire(1))
                above.release(1)
            below.release(1)

        return core

    workers = []
    for column in range(HEADS * TILES):
        head, own = divmod(column, TILES)
        for stage in range(STAGES):
            (_, qk), (_, v) = streams[head, stage]
            above = merged[column, stage + 1].cons() if stage + 1 < STAGES else None
            below = (merged[column, stage] if stage else outputs[column]).prod()
            ends = [qk.cons(depth=1), v.cons(depth=1), above, below, *kernels]
            workers.append(Worker(core_of(own, stage), ends, placement=Tile(column, 2 + stage)))

    queries, cache = HEADS * QUERIES * SIZE, HEADS * keys * SIZE
    runtime = Runtime()
    with runtime.sequence(*(array(n, bfloat16) for n in (queries, cache, cache, queries))) as (q, k, v, y):
        runtime.start(*workers)
        group = runtime.task_group()
        for (head, stage), ((qk_l2, _), (v_l2, _)) in streams.items():
            shim = Tile(head * TILES + stage, 0)
            part = linear(cache, (head * STAGES + stage) * chunks * TILE, chunks * TILE)
            runtime.fill(qk_l2.prod(), q, linear(queries, head * TILES * TILE, TILES * TILE), group, placement=shim)
            runtime.fill(qk_l2.prod(), k, part, group, placement=shim)
            runtime.fill(v_l2.prod(), v, part, group, placement=shim)
        for column, output in enumerate(outputs):
            part = linear(queries, column * TILE, TILE)
            runtime.drain(output.cons(), y, part, group, wait=True, placement=Tile(column, 0))
        runtime.finish_task_group(group)
    return Program(NPU2(), runtime).resolve_program(SequentialPlacer())
