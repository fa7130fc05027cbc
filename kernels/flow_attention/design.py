"""FlowQKV, prefill attention: 16 pairs of cores keep query tiles, keys and values stream past all of them at once.

    tiles     a pair = scores core (rows 2, 4) and values core above it (rows 3, 5). It holds 32 positions of one query
              head; the pairs of a column are two heads of one KV head, the columns are blocks of positions. A *pass* is
              what all pairs hold: 128 positions (4 query heads a KV head: 270M, 1B) or 256 (2: 4B)
    flow      K: two shim channels → memtile 3, which cuts tiles of 16 keys into blocks of 8 x 8 → broadcast to 16
              scores cores. V: the same from memtile 4 to the values cores. Q: one channel a column → memtile → its
              pairs. Messages (probabilities, rescaling) cross in neighbours' memory. y: memtile → the column's shim
    L1        scores: Q 16 KB, its limbs 18 KB, K 2 x 8 KB, messages 2 x 832 B, scores, state, words, stack: 57.1 KB
              values: y 32 KB, V 2 x 8 KB, V in bfp16 4.5 KB, out 2 x 4 KB, words, stack: 61.9 KB
    L2        Q 2 x 32 KB, y 2 x 8 KB, K or V 4 x 8 KB: 112 KB
    channels  shim 2 in, 1 out; memtile 3 + 2 in, 3 + 1 out; scores core 2 in; values core 1 in, 1 out
    DDR       Q and y once; K and V of a KV head once a pass, and only what the pass sees, in whole 64 keys
    roofline  the scores cores: 936 slots, 1394 cycles as compiled, a tile of 32 x 16, for which K and V bring 16 KB:
              21 GB/s. All pairs work on one KV head so that this stream is one. 8k: 92 % (sliding) and 97 % of it

What a pass sees follows from the mask (passes.py). Lengths, masks and images are run-time words of the cores and
transfers of the sequence: one configuration serves them all.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from aie.extras import types as T
from aie.extras.dialects.arith import index_cast
from aie.iron import Buffer, Kernel, ObjectFifo, Program, Runtime, Worker, WorkerRuntimeBarrier
from aie.iron.controlflow import range_
from aie.iron.device import NPU2, Tile
from ml_dtypes import bfloat16

from ..tile_streams import COLUMNS, array, vectors
from .passes import (
    CAUSAL,
    FIRST,
    FIRST_STEP,
    HEAD,
    IMAGES,
    KEYS,
    LENGTH,
    MOST_IMAGES,
    PAIRS,
    PASSES,
    POSITION,
    ROWS,
    SCORES_STRETCH,
    SCORES_STRETCHES,
    SCORES_WORDS,
    TILES,
    TILES_STEP,
    VALUES_STRETCH,
    VALUES_STRETCHES,
    VALUES_WORDS,
    WINDOW,
    FlowQkv,
    Span,
    padded_tokens,
    passes_of,
)
from .transfers import K_COLUMN, OUT_ROWS, V_COLUMN, Ends, launch

MESSAGE_BYTES = ROWS * KEYS * 9 // 8 + 2 * ROWS + 4 * ROWS + 64  # aie2p_flow_qkv.h
LIMB_BYTES = 2 * ROWS * HEAD * 9 // 8
SOFTMAX_FLOATS = ROWS // 8 * 80
STACK = 1024


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
    ends, workers = _array(plan)
    queries = array(padded_tokens(plan, span) * plan.heads * HEAD, bfloat16)
    cache = array(plan.kv_heads * capacity * HEAD, bfloat16)
    rt = Runtime()
    with rt.sequence(queries, cache, cache, queries) as (q, k, v, y):
        rt.start(*workers)
        launch(rt, ends, plan, span, capacity, (q, k, v, y))
    return Program(NPU2(), rt).resolve_program()


def _array(plan: FlowQkv) -> tuple[Ends, list[Any]]:
    """FIFOs, buffers and cores; nothing here depends on the launch."""
    kernels, barrier = _kernels(), WorkerRuntimeBarrier()
    k, k_parts = _broadcast("k", K_COLUMN)
    v, v_parts = _broadcast("v", V_COLUMN)
    ends, workers = Ends([], k_parts, v_parts, [], [], [], [], barrier), []
    q_ty, y_ty = array(ROWS * HEAD, bfloat16), array(OUT_ROWS * HEAD, bfloat16)
    blocks = [(ROWS // 8, 8 * HEAD), (HEAD // 8, 8), (8, HEAD), (8, 1)]
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
        ends.q.append(q.prod())
        ends.y.append(y)
        first_row = ROWS * (column * PAIRS // plan.group)
        for pair in range(PAIRS):
            name = f"{column}_{pair}"
            message = ObjectFifo(array(MESSAGE_BYTES, np.uint8), depth=2, name=f"message_{name}")
            place = Tile(column, 2 + 2 * pair)
            words, state = _buffers("scores", SCORES_WORDS, name, place)
            ends.scores_words.append(words)
            ends.images.append(state[-1])
            fifos = [q_in[pair].cons(), k.cons(depth=2), message.prod()]
            arguments = [*fifos, *state, words, barrier, *kernels["scores"]]
            workers.append(Worker(_scores_core(plan, first_row), arguments, placement=place, stack_size=STACK))
            place = Tile(column, 3 + 2 * pair)
            words, state = _buffers("values", VALUES_WORDS, name, place)
            ends.values_words.append(words)
            fifos = [message.cons(), v.cons(depth=2), y_out[pair].prod()]
            arguments = [*fifos, *state, words, barrier, *kernels["values"]]
            workers.append(Worker(_values_core(plan), arguments, placement=place, stack_size=STACK))
    return ends, workers


def _buffers(role: str, count: int, name: str, place: Any) -> tuple[Any, list[Any]]:
    """A core's run-time words, and its state."""
    words = Buffer(vectors(count, np.int32), name=f"{role}_words_{name}", placement=place, use_write_rtp=True)
    state = [
        Buffer(array(size, dtype), name=f"{role}_{part}_{name}", placement=place, use_write_rtp=part == "images")
        for part, (size, dtype) in _STATE[role].items()
    ]
    return words, state


