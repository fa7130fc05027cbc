"""What FlowQKV's array does in a launch: passes over the queries, the keys that each reads, and runs of passes alike.

A pass is what all pairs of cores hold at once. Every row of it has its own interval of visible keys (flow_qkv_bounds);
what crosses DDR is the union of a pass's intervals, in whole 64:

    causal     [0, end of the pass)                    sliding  from the first key of its first row's window
    image      an image that holds the pass's last row is read to its end, one that holds its first row from its begin
    full       [0, length)

Passes whose first key and number of tiles move by constant steps are a *stretch*. A causal launch is one stretch, a
sliding one two (until the window leaves position 0, and after), an image adds a few. Stretches are run-time
parameters: masks, lengths and images change words, not the configuration.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from ..gemma3_shapes import Gemma3Shape
from ..tile_streams import COLUMNS

HEAD = 256
ROWS, KEYS = 32, 16  # of a query tile, of a key tile
PAIRS = 2  # of a column
GRAIN = 64  # keys: passes begin and end at multiples
MOST_IMAGES, MOST_STRETCHES = 8, 32  # of a launch

# Run-time words of a core. A scores core has all of them, a values core the number of stretches and of each the first
# three words.
LENGTH, CAUSAL, WINDOW, IMAGES = range(4)
PASSES, TILES, TILES_STEP, POSITION, FIRST, FIRST_STEP = range(6)
SCORES_STRETCHES, SCORES_STRETCH = 4, 6  # index of their number, words of one
VALUES_STRETCHES, VALUES_STRETCH = 0, 3
SCORES_WORDS = SCORES_STRETCHES + 1 + SCORES_STRETCH * MOST_STRETCHES
VALUES_WORDS = VALUES_STRETCHES + 1 + VALUES_STRETCH * MOST_STRETCHES


@dataclass(frozen=True)
class FlowQkv:
    """A configuration of the array.

    Attributes:
        heads: Query heads.
        kv_heads: Heads of K and V; 2, 4, 8 or 16 query heads share one.
    """

    heads: int
    kv_heads: int

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
    """What a launch computes: queries at positions `start` … `start + tokens`, and what they see.

    Attributes:
        start: Cached positions before the first query.
        tokens: Queries.
        window: Keys that a query sees, its own included; 0: all.
        causal: False: every query sees every key.
        images: [begin, end) positions, in order. A query inside sees its image whole, besides what it sees anyway.
    """

    start: int
    tokens: int
    window: int = 0
    causal: bool = True
    images: tuple[tuple[int, int], ...] = ()

    def __post_init__(self) -> None:
        """Refuses what has no meaning."""
        edges = [edge for image in self.images for edge in image]
        if edges != sorted(edges) or any(begin == end for begin, end in self.images) or min(edges, default=0) < 0:
            raise ValueError(f"images {self.images}: needs [begin, end) in order, none in another")
        if any(end > self.length for _, end in self.images_met):
            raise ValueError(f"image {self.images_met[-1]} ends behind the {self.length} keys: a launch needs it whole")
        if not self.causal and self.window:
            raise ValueError(f"a window of {self.window} and every key: one of them")

    @property
    def length(self) -> int:
        """Keys in all."""
        return self.start + self.tokens

    @property
    def images_met(self) -> tuple[tuple[int, int], ...]:
        """Those that hold a query."""
        return tuple(image for image in self.images if image[0] < self.length and image[1] > self.start)

    def visible(self, position: int) -> tuple[int, int]:
        """[first, last) of the keys that a query may see; behind the span as if it went on."""
        if not self.causal:
            return 0, self.length
        image = next((i for i in self.images_met if i[0] <= position < i[1]), (position, position + 1))
        return min(image[0], max(0, position - self.window + 1) if self.window else 0), image[1]


@dataclass(frozen=True)
class Stretch:
    """Passes whose keys move evenly.

    Attributes:
        passes: Their number.
        position: Of the first pass's first query.
        first, first_step: First key of the first pass; how far each next one is.
        tiles, tiles_step: Key tiles likewise.
    """

    passes: int
    position: int
    first: int
    first_step: int
    tiles: int
    tiles_step: int


@dataclass(frozen=True)
class Passes:
    """The passes of a span, alike for every KV head.

    Attributes:
        keys: [first, last) of each.
        stretches: The same, as the cores are told.
    """

    keys: tuple[tuple[int, int], ...]
    stretches: tuple[Stretch, ...]

    @property
    def rows(self) -> int:
        """Keys that the caches must hold; those behind the span's length must be finite."""
        return max(last for _, last in self.keys)


