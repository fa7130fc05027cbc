"""The steps of prefill that take one token's row at a time: norms, residual, QK-norm and RoPE, GeGLU.

step                in                                   out                              a layer
norm                h, w                                 x                                the first only
qk_norm_rope        qkv rows, rotation tables, norms     q (scaled for FlowQKV); K, V     1
attention_residual  o's rows, h, two norms               h += norm(o); x = norm(h)        1
gelu_mul            gate and up of a row                 gelu(gate) · up                  1
mlp_residual        down's rows, h, two norms            as above                         1

tiles     8, one a column: a contiguous eighth of the rows each. They move 4 to 12 B a value for less than a cycle of
          work, so eight cores wait for DDR already
flow      shim MM2S 0, 1 → core → shim S2MM 0, 1; no memtile. Weights come as the first objects of stream 0
L1        at most 56 KB: residual of 4B, 18 B a value of a row and two weights
channels  shim 2 in, 2 out; core 2 in, 2 out
DDR       what in and out say, once; rotation tables once for each head of q and k
roofline  DDR, reads and writes together
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from aie.helpers.taplib import TensorAccessPattern
from aie.iron import Buffer, Kernel, ObjectFifo, Program, Runtime, Worker
from aie.iron.controlflow import range_
from aie.iron.device import NPU2, Tile
from ml_dtypes import bfloat16

from ..gemma3_shapes import Gemma3Shape
from ..tile_streams import COLUMNS, array, linear

STEPS = ("qk_norm_rope", "attention_residual", "gelu_mul", "mlp_residual")  # of a layer, in order
FIRST_STEP = "norm"
HEAD = 256
POSITIONS = 8  # of an object of qk_norm_rope
MOST_POSITIONS = 1016  # of a part of qk_norm_rope: whole objects below the wrap of a transfer, 1023
GELU_VALUES = 2048  # of an object of gelu_mul
STACK = 2048


@dataclass(frozen=True)
class Rows:
    """A step over `rows` tokens; `capacity` and `start` say where K and V go (qk_norm_rope)."""

    shape: Gemma3Shape
    step: str
    rows: int
    capacity: int = 0
    start: int = 0

    @property
    def each(self) -> int:
        """Rows of a core."""
        return self.rows // COLUMNS

    @property
    def part(self) -> int:
        """Rows that a core of qk_norm_rope takes head by head at a time: all, or an equal part of many."""
        return next(
            self.each // n
            for n in range(1, self.each)
            if self.each % (n * POSITIONS) == 0 and self.each // n <= MOST_POSITIONS
        )


def plan_rows(shape: Gemma3Shape, step: str, rows: int, capacity: int | None = None, start: int = 0) -> Rows:
    """A step; rows must be a multiple of 64."""
    if step not in (*STEPS, FIRST_STEP):
        raise ValueError(f"no row-wise step '{step}'; there are {', '.join((FIRST_STEP, *STEPS))}")
    if rows % (COLUMNS * POSITIONS) or rows <= 0:
        raise ValueError(f"{rows} rows; {step} takes multiples of {COLUMNS * POSITIONS}")
    return Rows(shape, step, rows, rows + start if capacity is None else capacity, start)


def rows(plan: Rows) -> Any:
    """The program. All rows of its sequence's arrays are padded to plan.rows.

    norm: h fp32 `[rows][hidden]`, w bf16 `[hidden]`, x bf16 `[rows][hidden]`.
    residual: delta bf16, h fp32, weights bf16 `[2][hidden]` (post, next), x bf16; h is changed in place.
    gelu_mul: gate and up bf16 `[rows][2][inter]`, y bf16 `[rows][inter]`.
    qk_norm_rope: qkv bf16 `[rows][heads + 2 kv heads][256]`, tables fp32 `[rows][cos 128, sin 128]`, norms bf16
        `[16][256]` (q's in row 0, k's in row 8), q bf16 `[rows][heads][256]`, k and v bf16 `[kv heads][capacity][256]`.
    """
    build = {"norm": _norm, "gelu_mul": _gelu_mul, "qk_norm_rope": _qk_norm_rope}.get(plan.step, _residual)
    return build(plan)


def _kernel(op: str, name: str, *types: Any) -> Any:
    return Kernel(f"{name}_aie2p", f"{op}_aie2p.o", list(types))


def _fifos(name: str, kind: Any, depth: int = 2) -> list[Any]:
    return [ObjectFifo(kind, depth=depth, name=f"{name}{column}") for column in range(COLUMNS)]


def _place(column: int) -> Tile:
    return Tile(column, 2)


def _shim(column: int) -> Tile:
    return Tile(column, 0)


def _norm(plan: Rows) -> Any:
    n, i32 = plan.shape.hidden, np.int32
    h_ty, x_ty = array(n, np.float32), array(n, bfloat16)
    rms_norm = _kernel("rms_norm", "rms_norm", h_ty, x_ty, x_ty, i32, i32, i32)
    h_in, w_in, x_out = _fifos("h", h_ty), _fifos("w", x_ty, 1), _fifos("x", x_ty)

    def core(h_end: Any, w_end: Any, x_end: Any, rms_norm: Any) -> None:
        w = w_end.acquire(1)
        for _ in range_(plan.each):
            h, x = h_end.acquire(1), x_end.acquire(1)
            rms_norm(h, w, x, 1, n, 0)
            h_end.release(1)
            x_end.release(1)
        w_end.release(1)

    workers = [
        Worker(core, [h_in[c].cons(), w_in[c].cons(), x_out[c].prod(), rms_norm], placement=_place(c), stack_size=STACK)
        for c in range(COLUMNS)
    ]
    total, part = plan.rows * n, plan.each * n
    rt = Runtime()
    with rt.sequence(array(total, np.float32), x_ty, array(total, bfloat16)) as (h, w, x):
        rt.start(*workers)
        for c in range(COLUMNS):
            rt.fill(w_in[c].prod(), w, placement=_shim(c))
            rt.fill(h_in[c].prod(), h, linear(total, c * part, part), placement=_shim(c))
            rt.drain(x_out[c].cons(), x, linear(total, c * part, part), wait=True, placement=_shim(c))
    return Program(NPU2(), rt).resolve_program()


def _residual(plan: Rows) -> Any:
    n, i32 = plan.shape.hidden, np.int32
    h_ty, x_ty = array(n, np.float32), array(n, bfloat16)
    kernels = [
        _kernel("tile_exchange", "tile_exchange_pass", x_ty, x_ty, i32, i32),
        _kernel("tile_exchange", "tile_exchange_forward", h_ty, h_ty, i32),
        _kernel("residual_add", "residual_add_bf16", x_ty, x_ty, h_ty, i32, i32, i32),
        _kernel("rms_norm", "rms_norm", h_ty, x_ty, x_ty, i32, i32, i32),
    ]
    delta_in, h_in = _fifos("delta", x_ty), _fifos("h", h_ty)
    h_out, x_out = _fifos("h_out", h_ty, 1), _fifos("x", x_ty, 1)

    def core(
        delta_end: Any, h_end: Any, h_out_end: Any, x_end: Any, post: Any, following: Any, keep: Any, copy: Any,
        residual_add: Any, rms_norm: Any,
    ) -> None:  # fmt: skip
        for weight in (post, following):
            w = delta_end.acquire(1)
            keep(w, weight, 0, 2 * n)
            delta_end.release(1)
        for _ in range_(plan.each):
            h, new = h_end.acquire(1), h_out_end.acquire(1)
            copy(h, new, n)
            h_end.release(1)
            delta, x = delta_end.acquire(1), x_end.acquire(1)
            residual_add(delta, post, new, 1, n, 0)
            delta_end.release(1)
            rms_norm(new, following, x, 1, n, 0)
            h_out_end.release(1)
            x_end.release(1)

    workers = []
    for c in range(COLUMNS):
        place = _place(c)
        weights = [Buffer(x_ty, name=f"{name}{c}", placement=place) for name in ("post", "following")]
        ends = [delta_in[c].cons(), h_in[c].cons(), h_out[c].prod(), x_out[c].prod()]
        workers.append(Worker(core, [*ends, *weights, *kernels], placement=place, stack_size=STACK))
    total, part = plan.rows * n, plan.each * n
    rt = Runtime()
    with rt.sequence(
        array(total, bfloat16), array(total, np.float32), array(2 * n, bfloat16), array(total, bfloat16)
    ) as (delta, h, w, x):
        rt.start(*workers)
        for c in range(COLUMNS):
            mine = linear(total, c * part, part)
            rt.fill(delta_in[c].prod(), w, placement=_shim(c))
            rt.fill(delta_in[c].prod(), delta, mine, placement=_shim(c))
            rt.fill(h_in[c].prod(), h, mine, placement=_shim(c))
            rt.drain(h_out[c].cons(), h, mine, wait=True, placement=_shim(c))
            rt.drain(x_out[c].cons(), x, mine, wait=True, placement=_shim(c))
    return Program(NPU2(), rt).resolve_program()


def _gelu_mul(plan: Rows) -> Any:
    values = array(GELU_VALUES, bfloat16)
    gelu_mul = _kernel("gelu_mul", "gelu_mul_bf16", values, values, values, np.int32)
    gate_in, up_in, y_out = (_fifos(name, values) for name in ("gate", "up", "y"))
    inter = plan.shape.inter
    total = plan.rows * inter
    part = total // COLUMNS  # a multiple of an object: inter is one of 256, and a core has whole eights of rows

    def core(gate_end: Any, up_end: Any, y_end: Any, gelu_mul: Any) -> None:
        for _ in range_(part // GELU_VALUES):
            gate, up, y = gate_end.acquire(1), up_end.acquire(1), y_end.acquire(1)
            gelu_mul(gate, up, y, GELU_VALUES)
            for end in (gate_end, up_end, y_end):
                end.release(1)

    workers = [
        Worker(
            core, [gate_in[c].cons(), up_in[c].cons(), y_out[c].prod(), gelu_mul], placement=_place(c), stack_size=STACK
        )
        for c in range(COLUMNS)
    ]
    rt = Runtime()
    with rt.sequence(array(2 * total, bfloat16), array(total, bfloat16)) as (gate_up, y):
        rt.start(*workers)
        for c in range(COLUMNS):
            for i, half in enumerate((gate_in, up_in)):
                sizes, strides = [1, plan.each, inter // HEAD, HEAD], [0, 2 * inter, HEAD, 1]
                tap = TensorAccessPattern((2 * total,), 2 * c * part + i * inter, sizes, strides)
                rt.fill(half[c].prod(), gate_up, tap, placement=_shim(c))
            rt.drain(y_out[c].cons(), y, linear(total, c * part, part), wait=True, placement=_shim(c))
    return Program(NPU2(), rt).resolve_program()


def _qk_norm_rope(plan: Rows) -> Any:
    shape, i32 = plan.shape, np.int32
    size = POSITIONS * HEAD
    row_ty, table_ty = array(size, bfloat16), array(size, np.float32)
    kernels = [
        _kernel("qk_norm_rope", "qk_norm_rope_bf16", row_ty, row_ty, table_ty, row_ty, i32, i32, i32),
        _kernel("tile_exchange", "tile_exchange_pass", row_ty, row_ty, i32, i32),
    ]
    x_in, table_in = _fifos("qkv", row_ty), _fifos("table", table_ty)
    q_out, kv_out = _fifos("q", row_ty), _fifos("kv", row_ty)
    parts, objects = plan.each // plan.part, plan.part // POSITIONS

    def core(
        x_end: Any, table_end: Any, q_end: Any, kv_end: Any, q_norm: Any, k_norm: Any, norm_rope: Any, copy: Any
    ) -> None:
        for weight in (q_norm, k_norm):
            w = x_end.acquire(1)
            copy(w, weight, 0, 2 * size)
            x_end.release(1)
        for _ in range_(parts):
            for heads, out, weight, scalar in (
                (shape.heads, q_end, q_norm, HEAD),
                (shape.kv_heads, kv_end, k_norm, 0),
            ):
                for _ in range_(heads * objects):
                    x, table, y = x_end.acquire(1), table_end.acquire(1), out.acquire(1)
                    norm_rope(x, weight, table, y, POSITIONS, 1, scalar)
                    for end in (x_end, table_end, out):
                        end.release(1)
            for _ in range_(shape.kv_heads * objects):
                x, v = x_end.acquire(1), kv_end.acquire(1)
                copy(x, v, 0, 2 * size)
                x_end.release(1)
                kv_end.release(1)

    workers = []
    for c in range(COLUMNS):
        place = _place(c)
        weights = [Buffer(row_ty, name=f"{name}{c}", placement=place) for name in ("q_norm", "k_norm")]
        ends = [x_in[c].cons(), table_in[c].cons(), q_out[c].prod(), kv_out[c].prod()]
        workers.append(Worker(core, [*ends, *weights, *kernels], placement=place, stack_size=STACK))

    all_heads, total_kv = shape.heads + 2 * shape.kv_heads, shape.kv_heads * plan.capacity * HEAD

    def head_by_head(first_row: int, heads: int) -> TensorAccessPattern:
        """A part's rows of `[rows][heads][256]`: head, position, dimension."""
        width = heads * HEAD
        return TensorAccessPattern(
            (plan.rows * width,), first_row * width, [1, heads, plan.part, HEAD], [0, HEAD, width, 1]
        )

    def for_each_head(first_row: int) -> TensorAccessPattern:
        """A part's rotations, again for every head of q and k."""
        sizes, strides = [shape.heads + shape.kv_heads, 1, 1, plan.part * HEAD], [0, 0, 0, 1]
        return TensorAccessPattern((plan.rows * HEAD,), first_row * HEAD, sizes, strides)

    rt = Runtime()
    with rt.sequence(
        array(plan.rows * all_heads * HEAD, bfloat16),
        array(plan.rows * HEAD, np.float32),
        array(2 * size, bfloat16),
        array(plan.rows * shape.heads * HEAD, bfloat16),
        array(total_kv, bfloat16),
        array(total_kv, bfloat16),
    ) as (qkv, table, norms, q, k, v):
        rt.start(*workers)
        opening = rt.task_group()
        for c in range(COLUMNS):
            rt.fill(x_in[c].prod(), norms, task_group=opening, placement=_shim(c))
        for part in range(parts):
            group = rt.task_group()
            first_rows = [c * plan.each + part * plan.part for c in range(COLUMNS)]
            for c, row in enumerate(first_rows):
                rt.fill(x_in[c].prod(), qkv, head_by_head(row, all_heads), group, placement=_shim(c))
                rt.fill(table_in[c].prod(), table, for_each_head(row), group, placement=_shim(c))
                rt.drain(q_out[c].cons(), q, head_by_head(row, shape.heads), group, wait=True, placement=_shim(c))
            for target in (k, v):
                cached = rt.task_group()
                for c, row in enumerate(first_rows):
                    for head in range(shape.kv_heads):
                        tap = linear(total_kv, (head * plan.capacity + plan.start + row) * HEAD, plan.part * HEAD)
                        rt.drain(kv_out[c].cons(), target, tap, cached, wait=True, placement=_shim(c))
                rt.finish_task_group(cached)
            rt.finish_task_group(group)
        rt.finish_task_group(opening)
    return Program(NPU2(), rt).resolve_program()
