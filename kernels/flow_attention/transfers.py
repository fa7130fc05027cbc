"""FlowQKV's runtime sequence: which bytes of q, k, v and y cross DDR, when, and what the cores are told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from aie.helpers.taplib import TensorAccessPattern
from aie.iron.device import Tile

from ..tile_streams import COLUMNS
from .passes import (
    HEAD,
    KEYS,
    PAIRS,
    ROWS,
    FlowQkv,
    Span,
    Stretch,
    padded_tokens,
    passes_of,
    scores_words,
    values_words,
)

OUT_ROWS = 8  # of an object of y
K_COLUMN, V_COLUMN = 3, 4
MOST_ITERATIONS, MOST_STEPS = 64, 1023  # of a shim transfer's outermost dimension, of another
IN_FLIGHT = 3  # passes; a channel's queue holds four transfers


@dataclass(frozen=True)
class Ends:
    """What the sequence has hold of.

    Attributes:
        q, y: FIFOs of the columns.
        k, v: The two halves of every key tile.
        scores_words, images, values_words: Run-time parameters of the cores.
        barrier: Holds the cores until those are written.
    """

    q: list[Any]
    k: list[Any]
    v: list[Any]
    y: list[Any]
    scores_words: list[Any]
    images: list[Any]
    values_words: list[Any]
    barrier: Any


def launch(rt: Any, ends: Ends, plan: FlowQkv, span: Span, capacity: int, arguments: tuple[Any, ...]) -> None:
    """All transfers; `arguments` are q, k, v and y of the sequence."""
    q, k, v, y = arguments
    passes, rows = passes_of(plan, span), padded_tokens(plan, span)
    count = len(passes.keys)
    open_groups: list[tuple[Any, int]] = []  # (group, pass after whose end it may close)

    def group_until(number: int) -> Any:
        group = rt.task_group()
        open_groups.append((group, number))
        return group

    def close(done: int) -> None:
        """Frees what is no longer in use once the pass `done` is."""
        for entry in [entry for entry in open_groups if entry[1] <= done]:
            rt.finish_task_group(entry[0])
            open_groups.remove(entry)

    def fill_keys(head: int, stretch: Stretch, i: int, several: int, group: Any) -> None:
        for parts, data, column, side in ((ends.k, k, K_COLUMN, -1), (ends.v, v, V_COLUMN, 1)):
            for half, part in enumerate(parts):
                tap = _keys_tap(plan, stretch, capacity, head, i, several, half)
                rt.fill(part.prod(), data, tap, group, placement=Tile(column + side * half, 0))

    for head in range(plan.kv_heads):
        number = head * count
        for stretch in passes.stretches:
            for i in range(stretch.passes):
                close(number - IN_FLIGHT)
                in_head = number - head * count
                if in_head % MOST_ITERATIONS == 0:
                    several = min(MOST_ITERATIONS, count - in_head)
                    group = group_until(number + several - 1)
                    for column in range(COLUMNS):
                        tap = _queries_tap(plan, rows, head, column, in_head, several)
                        rt.fill(ends.q[column], q, tap, group, placement=Tile(column, 0))
                most = _passes_of_a_transfer(stretch)
                if i % most == 0:
                    several = min(most, stretch.passes - i)
                    fill_keys(head, stretch, i, several, group_until(number + several - 1))
                group = group_until(number)
                for column in range(COLUMNS):
                    tap = _y_tap(plan, rows, head, column, in_head)
                    rt.drain(ends.y[column].cons(), y, tap, group, wait=True, placement=Tile(column, 0))
                if number == 0:  # the streams fill meanwhile
                    _tell(rt, ends, span, scores_words(span, passes), values_words(passes))
                number += 1
    close(plan.kv_heads * count)


def _tell(rt: Any, ends: Ends, span: Span, scores: list[int], values: list[int]) -> None:
    images = [edge for image in span.images_met for edge in image]
    for buffers, words in ((ends.scores_words, scores), (ends.images, images), (ends.values_words, values)):
        for buffer in buffers:
            rt.inline_ops(_write, [buffer, words])
    rt.set_barrier(ends.barrier, 1)


def _write(buffer: Any, words: list[int]) -> None:
    for i, word in enumerate(words):
        buffer[i] = word


def _passes_of_a_transfer(stretch: Stretch) -> int:
    alike = stretch.tiles_step == 0 and stretch.first_step >= 0 and stretch.tiles <= MOST_STEPS
    return MOST_ITERATIONS if alike else 1


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
    plan: FlowQkv, stretch: Stretch, capacity: int, head: int, i: int, several: int, half: int
) -> TensorAccessPattern:
    """A half of every key tile of `several` passes of a stretch, from its i-th on; several have equally many tiles."""
    first, tiles = stretch.first + i * stretch.first_step, stretch.tiles + i * stretch.tiles_step
    offset = (head * capacity + first + half * KEYS // 2) * HEAD
    inner, total = [KEYS // 2, HEAD], (plan.kv_heads * capacity * HEAD,)
    if several == 1:
        outer = next(n for n in range(1, MOST_ITERATIONS) if tiles % n == 0 and tiles // n <= MOST_STEPS)
        sizes, strides = [outer, tiles // outer, *inner], [tiles // outer * KEYS * HEAD, KEYS * HEAD, HEAD, 1]
    else:
        sizes, strides = [several, tiles, *inner], [stretch.first_step * HEAD, KEYS * HEAD, HEAD, 1]
    return TensorAccessPattern(total, offset, sizes, strides)