# L1 of a core beside its FIFOs; "images" and the words are written by the runtime sequence.
_STATE: dict[str, dict[str, tuple[int, Any]]] = {
    "scores": {
        "limbs": (LIMB_BYTES, np.uint8),
        "softmax": (SOFTMAX_FLOATS, np.float32),
        "scores": (ROWS * KEYS, np.float32),
        "bounds": (2 * ROWS + 16, np.int32),
        "images": (2 * MOST_IMAGES, np.int32),
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


def _for_each_pass(plan: FlowQkv, words: Any, table: int, length: int, body: Any) -> None:
    """Calls body(number of the pass in its stretch, the stretch's word at …) for the passes of every KV head.

    `words[table]` is the number of stretches, `length` words of each follow.
    """
    for _ in range_(plan.kv_heads):
        for stretch in range_(words[table]):

            def word(which: int, stretch: Any = stretch) -> Any:
                return words[stretch * length + (table + 1 + which)]

            for i in range_(word(PASSES)):
                body(index_cast(i, to=T.i32()), word)


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

        def one_pass(number: Any, word: Any) -> None:
            position = number * plan.pass_positions + (word(POSITION) + first_row)
            first_key = number * word(FIRST_STEP) + word(FIRST)
            set_bounds(images, bounds, ROWS, ROWS, position, words[LENGTH], words[CAUSAL], words[WINDOW], words[IMAGES])
            set_queries(q.acquire(1), limbs, softmax, ROWS)
            q.release(1)
            for i in range_(number * word(TILES_STEP) + word(TILES)):
                first = index_cast(i, to=T.i32()) * KEYS + first_key
                keys = k.acquire(1)
                score(limbs, keys, bounds, softmax, scores, message.acquire(1), ROWS, KEYS, first)
                message.release(1)
                k.release(1)

        _for_each_pass(plan, words, SCORES_STRETCHES, SCORES_STRETCH, one_pass)

    return core


def _values_core(plan: FlowQkv) -> Any:
    def core(message: Any, v: Any, y: Any, v_blocks: Any, sums: Any, words: Any, barrier: Any, *kernels: Any) -> None:
        init, add, finish = kernels
        barrier.wait_for_value(1)

        def one_pass(number: Any, word: Any) -> None:
            init(sums, ROWS, HEAD)
            for _ in range_(number * word(TILES_STEP) + word(TILES) - 1):
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

        _for_each_pass(plan, words, VALUES_STRETCHES, VALUES_STRETCH, one_pass)

    return core
