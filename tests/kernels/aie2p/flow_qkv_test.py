"""FlowQKV on the emulated core: each kernel by its contract, and whole sequences under every mask against float64."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from kernels import bf16, bfp16
from kernels.aie_emulation import host_library
from kernels.aie_emulation.host_library import Counters
from kernels.flow_attention.flow_qkv_contract import (
    BOUNDS,
    FINISH,
    HEAD_DIM,
    INIT,
    KEEP,
    NOTHING_SEEN,
    QUERIES,
    RESCALE,
    SCORES,
    SOFTMAX,
    VALUES,
    Message,
    blocked,
    unblocked,
    visible,
)

from .running import judge, run

Array = np.ndarray[Any, Any]
ROWS, KEYS = 32, 16  # the designs' tile


@dataclass(frozen=True)
class Mask:
    """What a prefill's rows may see; rows are rows_per_head positions of each of ROWS / rows_per_head heads."""

    first_position: int
    length: int
    rows_per_head: int = ROWS
    causal: int = 1
    window: int = 0
    images: tuple[tuple[int, int], ...] = ()

    def position(self, rows: int = ROWS) -> Array:
        """Of each row."""
        return self.first_position + np.arange(rows) % self.rows_per_head

    def bounds(self, rows: int = ROWS) -> Array:
        """As the kernel fills them."""
        images = np.array([*self.images, (0, 0)], np.int32).reshape(-1)  # room for one more, which is not counted
        call = {
            "rows": rows,
            "rows_per_head": self.rows_per_head,
            "first_position": self.first_position,
            "length": self.length,
            "causal": self.causal,
            "window": self.window,
            "image_count": len(self.images),
        }
        arrays = {"images": images, "bounds": np.zeros(2 * rows + 16)}
        # The padding behind the summary is not written.
        return judge(BOUNDS, {"images_room": len(self.images) + 1, **call}, **arrays, **call).outputs["bounds"]

    def seen(self, rows: int = ROWS) -> Array:
        """[rows, length], by the definition of each mask, not by intervals."""
        q, k = self.position(rows)[:, None], np.arange(self.length)[None, :]
        see = np.broadcast_to(k <= q if self.causal else k >= 0, (rows, self.length)).copy()
        if self.window:
            see &= k > q - self.window
        for begin, end in self.images:
            see |= (q >= begin) & (q < end) & (k >= begin) & (k < end)
        return see & (q < self.length)


def _qkv(seed: int, rows: int, length: int, largest: float) -> tuple[Array, Array, Array]:
    rng = np.random.default_rng(seed)
    q, k, v = (rng.standard_normal((n, HEAD_DIM)) for n in (rows, length, length))
    k[:, 3] *= 20  # an outlier beside seven ordinary values, as Gemma3's keys have
    q[:, 3] /= 20
    return bf16.rounded(q * largest / 64), bf16.rounded(k), bf16.rounded(v)


def _padded(x: Array, keys: int) -> Array:
    return np.pad(x, ((0, -len(x) % keys), (0, 0)))


