"""What differs from token to token: how much of the cache each channel reads, and what each tile must know of that."""

from __future__ import annotations

from dataclasses import dataclass

from .plan import BLOCK_ROWS, KV_ROWS, Plan


def blocks_of(positions: int) -> int:
    """KV blocks that hold so many positions."""
    return -(-positions // BLOCK_ROWS)


@dataclass(frozen=True)
class Token:
    """Where a token is: `past` positions are cached; the caches of global layers have room for `capacity`."""

    past: int
    capacity: int

    def slots(self, plan: Plan, is_global: bool) -> tuple[int, int]:
        """Cached slots that a layer reads, and the slot among them that the token evicts (-1: none)."""
        window = plan.shape.window
        if is_global or self.past < window:
            return self.past, -1
        return window, self.past % window

    def write_slot(self, plan: Plan, is_global: bool) -> int:
        """Where the token's own keys and values go."""
        return self.past if is_global else self.past % plan.shape.window


def cache_blocks(plan: Plan, token: Token, layer: int) -> int:
    """Blocks of a layer's cache for one KV head."""
    return blocks_of(token.capacity if plan.shape.is_global(layer) else plan.shape.window)


def channel_blocks(plan: Plan, token: Token, channel: int, is_global: bool) -> tuple[int, int]:
    """(first, count) of the blocks that a channel reads of its KV head."""
    slots, _ = token.slots(plan, is_global)
    each, index = plan.channels_per_kv_head, channel % plan.channels_per_kv_head
    total = blocks_of(slots)
    bounds = [total * i // each for i in (index, index + 1)]
    return bounds[0], bounds[1] - bounds[0]


def parameters(plan: Plan, token: Token, tile: int) -> list[int]:
    """Of one tile, for sliding, then for global layers: whole objects, one more or none, its rows, the row to skip."""
    values = []
    for is_global in (False, True):
        slots, evicted = token.slots(plan, is_global)
        first, count = channel_blocks(plan, token, tile // 2, is_global)
        offset = KV_ROWS * (tile % 2)  # of this tile's rows in a block
        last_rows = min(KV_ROWS, max(0, slots - (first + count - 1) * BLOCK_ROWS - offset))
        skip = -1
        if evicted >= 0 and offset <= evicted % BLOCK_ROWS < offset + KV_ROWS:
            block = evicted // BLOCK_ROWS - first
            if 0 <= block < count:
                skip = block * KV_ROWS + evicted % BLOCK_ROWS - offset
        values += [max(count - 1, 0), min(count, 1), last_rows, skip]
    return values
