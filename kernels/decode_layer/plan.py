"""Who computes what in the decode design: the share of each of the 32 tiles in each phase of a layer.

Everything here follows from the model's sizes. A *channel* is one shim MM2S channel: it feeds two tiles, which take the
same number of objects (a memtile splits each 10240-byte L2 object into their two halves).

    phase    matrix                   share of a tile
    qkv      [qkv, hidden]            a run of whole objects; strips at the ends may be shared with a neighbour
    o        [hidden, attention]      likewise
    gate_up  2 x [inter, hidden]      groups of 32 MLP channels: 2 strips of gate, 2 of up
    down     [hidden, inter]          the columns of its own MLP channels: they never leave the tile

Partial sums of a row meet in the chain to the hub, so a share need not be whole rows and no tile waits for padding.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..gemma3_shapes import Gemma3Shape
from ..matmul_nbits.packing import GROUP_COLUMNS, OBJECT_BYTES, STRIP_ROWS, UNITS_PER_OBJECT

CHANNELS = 16
TILES = 32
OBJECT = OBJECT_BYTES[4]  # bytes of one object of a tile's stream, whatever it holds
KV_ROWS = 10  # keys or values of 256 bf16 in an object
BLOCK_ROWS = 2 * KV_ROWS  # positions of a KV block: what a channel's pair of tiles takes at once
PER_KIND = 4  # run-time parameters of a tile for a kind of layer
RECORD = 272  # floats of a head's attention state
HUB = 12  # its tile number: column 3, row 2, where the chains from west, east and north meet
WRITER = HUB + 1  # takes the new k and v, and the last hidden state, to DDR


@dataclass(frozen=True)
class Run:
    """Consecutive units of a matrix taken in strip-major order: `objects` objects from unit `first` on."""

    first: int
    objects: int
    groups: int  # units of a strip

    @property
    def strip(self) -> int:
        """First strip touched."""
        return self.first // self.groups

    @property
    def strips(self) -> int:
        """Strips touched."""
        last = self.first + self.objects * UNITS_PER_OBJECT - 1
        return last // self.groups - self.strip + 1 if self.objects else 0


@dataclass(frozen=True)
class Share:
    """What one tile does in a layer."""

    qkv: Run
    o: Run
    mlp_group: int  # first group of 32 MLP channels
    mlp_groups: int
    gate_up_objects: int  # a group
    down_objects: int


@dataclass(frozen=True)
class Plan:
    """The shares of all tiles, and what else the design needs to know of the model."""

    shape: Gemma3Shape
    shares: tuple[Share, ...]
    chunk: int  # floats of a chain object: a part of a sum, or one head's attention state

    @property
    def sums(self) -> int:
        """Floats of a tile's row sums: all rows and what the down projection's padding touches, or attention state."""
        down = max(-(-s.down_objects * UNITS_PER_OBJECT // s.mlp_groups) for s in self.shares)
        runs = max(max(s.qkv.strips, s.o.strips) for s in self.shares)
        return max(down * STRIP_ROWS, runs * STRIP_ROWS, self.shape.heads * RECORD, 4 * STRIP_ROWS)

    @property
    def x_groups(self) -> int:
        """Groups of the vector that all tiles share; a tile's own MLP channels follow."""
        return max(self.shape.hidden, self.shape.attention) // GROUP_COLUMNS

    @property
    def channels_per_kv_head(self) -> int:
        """Channels that stream the keys and values of one head."""
        return CHANNELS // self.shape.kv_heads

    @property
    def query_heads_per_kv_head(self) -> int:
        """Query heads that a tile serves."""
        return self.shape.heads // self.shape.kv_heads

    def takes_new_token(self, tile: int) -> bool:
        """Whether a tile attends to the token that is being decoded: the first of its KV head."""
        return tile % (2 * self.channels_per_kv_head) == 0

    def heads_of(self, tile: int) -> range:
        """The query heads of a tile."""
        each = self.query_heads_per_kv_head
        return range(self.kv_head(tile) * each, (self.kv_head(tile) + 1) * each)

    def kv_head(self, tile: int) -> int:
        """The KV head that a tile works on."""
        return tile // 2 // self.channels_per_kv_head

    @property
    def norm_objects(self) -> int:
        """Objects that two norm weights of `hidden` bf16 need: one if both fit."""
        return 1 if 2 * self.shape.hidden * 2 <= OBJECT else 2

    @property
    def state_objects(self) -> int:
        """Objects that the fp32 hidden state needs."""
        return -(-self.shape.hidden * 4 // OBJECT)

    def objects(self, tile: int) -> tuple[int, int]:
        """Objects of a layer before and after its KV objects."""
        share = self.shares[tile]
        hub = tile in (HUB, WRITER)
        before = share.qkv.objects + (1 if hub else 0)
        after = share.o.objects + share.mlp_groups * share.gate_up_objects + share.down_objects
        return before, after + (2 * self.norm_objects if hub else 0)


def chain_target(tile: int) -> int:
    """The neighbour to which a tile hands its sums: down its column, then along row 2 to the hub."""
    column, row = divmod(tile, 4)
    if row:
        return tile - 1
    return tile + 4 if column < HUB // 4 else tile - 4


def chain_sources(tile: int) -> list[int]:
    """The neighbours that hand theirs to it."""
    return [other for other in range(TILES) if other != HUB and chain_target(other) == tile]


def make_plan(shape: Gemma3Shape) -> Plan:
    """Shares the work of a layer: equal counts first, what is left over to the channels with the least load."""
    hidden_groups, attention_groups = shape.hidden // GROUP_COLUMNS, shape.attention // GROUP_COLUMNS
    hidden_strips = shape.hidden // STRIP_ROWS
    load = [0] * CHANNELS
    load[HUB // 2] = 5  # the norms' objects

    def deal(pairs: int, weight: int = 1) -> list[int]:
        counts = [pairs // CHANNELS] * CHANNELS
        for channel in sorted(range(CHANNELS), key=lambda c: (load[c], c))[: pairs % CHANNELS]:
            counts[channel] += 1
        for channel in range(CHANNELS):
            load[channel] += weight * counts[channel]
        return counts

    def whole(amount: int, by: int, what: str) -> int:
        if amount % by:
            raise ValueError(f"{shape.name}: {what} is {amount}, which is no multiple of {by}")
        return amount // by

    per_pair = 2 * UNITS_PER_OBJECT
    gate_up_objects = whole(4 * hidden_groups, UNITS_PER_OBJECT, "units of an MLP group")
    mlp = deal(whole(shape.inter, 2 * GROUP_COLUMNS, "inter"), gate_up_objects + hidden_strips // UNITS_PER_OBJECT)
    qkv = deal(whole(shape.qkv // STRIP_ROWS * hidden_groups, per_pair, "units of qkv"))
    o = deal(whole(hidden_strips * attention_groups, per_pair, "units of o"))

    shares = []
    first_qkv = first_o = first_group = 0
    for tile in range(TILES):
        channel = tile // 2
        shares.append(
            Share(
                Run(first_qkv, qkv[channel], hidden_groups),
                Run(first_o, o[channel], attention_groups),
                first_group,
                mlp[channel],
                gate_up_objects,
                -(-hidden_strips * mlp[channel] // UNITS_PER_OBJECT),
            )
        )
        first_qkv += qkv[channel] * UNITS_PER_OBJECT
        first_o += o[channel] * UNITS_PER_OBJECT
        first_group += mlp[channel]
    return Plan(shape, tuple(shares), chunk=288 if shape.hidden % 288 == 0 else 320)