def _prepared(q: Array) -> tuple[Array, Array]:
    """The bytes of q's limbs (decoded and encoded again, a block with a -128 would lose a bit), and no softmax."""
    rows = len(q)
    limbs = host_library.aligned(rows * HEAD_DIM * 9 // 4, np.uint8)
    softmax = host_library.aligned((rows // 8, SOFTMAX), np.float32)
    tile = host_library.aligned_copy(host_library.bfloat16_bits(blocked(q)))
    host_library.load().call(QUERIES.symbol, tile, limbs, softmax, rows)
    return limbs, softmax


def _stream(q: Array, k: Array, v: Array, mask: Mask, keys: int = KEYS) -> tuple[Array, list[int], list[Counters]]:
    """The output [rows, 256], the kinds of the messages, the counters of the scores."""
    rows = len(q)
    bounds = mask.bounds(rows)
    message = np.zeros(rows * keys * 9 // 8 + 6 * rows + 64, np.uint8)
    limbs, softmax = _prepared(q)
    y = run(INIT, y=np.full((rows // 8, 32, 8, 8), np.nan), rows=rows, dims=HEAD_DIM).outputs["y"]
    kinds, counters = [], []
    k_tiles, v_tiles = _padded(k, keys), _padded(v, keys)
    for first in range(0, len(k_tiles), keys):
        tile = {"rows": rows, "keys": keys}
        scored = run(
            SCORES,
            limbs=limbs,
            k=blocked(k_tiles[first : first + keys]),
            bounds=bounds,
            softmax=softmax,
            scores=np.zeros(32 * keys),
            message=message,
            first_key=first,
            **tile,
        )
        softmax, message = scored.outputs["softmax"], scored.outputs["message"].astype(np.uint8)
        counters.append(scored.counters)
        kinds.append(Message.decode(message, rows, keys).kind)
        arrays = {"message": message, "v": blocked(v_tiles[first : first + keys]), "v_blocks": np.zeros(keys * 288)}
        y = run(VALUES, **arrays, y=y, dims=HEAD_DIM, **tile).outputs["y"]
    call = {"rows": rows, "keys": keys, "dims": HEAD_DIM, "first_row": 0, "out_rows": rows}
    out = run(FINISH, message=message, y=y, out=np.zeros((rows // 8, 32, 8, 8)), **call).outputs["out"]
    return unblocked(out, rows), kinds, counters


def _attention(q: Array, k: Array, v: Array, seen: Array, ideal: bool) -> Array:
    """In float64; or with P in bf16, then bfp16 along eight keys, and V in bfp16 along the same eight."""
    score = np.where(seen, q @ k.T, -np.inf)
    highest = score.max(axis=1, keepdims=True)
    p = np.where(seen, np.exp2(score - np.where(np.isfinite(highest), np.trunc(highest), 0.0)), 0.0)
    if ideal:
        p = bfp16.rounded(_padded(bf16.rounded(p).T, 8).T)
        v = bfp16.rounded(_padded(v, 8).T).T
    total = p.sum(axis=1, keepdims=True)
    return np.divide(p @ v, total, out=np.zeros((len(q), v.shape[1])), where=total != 0)


MASKS = {
    "causal": Mask(0, 32),
    "causal, later": Mask(100, 132),
    "causal, ragged": Mask(96, 117),
    "one token": Mask(0, 1),
    "sliding": Mask(200, 232, window=64),
    "sliding, not of a tile's size": Mask(117, 149, window=37),
    "full": Mask(32, 90, causal=0),
    "four heads": Mask(40, 48, rows_per_head=8),
    "four heads, sliding, ragged": Mask(88, 93, rows_per_head=8, window=50),
    "two heads": Mask(64, 80, rows_per_head=16),
    "image": Mask(24, 200, images=((30, 46),)),
    "two images and a window": Mask(96, 190, window=20, images=((60, 100), (104, 170))),
}


@pytest.mark.parametrize("name", MASKS)
@pytest.mark.parametrize("largest", [8.0, 120.0])
def test_a_sequence_is_attention(name: str, largest: float) -> None:
    mask = MASKS[name]
    q, k, v = _qkv(len(name), ROWS, mask.length, largest)
    y, kinds, counters = _stream(q, k, v, mask)
    truth, ideal = (_attention(q, k, v, mask.seen(), i) for i in (False, True))
    excess = FINISH.tolerance.excess(y, truth, bf16.rounded(ideal))
    print(f"{name}, scores to {np.abs(q @ k.T).max():.0f}: {2 * excess:.2f} of the ideal's error; messages {kinds}")
    assert excess <= 1
    assert not y[mask.position() >= mask.length].any(), "padding rows see nothing and are zero"
    for kind, counted in zip(kinds, counters, strict=True):
        assert counted.cycles == (SCORES.cycles(rows=ROWS, keys=KEYS) if kind == KEEP else counted.cycles)
    assert KEEP in kinds
    for tile, kind in enumerate(kinds):
        columns = mask.seen()[:, tile * KEYS : (tile + 1) * KEYS]
        assert (kind == NOTHING_SEEN) == (not columns.any()) or mask.images


@pytest.mark.parametrize("rows, keys", [(32, 8), (32, 32), (64, 16)])
def test_other_tiles(rows: int, keys: int) -> None:
    mask = Mask(30, 30 + rows, rows_per_head=rows)
    q, k, v = _qkv(rows + keys, rows, mask.length, 40.0)
    y, _, _ = _stream(q, k, v, mask, keys)
    truth, ideal = (_attention(q, k, v, mask.seen(rows), i) for i in (False, True))
    assert FINISH.tolerance.excess(y, truth, bf16.rounded(ideal)) <= 1


def test_one_limb_would_not_do() -> None:
    """Why the scores have two: an outlier among eight dimensions takes the others' bits."""
    mask = Mask(0, 64, causal=0)
    q, k, v = _qkv(5, ROWS, 64, 120.0)
    truth, ideal = (_attention(q, k, v, mask.seen(), i) for i in (False, True))
    single = _attention(bfp16.rounded(q), bfp16.rounded(k), v, mask.seen(), True)
    excess = FINISH.tolerance.excess(bf16.rounded(single), truth, bf16.rounded(ideal))
    print(f"with one limb: {2 * excess:.1f} of the ideal's error")
    assert excess > 1


def test_a_rising_maximum_rescales() -> None:
    """Scores that grow by far more than the slack from tile to tile; then one that never grows."""
    mask = Mask(0, 64, causal=0)
    q, k, v = _qkv(6, ROWS, 64, 8.0)
    k[:, 0] = np.repeat([0.0, 40.0, 80.0, 120.0], KEYS)
    q[:, 0] = 1.0
    y, kinds, _ = _stream(q, k, v, mask)
    assert kinds == [KEEP, RESCALE, RESCALE, RESCALE]
    truth, ideal = (_attention(q, k, v, mask.seen(), i) for i in (False, True))
    assert FINISH.tolerance.excess(y, truth, bf16.rounded(ideal)) <= 1
    q[:, 0] = -1.0
    assert _stream(q, k, v, mask)[1] == [KEEP] * 4


@pytest.mark.parametrize("name", MASKS)
def test_bounds_are_the_mask(name: str) -> None:
    mask = MASKS[name]
    first, last = visible(mask.position(), mask.length, bool(mask.causal), mask.window, mask.images)
    key = np.arange(mask.length)
    assert np.array_equal((key >= first[:, None]) & (key <= last[:, None]), mask.seen())
    kernel = mask.bounds()
    assert np.array_equal(kernel[: 2 * ROWS].reshape(ROWS, 2), np.stack([first, last], axis=1))


def test_queries() -> None:
    rows = ROWS
    q = bf16.rounded(np.random.default_rng(rows).standard_normal((rows, HEAD_DIM)))
    arrays = {"q": blocked(q), "limbs": np.zeros(rows * HEAD_DIM * 9 // 4, np.uint8)}
    judge(QUERIES, {"rows": rows}, **arrays, softmax=np.full((rows // 8, SOFTMAX), np.nan), rows=rows)


@pytest.mark.parametrize("rows, keys, dims", [(32, 16, 256), (32, 32, 128), (64, 8, 128), (32, 8, 256)])
def test_values(rows: int, keys: int, dims: int) -> None:
    rng = np.random.default_rng(keys)
    v, y = blocked(bf16.rounded(rng.standard_normal((keys, dims)))), rng.standard_normal((rows // 8, dims // 8, 8, 8))
    p, c, l = bfp16.rounded(rng.random((rows, keys))), 2.0 ** -rng.integers(0, 9, rows), rng.random(rows)  # noqa: E741
    call = {"rows": rows, "keys": keys, "dims": dims}
    arrays = {"v": v, "v_blocks": np.zeros(keys * dims * 9 // 8, np.uint8), "y": y}
    judge(VALUES, call, message=Message(p, c, l, KEEP).encode(), **arrays, **call)
    for kind in (NOTHING_SEEN, RESCALE):
        message = Message(p, c, l, kind).encode()
        out = run(VALUES, message=message, **arrays, **call).outputs["y"]
        truth = VALUES.reference(message=message, **arrays, **call)["y"]
        assert VALUES.ideal is not None
        assert VALUES.tolerance.excess(out, truth, VALUES.ideal(message=message, **arrays, **call)["y"]) <= 1 or (
            kind == NOTHING_SEEN and np.array_equal(out, y.astype(np.float32))
        )


@pytest.mark.parametrize("first_row, out_rows, dims", [(0, 32, 256), (8, 8, 256), (24, 8, 128)])
def test_finish(first_row: int, out_rows: int, dims: int) -> None:
    rng = np.random.default_rng(dims)
    l = rng.random(ROWS) * 100  # noqa: E741
    l[9] = 0.0
    message = Message(np.zeros((ROWS, KEYS)), np.ones(ROWS), l, KEEP).encode()
    y = rng.standard_normal((ROWS // 8, dims // 8, 8, 8))
    call = {"rows": ROWS, "keys": KEYS, "dims": dims, "first_row": first_row, "out_rows": out_rows}
    judge(FINISH, call, message=message, y=y, out=np.zeros((out_rows // 8, dims // 8, 8, 8)), **call)


def test_nan_spoils_the_rows_that_see_it() -> None:
    mask = Mask(0, 32)
    q, k, v = _qkv(7, ROWS, 32, 10.0)
    bad = k.copy()
    bad[20, 5] = np.nan
    y, _, _ = _stream(q, bad, v, mask)
    assert np.array_equal(np.isnan(y).any(axis=1), np.arange(ROWS) >= 20)
    bad_q = q.copy()
    bad_q[4, 0] = np.nan
    y, _, _ = _stream(bad_q, k, v, mask)
    assert np.flatnonzero(np.isnan(y).any(axis=1)).tolist() == [4]


def test_both_cores_fit() -> None:
    """The designs' tile with K and V double-buffered, and Q and the output as they come."""
    tile = {"rows": ROWS, "keys": KEYS}
    queries = ROWS * HEAD_DIM * 2
    assert SCORES.l1_bytes({"k": 2, "message": 2}, **tile) + queries <= 64 * 1024
    assert VALUES.l1_bytes({"v": 2, "message": 2}, dims=HEAD_DIM, **tile) <= 64 * 1024
    with pytest.raises(ValueError, match="four blocks of 8 rows"):
        SCORES.check(rows=24, keys=16)
    with pytest.raises(ValueError, match="a core has 65536"):
        VALUES.check({"v": 2}, rows=64, keys=16, dims=256)
