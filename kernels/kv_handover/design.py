"""From prefill's keys and values to decode's cache: pure data movement, once a prompt, no core takes part.

FlowQKV reads K and V apart, row p of a head is position p. The decode design reads blocks of 20 positions, K then V,
and a sliding layer's position p in slot p mod window (decode_layer/packing.py). A head of a layer is one *stretch* of K
and one of V.

    flow      shim MM2S → memtile → shim S2MM of the same column: 16 of them, each with its own list of stretches
    L2        2 x 4 x 10 KB: a block's keys or values
    channels  shim 2 in, 2 out; memtile 2 in, 2 out
    BDs       memtile 8 of 24 even, 8 of 24 odd; shim ≤ 12 of 16
    DDR       512 B a position and head for K, as much for V, read and written; of sliding layers the window only
    roofline  DDR

In the order of slots, a ring that has turned is two runs of rows: the newest turn's, then what is left of the last.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from aie.helpers.taplib import TensorAccessPattern
from aie.iron import ObjectFifo, Program, Runtime
from aie.iron.device import NPU2, Tile
from ml_dtypes import bfloat16

from ..decode_layer.plan import BLOCK_ROWS
from ..decode_layer.token import blocks_of
from ..gemma3_shapes import Gemma3Shape
from ..tile_streams import CHANNELS, array, linear, shim_of

HEAD = 256
ROWS = BLOCK_ROWS * HEAD  # elements of a block's keys, or values
IN_FLIGHT = 2  # stretches of a channel: at most two transfers in and one out each


@dataclass(frozen=True)
class Handover:
    """A prompt's cache.

    Attributes:
        past: Positions.
        rows: Of a head in prefill's keys and values: a block more than the prompt's, for what fills the last block.
        capacity: Positions for which decode's global layers have room.
    """

    shape: Gemma3Shape
    past: int
    rows: int
    capacity: int

    def layer_blocks(self, layer: int) -> int:
        """Blocks of a head in decode's cache."""
        return blocks_of(self.capacity if self.shape.is_global(layer) else self.shape.window)

    @property
    def cache_elements(self) -> int:
        """Of decode's cache, all layers."""
        return 2 * ROWS * self.shape.kv_heads * sum(map(self.layer_blocks, range(self.shape.layers)))

    def runs(self, layer: int) -> list[tuple[int, int]]:
        """(first, count) of the rows that fill the slots in their order, up to whole blocks."""
        window = self.shape.window
        if self.shape.is_global(layer) or self.past <= window:
            runs = [(0, self.past)]
        else:
            turn, newest = divmod(self.past, window)
            runs = [(turn * window, newest)] if newest else []
            runs.append(((turn - 1) * window + newest, window - newest))
        first, count = runs[-1]
        return [*runs[:-1], (first, count + -sum(n for _, n in runs) % BLOCK_ROWS)]

    @property
    def ddr_bytes(self) -> int:
        """What crosses DDR."""
        rows = sum(count for layer in range(self.shape.layers) for _, count in self.runs(layer))
        return 2 * 2 * 2 * HEAD * self.shape.kv_heads * rows


def plan_handover(shape: Gemma3Shape, past: int, rows: int, capacity: int) -> Handover:
    """A prompt of `past` positions."""
    if not 0 < past <= min(capacity, rows - BLOCK_ROWS):
        raise ValueError(f"{past} positions: needs 1 up to capacity {capacity} and rows {rows} less {BLOCK_ROWS}")
    return Handover(shape, past, rows, capacity)


@dataclass(frozen=True)
class _Stretch:
    part: int  # 0 keys, 1 values
    fills: tuple[TensorAccessPattern, ...]
    drain: TensorAccessPattern
    elements: int


def _stretches(plan: Handover) -> list[_Stretch]:
    heads, total = plan.shape.kv_heads, plan.shape.layers * plan.shape.kv_heads * plan.rows * HEAD
    found, block = [], 0
    for layer in range(plan.shape.layers):
        runs = plan.runs(layer)
        blocks = sum(count for _, count in runs) // BLOCK_ROWS
        for head in range(heads):
            base = (layer * heads + head) * plan.rows
            fills = tuple(linear(total, (base + first) * HEAD, count * HEAD) for first, count in runs)
            for part in range(2):
                offset = (2 * block + part) * ROWS
                sizes, strides = [1, blocks, BLOCK_ROWS, HEAD], [0, 2 * ROWS, HEAD, 1]
                drain = TensorAccessPattern((plan.cache_elements,), offset, sizes, strides)
                found.append(_Stretch(part, fills, drain, blocks * ROWS))
            block += plan.layer_blocks(layer)
    return found


def _deal(stretches: list[_Stretch]) -> list[list[_Stretch]]:
    """To the channels: the longest first, each to the least loaded."""
    load, dealt = [0] * CHANNELS, [list[_Stretch]() for _ in range(CHANNELS)]
    for stretch in sorted(stretches, key=lambda s: -s.elements):
        channel = min(range(CHANNELS), key=lambda c: load[c])
        load[channel] += stretch.elements
        dealt[channel].append(stretch)
    return dealt


def kv_handover(plan: Handover) -> Any:
    """The program: sequence(keys, values, cache), bf16.

    keys and values are `[layers, kv_heads, rows, 256]`, cache is decode's: pack_cache of all layers.
    """
    dealt = _deal(_stretches(plan))
    ins = [ObjectFifo(array(ROWS, bfloat16), depth=4, name=f"in{channel}") for channel in range(CHANNELS)]
    outs = [
        fifo.cons().forward(depth=4, name=f"out{channel}", placement=Tile(channel // 2, 1))
        for channel, fifo in enumerate(ins)
    ]
    elements = plan.shape.layers * plan.shape.kv_heads * plan.rows * HEAD
    rt = Runtime()
    with rt.sequence(array(elements, bfloat16), array(elements, bfloat16), array(plan.cache_elements, bfloat16)) as (
        keys,
        values,
        cache,
    ):
        groups = []
        for i in range(max(map(len, dealt))):
            group = rt.task_group()
            for channel, stretches in enumerate(dealt):
                if i < len(stretches):
                    stretch, place = stretches[i], shim_of(channel)
                    for fill in stretch.fills:
                        rt.fill(ins[channel].prod(), (keys, values)[stretch.part], fill, group, placement=place)
                    rt.drain(outs[channel].cons(), cache, stretch.drain, group, wait=True, placement=place)
            groups.append(group)
            if len(groups) == IN_FLIGHT:
                rt.finish_task_group(groups.pop(0))
        for group in groups:
            rt.finish_task_group(group)
    return Program(NPU2(), rt).resolve_program()
