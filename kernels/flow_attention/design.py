"""FlowQKV, prefill attention: 16 pairs of cores keep query tiles, keys and values stream past all of them at once.

    tiles     a pair = scores core (rows 2, 4) and values core above it (rows 3, 5). It holds 32 positions of one query
              head; the pairs of a column are two heads of one KV head, the columns are blocks of positions. A *pass* is
              what all pairs hold: 128 positions (4 query heads a KV head: 270M, 1B) or 256 (2: 4B)
    flow      K: two shim channels → memtile 3, which cuts tiles of 16 keys into blocks of 8 x 8 → broadcast to 16
              scores cores. V: the same from memtile 4 to the values cores. Q: one channel a column → memtile → its
              pairs. Messages (probabilities, rescaling) cross in neighbours' memory. y: memtile → the column's shim
    L1        scores: Q 16 KB, its limbs 18 KB, K 2 x 8 KB, messages 2 x 832 B, scores, state, stack: 56.4 KB
              values: y 32 KB, V 2 x 8 KB, V in bfp16 4.5 KB, out 2 x 4 KB, stack: 61.6 KB
    L2        Q 2 x 32 KB, y 2 x 8 KB, K or V 4 x 8 KB: 112 KB
    channels  shim 2 in, 1 out; memtile 3 + 2 in, 3 + 1 out; scores core 2 in; values core 1 in, 1 out
    DDR       Q and y once; K and V of a KV head once a pass, and only what the pass sees, in whole 64 keys
    roofline  the scores cores: 936 slots, 1394 cycles as compiled, a tile of 32 x 16, for which K and V bring 16 KB:
              21 GB/s. All pairs work on one KV head so that this stream is one. 8k: 92 % (sliding) and 97 % of it

A pass sees [first, last): causal and full from 0, sliding from the first key of its first row's window. `Span` gives
lengths: another one changes five words a core and the transfers, not the configuration.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from aie.extras import types as T
from aie.extras.dialects.arith import index_cast
from aie.helpers.taplib import TensorAccessPattern
from aie.iron import Buffer, Kernel, ObjectFifo, Program, Runtime, Worker, WorkerRuntimeBarrier
from aie.iron.controlflow import range_
from aie.iron.device import NPU2, Tile
from ml_dtypes import bfloat16

from ..gemma3_shapes import Gemma3Shape
from ..tile_streams import COLUMNS, array, vectors

HEAD = 256
ROWS, KEYS, OUT_ROWS = 32, 16, 8  # of a query tile, a key tile, an object of y
GRAIN = 64  # keys: passes begin and end at multiples
PAIRS = 2  # of a column
MESSAGE_BYTES = ROWS * KEYS * 9 // 8 + 2 * ROWS + 4 * ROWS + 64  # aie2p_flow_qkv.h
LIMB_BYTES = 2 * ROWS * HEAD * 9 // 8
SOFTMAX_FLOATS = ROWS // 8 * 80
SCORES_STACK = VALUES_STACK = 1024
K_COLUMN, V_COLUMN = 3, 4
MOST_ITERATIONS, MOST_STEPS = 64, 1023  # of a shim transfer's outermost dimension, of another
IN_FLIGHT = 3  # passes; a channel's queue holds four transfers

# Run-time parameters of a core.
GROWING, STEADY, POSITION, LENGTH, WINDOW = range(5)


@dataclass(frozen=True)
class FlowQkv:
    """A configuration of the array.

    Attributes:
        heads: Query heads.
        kv_heads: Heads of K and V; 2, 4, 8 or 16 query heads share one.
        causal: False: every query sees every key.
    """

    heads: int
    kv_heads: int
    causal: bool = True

    @property
    def group(self) -> int:
        """Query heads of a KV head."""
        return self.heads // self.kv_heads

    @property
    def pass_positions(self) -> int:
        """Positions that the array holds at once."""
        return ROWS * COLUMNS * PAIRS // self.group


@dataclass(frozen=True)
class Span:
    """What a launch computes: queries at positions `start` … `start + tokens`, which see the keys up to themselves.

    Attributes:
        start: Cached positions before the first query.
        tokens: Queries.
        window: Keys that a query sees, its own included; 0: all.
    """

    start: int
    tokens: int
    window: int = 0

    @property
    def length(self) -> int:
        """Keys in all."""
        return self.start + self.tokens


@dataclass(frozen=True)
class Passes:
    """The passes of a span, alike for every KV head: first those that see keys from 0 on, then those whose start moves.

    Attributes:
        keys: [first, last) of each.
        growing: How many begin at 0.
    """

    keys: tuple[tuple[int, int], ...]
    growing: int

    @property
    def rows(self) -> int:
        """Keys that the caches must hold; those behind the span's length must be finite."""
        return max(last for _, last in self.keys)


