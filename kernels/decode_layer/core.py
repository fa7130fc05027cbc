"""What a tile of the decode design does: one program for every layer, tile and context length.

A core's objects, in the order in which they come (plan.py has the counts):

    hub and writer only: rotation tables, hidden state, first input norm
    per layer:  qkv weights [q, k norms] · K, V, K, V … · o weights [two norms] · gate, up … · down [two norms]
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from aie.extras import types as T
from aie.extras.dialects.arith import index_cast
from aie.iron.controlflow import range_

from ..gemma3_shapes import GLOBAL_EVERY
from ..matmul_nbits.packing import GROUP_COLUMNS, STRIP_ROWS, UNITS_PER_OBJECT
from .plan import HUB, KV_ROWS, OBJECT, PER_KIND, RECORD, WRITER, Plan, Run, chain_sources

HEAD = 256
ROTATION = 256  # floats of a position's cos and sin

# Run-time parameters of a tile, for each kind of layer (token.py).
FULL, LAST, LAST_ROWS, SKIP = range(4)


class TileProgram:
    """The core function of one tile. `names` are those of the arguments that the worker passes, in order."""

    def __init__(self, plan: Plan, tile: int, names: list[str]) -> None:
        self.plan, self.tile, self.names = plan, tile, names
        self.share, self.shape = plan.shares[tile], plan.shape
        self.sources = [f"chain{source}" for source in chain_sources(tile)]
        self.heads = plan.heads_of(tile)
        self.is_hub = tile == HUB

    def __call__(self, *args: Any) -> None:
        """A token."""
        t = SimpleNamespace(**dict(zip(self.names, args, strict=True)))
        t.barrier.wait_for_value(1)  # the parameters are written
        self._start(t)
        for layer in range_(self.shape.layers):
            kind = (layer % GLOBAL_EVERY) // (GLOBAL_EVERY - 1)  # 1: this layer sees everything
            self._receive_x(t, self.shape.hidden)
            self._qkv(t, kind)
            self._attention(t, kind)
            self._o(t)
            self._mlp(t)
        self._finish(t)

    # ---- weights

    def _run(self, t: Any, run: Run, first_strip: int, x_group0: int = 0) -> None:
        """Sums of a run's units; its columns begin at group `x_group0` of x."""
        for i in range_(run.objects):
            unit = index_cast(i, to=T.i32()) * UNITS_PER_OBJECT + run.first
            weights = t.stream.acquire(1)
            t.fused_dqp(
                weights,
                t.x,
                t.x_groups,
                t.sums,
                UNITS_PER_OBJECT,
                unit // run.groups - first_strip,
                unit % run.groups,
                run.groups,
                x_group0,
            )
            t.stream.release(1)

    def _rows(self, t: Any, run: Run) -> tuple[int, int]:
        """Sums of the rows of a run: (first, count) of what `sums` holds."""
        t.zero(t.sums, run.strips * STRIP_ROWS)
        self._run(t, run, run.strip)
        return run.strip * STRIP_ROWS, run.strips * STRIP_ROWS

    # ---- the chain to the hub, and the message that comes back

    def _to_hub(self, t: Any, first: int, count: int, total: int) -> None:
        """Hands the sums of all rows on, a part at a time; the hub adds them to its own."""
        for part in range_(total // self.plan.chunk):
            at = index_cast(part, to=T.i32()) * self.plan.chunk
            if self.is_hub:
                for source in self.sources:
                    given = getattr(t, source).acquire(1)
                    t.gather(given, t.sums, at, self.plan.chunk)
                    getattr(t, source).release(1)
            else:
                self._hand_on(t, first, count, at, self.plan.chunk)

    def _hand_on(self, t: Any, first: int, count: int, at: Any, length: int) -> None:
        out = t.chain.acquire(1)
        t.place(t.sums, out, first, count, at, length)
        for source in self.sources:
            given = getattr(t, source).acquire(1)
            t.add(given, out, length)
            getattr(t, source).release(1)
        t.chain.release(1)

    def _receive_x(self, t: Any, count: int) -> None:
        """The hub has its own already."""
        if self.is_hub:
            return
        message = t.message.acquire(1)
        t.activation(message, t.x, t.x_groups, 0, count, 0)
        t.message.release(1)

    def _send_x(self, t: Any, message: Any, count: int) -> None:
        t.activation(message, t.x, t.x_groups, 0, count, 0)
        t.message.release(1)

    # ---- steps of a layer

    def _start(self, t: Any) -> None:
        """The hub takes the token in and sends its first norm."""
        shape, plan = self.shape, self.plan
        if self.tile == WRITER:
            self._skip(t, plan.state_objects + 2)
        if not self.is_hub:
            return
        tables = t.stream.acquire(1)
        t.load_table(tables, t.table, 0, 2 * ROTATION)
        t.stream.release(1)
        per_object = OBJECT // 4
        for i in range(plan.state_objects):
            state = t.stream.acquire(1)
            first = i * per_object
            t.load_hidden(state, t.hidden, first, min(per_object, shape.hidden - first))
            t.stream.release(1)
        norm = t.stream.acquire(1)
        message = t.message.acquire(1)
        t.rms_norm(t.hidden, norm, message, 1, shape.hidden, 0)
        t.stream.release(1)
        self._send_x(t, message, shape.hidden)

    def _skip(self, t: Any, objects: int) -> None:
        """The writer shares the hub's channel and lets its objects pass."""
        for _ in range_(objects):
            t.stream.acquire(1)
            t.stream.release(1)

    def _qkv(self, t: Any, kind: Any) -> None:
        first, count = self._rows(t, self.share.qkv)
        heads = self.shape.heads + 2 * self.shape.kv_heads
        if not self.is_hub:
            for head in range_(heads):
                self._hand_on(t, first, count, index_cast(head, to=T.i32()) * HEAD, HEAD)
            if self.tile == WRITER:
                self._skip(t, 1)
            return

        norms = t.stream.acquire(1)
        rotation = index_cast(kind, to=T.i32()) * ROTATION

        def gather(row: Any) -> None:
            t.place(t.sums, t.head, first, count, row, HEAD)
            for source in self.sources:
                given = getattr(t, source).acquire(1)
                t.add(given, t.head, HEAD)
                getattr(t, source).release(1)

        message = t.message.acquire(1)
        for head in range_(self.shape.heads):
            row = index_cast(head, to=T.i32()) * HEAD
            gather(row)
            t.qk_norm_rope(t.head, norms, t.table, message, HEAD, 0, rotation, row)
        t.copy(message, t.scratch, 2 * HEAD * self.heads.start, 2 * HEAD * len(self.heads))
        t.message.release(1)
        message = t.message.acquire(1)
        for head in range_(self.shape.kv_heads):
            row = index_cast(head, to=T.i32()) * HEAD
            gather(row + self.shape.attention)
            t.qk_norm_rope(t.head, norms, t.table, message, 0, HEAD, rotation, row * 2)
        for head in range_(self.shape.kv_heads):
            row = index_cast(head, to=T.i32()) * HEAD
            gather(row + (self.shape.attention + self.shape.kv_heads * HEAD))
            t.kv_store(t.head, message, HEAD, row * 2 + HEAD)
        t.message.release(1)
        t.stream.release(1)

    def _attention(self, t: Any, kind: Any) -> None:
        """Scores and values of this tile's share of the past, and on one tile of the new token; then the merge."""
        count, shape = len(self.heads), self.shape
        # sums is free now: it holds the attention state, own heads first
        t.flow_init(t.softmax, t.sums, shape.heads if self.is_hub else count)
        new_kv = None
        if not self.is_hub:
            message = t.message.acquire(1)
            t.copy(message, t.scratch, 2 * HEAD * self.heads.start, 2 * HEAD * count)
            t.message.release(1)
            new_kv = t.message.acquire(1)
            if self.tile == WRITER:
                row = t.kv_out.acquire(1)
                t.store_kv(new_kv, row, 2 * shape.kv_heads * HEAD)
                t.kv_out.release(1)

        def cached(rows: Any, skip: Any) -> None:
            keys = t.stream.acquire(1)
            t.flow_scores(t.scratch, keys, t.softmax, t.weights, count, 0, rows, skip)
            t.stream.release(1)
            values = t.stream.acquire(1)
            t.flow_values(t.weights, values, t.sums, count, 0, rows)
            t.stream.release(1)

        def parameter(which: int) -> Any:
            return t.parameters[kind * PER_KIND + which]

        full, skip = parameter(FULL), parameter(SKIP)
        for block in range_(full):
            cached(KV_ROWS, skip - index_cast(block, to=T.i32()) * KV_ROWS)
        for _ in range_(parameter(LAST)):
            cached(parameter(LAST_ROWS), skip - full * KV_ROWS)
        if not self.is_hub:
            if self.plan.takes_new_token(self.tile):
                row = 2 * self.plan.kv_head(self.tile)
                t.flow_scores(t.scratch, new_kv, t.softmax, t.weights, count, row, 1, -1)
                t.flow_values(t.weights, new_kv, t.sums, count, row + 1, 1)
            t.message.release(1)
        self._merge(t)

    def _merge(self, t: Any) -> None:
        """One head after the other towards the hub; a tile hands on those that it or a tile behind it has seen."""
        slots = [*self.heads, *(head for head in range(self.shape.heads) if head not in self.heads)]
        message = t.message.acquire(1) if self.is_hub else None
        for head in sorted(_heads_seen(self.plan, self.tile)):
            slot = slots.index(head)
            given = [
                name
                for name, source in zip(self.sources, chain_sources(self.tile), strict=True)
                if head in _heads_seen(self.plan, source)
            ]
            if not self.is_hub:
                out = t.chain.acquire(1)
            mine = self.is_hub or head in self.heads
            for name in given:
                record = getattr(t, name).acquire(1)
                if mine:
                    t.flow_merge(record, t.sums, slot)
                else:  # of another KV head: one neighbour has it, and it passes through
                    t.forward(record, out, RECORD)
                getattr(t, name).release(1)
            if self.is_hub:
                t.flow_finish(t.sums, message, slot, head * HEAD)
            else:
                if mine:
                    t.place(t.sums, out, 0, self.plan.sums, slot * RECORD, RECORD)
                t.chain.release(1)
        if self.is_hub:
            self._send_x(t, message, self.shape.attention)
        self._receive_x(t, self.shape.attention)

    def _o(self, t: Any) -> None:
        if self.is_hub:
            t.zero(t.sums, self.shape.hidden)
            run = self.share.o
            self._run(t, run, 0)
            self._to_hub(t, 0, 0, self.shape.hidden)
        else:
            first, count = self._rows(t, self.share.o)
            self._to_hub(t, first, count, self.shape.hidden)
        self._norm(t)
        self._receive_x(t, self.shape.hidden)

    def _mlp(self, t: Any) -> None:
        share, shape = self.share, self.shape
        groups = shape.hidden // GROUP_COLUMNS
        for group in range_(share.mlp_groups):
            t.zero(t.sums, 4 * STRIP_ROWS)
            self._run(t, Run(0, share.gate_up_objects, groups), 0)
            t.gelu_mul(t.sums, t.scratch, GROUP_COLUMNS, index_cast(group, to=T.i32()) * GROUP_COLUMNS)
        t.activation(t.scratch, t.x, t.x_groups, 0, share.mlp_groups * GROUP_COLUMNS, self.plan.x_groups)
        t.zero(t.sums, self.plan.sums)
        self._run(t, Run(0, share.down_objects, share.mlp_groups), 0, self.plan.x_groups)
        self._to_hub(t, 0, shape.hidden, shape.hidden)
        self._norm(t)

    def _norm(self, t: Any) -> None:
        """The hub adds the normed sums to the hidden state and sends the next norm of it."""
        shape, one = self.shape, self.plan.norm_objects == 1
        if not self.is_hub:
            if self.tile == WRITER:
                self._skip(t, self.plan.norm_objects)
            return
        weights = t.stream.acquire(1)
        t.residual_add(t.sums, weights, t.hidden, 1, shape.hidden, 0)
        if not one:
            t.stream.release(1)
            weights = t.stream.acquire(1)
        message = t.message.acquire(1)
        t.rms_norm(t.hidden, weights, message, 1, shape.hidden, shape.hidden if one else 0)
        t.stream.release(1)
        self._send_x(t, message, shape.hidden)

    def _finish(self, t: Any) -> None:
        """The last message is the final norm of the hidden state; the writer takes it to DDR."""
        if self.is_hub:
            return
        message = t.message.acquire(1)
        if self.tile == WRITER:
            out = t.out.acquire(1)
            t.store_hidden(message, out, self.shape.hidden)
            t.out.release(1)
        t.message.release(1)


def _heads_seen(plan: Plan, tile: int) -> set[int]:
    """Query heads of a tile and of all tiles behind it in the chain."""
    return set(plan.heads_of(tile)).union(*(_heads_seen(plan, source) for source in chain_sources(tile)))