def plan_flow_qkv(shape: Gemma3Shape) -> FlowQkv:
    """The configuration for a model."""
    group = shape.heads // shape.kv_heads
    if shape.head_dim != HEAD or group * shape.kv_heads != shape.heads or group not in (2, 4, 8, 16):
        raise ValueError(
            f"{shape.heads} heads of {shape.head_dim} on {shape.kv_heads} KV heads: needs 2, 4, 8 or 16 of 256 each"
        )
    return FlowQkv(shape.heads, shape.kv_heads)


def passes_of(plan: FlowQkv, span: Span) -> Passes:
    """What each pass reads."""
    keys = []
    for position in range(span.start, span.length, plan.pass_positions):
        first, _ = span.visible(position)
        _, last = span.visible(position + plan.pass_positions - 1)
        keys.append((first // GRAIN * GRAIN, -(-last // GRAIN) * GRAIN))
    stretches = tuple(_stretches(plan, span, keys))
    if len(stretches) > MOST_STRETCHES or len(span.images_met) > MOST_IMAGES:
        raise ValueError(
            f"{len(span.images_met)} images, {len(stretches)} stretches of passes: a launch has room for {MOST_IMAGES} "
            f"and {MOST_STRETCHES}; cut the span between two images"
        )
    return Passes(tuple(keys), stretches)


def _stretches(plan: FlowQkv, span: Span, keys: list[tuple[int, int]]) -> Iterator[Stretch]:
    steps = [(after[0] - before[0], after[1] - before[1]) for before, after in pairwise(keys)]
    begin = 0
    while begin < len(keys):
        step = steps[begin] if begin < len(steps) else (0, 0)
        end = begin + 1
        while end < len(keys) and steps[end - 1] == step:
            end += 1
        first_step, last_step = step if end - begin > 1 else (0, 0)
        first, last = keys[begin]
        yield Stretch(
            passes=end - begin,
            position=span.start + begin * plan.pass_positions,
            first=first,
            first_step=first_step,
            tiles=(last - first) // KEYS,
            tiles_step=(last_step - first_step) // KEYS,
        )
        begin = end


def scores_words(span: Span, passes: Passes) -> list[int]:
    """Run-time words of a scores core."""
    words = [span.length, int(span.causal), span.window, len(span.images_met), len(passes.stretches)]
    for s in passes.stretches:
        words += [s.passes, s.tiles, s.tiles_step, s.position, s.first, s.first_step]
    return words


def values_words(passes: Passes) -> list[int]:
    """Run-time words of a values core."""
    words = [len(passes.stretches)]
    for s in passes.stretches:
        words += [s.passes, s.tiles, s.tiles_step]
    return words


def padded_tokens(plan: FlowQkv, span: Span) -> int:
    """Rows of q and y; y is 0 behind the span."""
    return -(-span.tokens // plan.pass_positions) * plan.pass_positions


def ddr_bytes(plan: FlowQkv, span: Span) -> int:
    """What crosses DDR."""
    rows = sum(last - first for first, last in passes_of(plan, span).keys)
    return 2 * HEAD * (2 * padded_tokens(plan, span) * plan.heads + 2 * rows * plan.kv_heads)