def plan_flow_qkv(shape: Gemma3Shape, causal: bool = True) -> FlowQkv:
    """The configuration for a model."""
    group = shape.heads // shape.kv_heads
    if shape.head_dim != HEAD or group * shape.kv_heads != shape.heads or group not in (2, 4, 8, 16):
        raise ValueError(
            f"{shape.heads} heads of {shape.head_dim} on {shape.kv_heads} KV heads: needs 2, 4, 8 or 16 of 256 each"
        )
    return FlowQkv(shape.heads, shape.kv_heads, causal)


def passes_of(plan: FlowQkv, span: Span) -> Passes:
    """What each pass reads."""
    count = -(-span.tokens // plan.pass_positions)
    keys = []
    for i in range(count):
        position = span.start + i * plan.pass_positions
        last = position + plan.pass_positions if plan.causal else span.length
        first = max(0, position - span.window + 1) // GRAIN * GRAIN if span.window else 0
        keys.append((first, -(-last // GRAIN) * GRAIN))
    return Passes(tuple(keys), sum(first == 0 for first, _ in keys))


def padded_tokens(plan: FlowQkv, span: Span) -> int:
    """Rows of q and y; y is 0 behind the span."""
    return -(-span.tokens // plan.pass_positions) * plan.pass_positions


def ddr_bytes(plan: FlowQkv, span: Span) -> int:
    """What crosses DDR."""
    rows = sum(last - first for first, last in passes_of(plan, span).keys)
    return 2 * HEAD * (2 * padded_tokens(plan, span) * plan.heads + 2 * rows * plan.kv_heads)


def flow_qkv(plan: FlowQkv, span: Span, capacity: int | None = None) -> Any:
    """The program: sequence(q, k, v, y), all bf16.

    Args:
        plan: The configuration.
        span: The launch.
        capacity: Rows of a KV head in k and v; unset: those that the span reads.

    q and y are `[padded_tokens, heads, 256]`, q with norm, RoPE and scale · log2(e) inside (qk_norm_rope); k and v are
    `[kv_heads, capacity, 256]`, row p is position p.
    """
    passes = passes_of(plan, span)
    capacity = passes.rows if capacity is None else capacity
    if capacity < passes.rows:
        raise ValueError(f"{capacity} rows of K and V; the span reads {passes.rows}")
    kernels = _kernels()
    k, k_parts = _broadcast("k", K_COLUMN)
    v, v_parts = _broadcast("v", V_COLUMN)
    q_ty = array(ROWS * HEAD, bfloat16)
    blocks = [(ROWS // 8, 8 * HEAD), (HEAD // 8, 8), (8, HEAD), (8, 1)]
    y_ty = array(OUT_ROWS * HEAD, bfloat16)
    q_l2, y_l2, workers, parameters = [], [], [], []
    barrier = WorkerRuntimeBarrier()
    for column in range(COLUMNS):
        q = ObjectFifo(array(PAIRS * ROWS * HEAD, bfloat16), depth=2, name=f"q_l2_{column}")
        q_in = q.cons().split(
            [i * ROWS * HEAD for i in range(PAIRS)],
            placement=Tile(column, 1),
            obj_types=[q_ty] * PAIRS,
            depths=[1] * PAIRS,
            names=[f"q_{column}_{i}" for i in range(PAIRS)],
            dims_to_stream=[blocks] * PAIRS,
        )
        y = ObjectFifo(array(PAIRS * OUT_ROWS * HEAD, bfloat16), depth=2, name=f"y_l2_{column}")
        y_out = y.prod().join(
            [i * OUT_ROWS * HEAD for i in range(PAIRS)],
            placement=Tile(column, 1),
            obj_types=[y_ty] * PAIRS,
            depths=[2] * PAIRS,
            names=[f"y_{column}_{i}" for i in range(PAIRS)],
            dims_from_stream=[[(HEAD // 8, 8), (8, HEAD), (8, 1)]] * PAIRS,
        )
        q_l2.append(q.prod())
        y_l2.append(y)
        for pair in range(PAIRS):
            name = f"{column}_{pair}"
            message = ObjectFifo(array(MESSAGE_BYTES, np.uint8), depth=2, name=f"message_{name}")
            for role in ("scores", "values"):
                place = Tile(column, 2 + 2 * pair + (role == "values"))
                words = Buffer(vectors(5, np.int32), name=f"{role}_words_{name}", placement=place, use_write_rtp=True)
                parameters.append(words)
                ends = (
                    [q_in[pair].cons(), k.cons(depth=2), message.prod()]
                    if role == "scores"
                    else [message.cons(), v.cons(depth=2), y_out[pair].prod()]
                )
                state = [
                    Buffer(array(count, dtype), name=f"{role}_{part}_{name}", placement=place)
                    for part, (count, dtype) in _STATE[role].items()
                ]
                program = (
                    _scores_core(plan, ROWS * (column * PAIRS // plan.group))
                    if role == "scores"
                    else _values_core(plan)
                )
                stack = SCORES_STACK if role == "scores" else VALUES_STACK
                arguments = [*ends, *state, words, barrier, *kernels[role]]
                workers.append(Worker(program, arguments, placement=place, stack_size=stack))

    rows = padded_tokens(plan, span)
    rt = Runtime()
    with rt.sequence(
        array(rows * plan.heads * HEAD, bfloat16),
        array(plan.kv_heads * capacity * HEAD, bfloat16),
        array(plan.kv_heads * capacity * HEAD, bfloat16),
        array(rows * plan.heads * HEAD, bfloat16),
    ) as (q_in_ddr, k_in_ddr, v_in_ddr, y_in_ddr):
        rt.start(*workers)
        open_groups: list[Any] = []  # (group, pass after whose end it may close)

        def close(done: int) -> None:
            """Frees what is no longer in use once the pass `done` is."""
            for entry in [entry for entry in open_groups if entry[1] <= done]:
                rt.finish_task_group(entry[0])
                open_groups.remove(entry)

        def fill_keys(head: int, first_pass: int, count: int, group: Any) -> None:
            for parts, data, column in ((k_parts, k_in_ddr, K_COLUMN), (v_parts, v_in_ddr, V_COLUMN)):
                for half, part in enumerate(parts):
                    tap = _keys_tap(plan, passes, capacity, head, first_pass, count, half)
                    shim = column - half if column == K_COLUMN else column + half
                    rt.fill(part.prod(), data, tap, group, placement=Tile(shim, 0))

        count = len(passes.keys)
        for head in range(plan.kv_heads):
            for i in range(count):
                number = head * count + i
                close(number - IN_FLIGHT)
                if i % MOST_ITERATIONS == 0:
                    several = min(MOST_ITERATIONS, count - i)
                    group = rt.task_group()
                    open_groups.append((group, number + several - 1))
                    for column in range(COLUMNS):
                        tap = _queries_tap(plan, rows, head, column, i, several)
                        rt.fill(q_l2[column], q_in_ddr, tap, group, placement=Tile(column, 0))
                steady = i - passes.growing
                if steady < 0 or steady % MOST_ITERATIONS == 0:
                    several = 1 if steady < 0 else min(MOST_ITERATIONS, count - i)
                    group = rt.task_group()
                    open_groups.append((group, number + several - 1))
                    fill_keys(head, i, several, group)
                group = rt.task_group()
                open_groups.append((group, number))
                for column in range(COLUMNS):
                    tap = _y_tap(plan, rows, head, column, i)
                    rt.drain(y_l2[column].cons(), y_in_ddr, tap, group, wait=True, placement=Tile(column, 0))
                if number == 0:  # the streams fill meanwhile
                    words = [passes.growing, count - passes.growing, span.start, span.length, span.window]
                    for buffer in parameters:
                        rt.inline_ops(_write, [buffer, words])
                    rt.set_barrier(barrier, 1)
        close(plan.kv_heads * count)
    return Program(NPU2(), rt).resolve_program()


_STATE: dict[str, dict[str, tuple[int, Any]]] = {
    "scores": {
        "limbs": (LIMB_BYTES, np.uint8),
        "softmax": (SOFTMAX_FLOATS, np.float32),
        "scores": (ROWS * KEYS, np.float32),
        "bounds": (2 * ROWS + 16, np.int32),
        "images": (16, np.int32),
    },
    "values": {"v_blocks": (KEYS * HEAD * 9 // 8, np.uint8), "sums": (ROWS * HEAD, np.float32)},
}


def _kernels() -> dict[str, list[Any]]:
    i32 = np.int32
    scores = {name: array(*size) for name, size in _STATE["scores"].items()}
    values = {name: array(*size) for name, size in _STATE["values"].items()}
    tile, message = array(KEYS * HEAD, bfloat16), array(MESSAGE_BYTES, np.uint8)
    q_ty, y_ty = array(ROWS * HEAD, bfloat16), array(OUT_ROWS * HEAD, bfloat16)
    limbs, softmax, bounds = scores["limbs"], scores["softmax"], scores["bounds"]
    v_blocks, sums = values["v_blocks"], values["sums"]

    def kernel(name: str, *types: Any) -> Any:
        return Kernel(f"flow_qkv_{name}_aie2p", "flow_attention_aie2p.o", list(types))

    return {
        "scores": [
            kernel("bounds", scores["images"], bounds, i32, i32, i32, i32, i32, i32, i32),
            kernel("queries", q_ty, limbs, softmax, i32),
            kernel("scores", limbs, tile, bounds, softmax, scores["scores"], message, i32, i32, i32),
        ],
        "values": [
            kernel("init", sums, i32, i32),
            kernel("values", message, tile, v_blocks, sums, i32, i32, i32),
            kernel("finish", message, sums, y_ty, i32, i32, i32, i32, i32),
        ],
    }


def _broadcast(name: str, column: int) -> tuple[Any, list[Any]]:
    """A stream of key tiles to all pairs, and its two halves to fill: keys 0 … 7 and 8 … 15 of each tile."""
    half = KEYS // 2
    fifo = ObjectFifo(
        array(KEYS * HEAD, bfloat16), depth=4, name=name, dims_to_stream=[(HEAD // 8, 8), (8, HEAD), (8, 1)]
    )
    parts = fifo.prod().join(
        [0, half * HEAD],
        placement=Tile(column, 1),
        obj_types=[array(half * HEAD, bfloat16)] * 2,
        depths=[4] * 2,
        names=[f"{name}_half{i}" for i in range(2)],
    )
    return fifo, parts


def _for_each_pass(plan: FlowQkv, words: Any, body: Any) -> None:
    """Calls body(position, first key, tiles) for the passes of every KV head, in their order."""
    for _ in range_(plan.kv_heads):
        for i in range_(words[GROWING]):
            position = words[POSITION] + index_cast(i, to=T.i32()) * plan.pass_positions
            body(position, 0, _end(plan, words, position) // KEYS)
        for i in range_(words[STEADY]):
            position = words[POSITION] + (index_cast(i, to=T.i32()) + words[GROWING]) * plan.pass_positions
            first = (position - words[WINDOW] + 1) // GRAIN * GRAIN
            body(position, first, (_end(plan, words, position) - first) // KEYS)


def _end(plan: FlowQkv, words: Any, position: Any) -> Any:
    last = position + plan.pass_positions if plan.causal else words[LENGTH]
    return (last + (GRAIN - 1)) // GRAIN * GRAIN


def _scores_core(plan: FlowQkv, first_row: int) -> Any:
    def core(
        q: Any,
        k: Any,
        message: Any,
        limbs: Any,
        softmax: Any,
        scores: Any,
        bounds: Any,
        images: Any,
        words: Any,
        barrier: Any,
        *kernels: Any,
    ) -> None:
        set_bounds, set_queries, score = kernels
        barrier.wait_for_value(1)

        def one_pass(position: Any, first_key: Any, tiles: Any) -> None:
            set_bounds(
                images, bounds, ROWS, ROWS, position + first_row, words[LENGTH], int(plan.causal), words[WINDOW], 0
            )
            set_queries(q.acquire(1), limbs, softmax, ROWS)
            q.release(1)
            for i in range_(tiles):
                first = index_cast(i, to=T.i32()) * KEYS + first_key
                keys = k.acquire(1)
                score(limbs, keys, bounds, softmax, scores, message.acquire(1), ROWS, KEYS, first)
                message.release(1)
                k.release(1)

        _for_each_pass(plan, words, one_pass)

    return core


def _values_core(plan: FlowQkv) -> Any:
    def core(message: Any, v: Any, y: Any, v_blocks: Any, sums: Any, words: Any, barrier: Any, *kernels: Any) -> None:
        init, add, finish = kernels
        barrier.wait_for_value(1)

        def one_pass(position: Any, first_key: Any, tiles: Any) -> None:
            init(sums, ROWS, HEAD)
            for _ in range_(tiles - 1):
                add(message.acquire(1), v.acquire(1), v_blocks, sums, ROWS, KEYS, HEAD)
                v.release(1)
                message.release(1)
            last = message.acquire(1)
            add(last, v.acquire(1), v_blocks, sums, ROWS, KEYS, HEAD)
            v.release(1)
            for row in range(0, ROWS, OUT_ROWS):
                finish(last, sums, y.acquire(1), ROWS, KEYS, HEAD, row, OUT_ROWS)
                y.release(1)
            message.release(1)

        _for_each_pass(plan, words, one_pass)

    return core


def _write(buffer: Any, words: list[int]) -> None:
    for i, word in enumerate(words):
        buffer[i] = word


def _first_element(plan: FlowQkv, head: int, column: int, first_pass: int) -> int:
    """Of a column's first query head and position in `[tokens, heads, 256]`."""
    columns_of_heads = plan.group // PAIRS  # columns that hold the same positions
    position = first_pass * plan.pass_positions + column // columns_of_heads * ROWS
    return (position * plan.heads + head * plan.group + column % columns_of_heads * PAIRS) * HEAD


def _queries_tap(plan: FlowQkv, rows: int, head: int, column: int, first_pass: int, count: int) -> TensorAccessPattern:
    row = plan.heads * HEAD
    return TensorAccessPattern(
        (rows * row,),
        _first_element(plan, head, column, first_pass),
        [count, PAIRS, ROWS, HEAD],
        [plan.pass_positions * row, HEAD, row, 1],
    )


def _y_tap(plan: FlowQkv, rows: int, head: int, column: int, number: int) -> TensorAccessPattern:
    row = plan.heads * HEAD
    return TensorAccessPattern(
        (rows * row,),
        _first_element(plan, head, column, number),
        [ROWS // OUT_ROWS, PAIRS, OUT_ROWS, HEAD],
        [OUT_ROWS * row, HEAD, row, 1],
    )


def _keys_tap(
    plan: FlowQkv, passes: Passes, capacity: int, head: int, first_pass: int, count: int, half: int
) -> TensorAccessPattern:
    """A half of every key tile of `count` passes; those of a steady stretch are alike, one pass further each."""
    first, last = passes.keys[first_pass]
    offset = (head * capacity + first + half * KEYS // 2) * HEAD
    tiles, total = (last - first) // KEYS, (plan.kv_heads * capacity * HEAD,)
    inner = [KEYS // 2, HEAD]
    if count == 1:
        outer = next(n for n in range(1, MOST_ITERATIONS) if tiles % n == 0 and tiles // n <= MOST_STEPS)
        sizes, strides = [outer, tiles // outer, *inner], [tiles // outer * KEYS * HEAD, KEYS * HEAD, HEAD, 1]
    else:
        sizes, strides = [count, tiles, *inner], [plan.pass_positions * HEAD, KEYS * HEAD, HEAD, 1]
    return TensorAccessPattern(total, offset, sizes, strides)
