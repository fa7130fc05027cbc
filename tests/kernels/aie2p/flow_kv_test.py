"""FlowKV on the emulated core: each kernel by its contract, and whole sequences against attention in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from kernels import bf16
from kernels.flow_attention.flow_kv_contract import (
    FINISH,
    HEAD_DIM,
    INIT,
    MERGE,
    NO_MAXIMUM,
    RECORD,
    RECORD_MAXIMUM,
    RECORD_SUM,
    SCORES,
    VALUES,
    message_of,
    no_records,
    no_softmax,
    softmax_step,
    weights_of,
)

from .running import judge, run

Array = np.ndarray[Any, Any]
# heads that share a KV head: 270M and 1B; 4B
HEADS = [4, 2]


def _qkv(rng: np.random.Generator, heads: int, keys: int, largest: float) -> tuple[Array, Array, Array]:
    """Scores are normal, of the size that makes the largest about `largest`."""
    q, k, v = (rng.standard_normal((n, HEAD_DIM)) for n in (heads, keys, keys))
    return bf16.rounded(q * largest / 64), bf16.rounded(k), bf16.rounded(v)


def _attention(round_weight: Any, q: Array, k: Array, v: Array, seen: Array) -> Array:
    score = q @ k.T
    weights = np.where(seen, round_weight(np.exp2(score - np.trunc(score.max(axis=1, keepdims=True)))), 0.0)
    with np.errstate(invalid="ignore"):
        return weights @ v / weights.sum(axis=1, keepdims=True)


def _stream(q: Array, k: Array, v: Array, step: int, skip_row: int = -1) -> Array:
    """The records of heads after all keys, in calls of `step` rows."""
    heads, keys = len(q), len(k)
    softmax, records = no_softmax(heads), no_records(heads)
    for first in range(0, keys, step):
        call = {"heads": heads, "first_row": first, "rows": min(step, keys - first)}
        message = np.zeros((heads, 16), np.float32)
        scores = run(SCORES, q=q, k=k, softmax=softmax, message=message, skip_row=skip_row, **call).outputs
        softmax = scores["softmax"]
        records = run(VALUES, message=scores["message"], v=v, records=records, **call).outputs["records"]
    return np.asarray(records)


def _finish(records: Array) -> Array:
    heads = len(records)
    y = np.zeros(heads * HEAD_DIM)
    for head in range(heads):
        y = run(FINISH, records=records, y=y, head=head, y_offset=head * HEAD_DIM).outputs["y"]
    return y.reshape(heads, HEAD_DIM)


@pytest.mark.parametrize("heads", [1, 2, 3, 4])
def test_init(heads: int) -> None:
    dirty = {"softmax": np.full((heads, 16), np.nan), "records": np.full((heads, RECORD), np.nan)}
    judge(INIT, {"heads": heads}, **dirty, heads=heads)


@pytest.mark.parametrize("heads", [1, 2, 3, 4])
@pytest.mark.parametrize("first_row, rows, skip_row", [(0, 16, -1), (3, 10, 5), (0, 1, -1), (7, 5, 9), (2, 4, 7)])
def test_scores(heads: int, first_row: int, rows: int, skip_row: int) -> None:
    rng = np.random.default_rng(heads)
    q, k, _ = _qkv(rng, heads, 20, 40.0)
    softmax = no_softmax(heads)
    call = {"first_row": first_row, "rows": rows, "skip_row": skip_row}
    for _ in range(2):  # from nothing, and going on
        arrays = {"q": q, "k": k, "softmax": softmax, "message": np.zeros((heads, 16))}
        out = judge(SCORES, {"heads": heads, "stored_rows": 20, **call}, **arrays, heads=heads, **call).outputs
        weights, rescale, maximum, total = softmax_step(bf16.rounded, q, k, softmax, **call)
        expected = message_of(np.pad(weights, ((0, 0), (0, 16 - rows))), rescale, maximum, total)
        assert np.allclose(weights_of(out["message"]), weights_of(expected), rtol=2.0**-8, atol=0)
        assert np.allclose(out["message"][:, 8:11], expected[:, 8:11], rtol=1e-2, atol=0)
        softmax, k = out["softmax"], bf16.rounded(k * 1.5)


@pytest.mark.parametrize("heads", [1, 2, 3, 4])
@pytest.mark.parametrize("first_row, rows", [(0, 16), (3, 10), (0, 1)])
def test_values(heads: int, first_row: int, rows: int) -> None:
    rng = np.random.default_rng(heads + rows)
    v = bf16.rounded(rng.standard_normal((20, HEAD_DIM)))
    records = rng.standard_normal((heads, RECORD))
    shape = {"heads": heads, "stored_rows": 20, "first_row": first_row, "rows": rows}
    call = {"heads": heads, "first_row": first_row, "rows": rows}
    judge(VALUES, shape, message=message_of(rng.random((heads, 16)), 1.0, 3.0, 2.0), v=v, records=records, **call)
    for rescale in (0.0, 2.0**-3, 2.0**-126):
        message = message_of(rng.random((heads, 16)), rescale, 3.0, 2.0)
        out = run(VALUES, message=message, v=v, records=records, **call).outputs["records"]
        truth = VALUES.reference(message=message, v=v, records=records, **call)["records"]
        assert VALUES.tolerance.excess(out, truth, truth) <= 1


@pytest.mark.parametrize("heads", HEADS)
@pytest.mark.parametrize("keys", [1, 9, 10, 11, 100, 511, 1030])
@pytest.mark.parametrize("largest", [8.0, 150.0])
def test_a_sequence_is_attention(heads: int, keys: int, largest: float) -> None:
    """Ragged lengths, flat and peaked; rows that no one may see hold NaN behind the last and would be noticed."""
    rng = np.random.default_rng(keys)
    q, k, v = _qkv(rng, heads, keys, largest)
    y = _finish(_stream(q, k, v, 10))
    everything = np.ones(keys, bool)
    truth = _attention(lambda w: w, q, k, v, everything)
    ideal = bf16.rounded(_attention(bf16.rounded, q, k, v, everything))
    excess = FINISH.tolerance.excess(y, truth, ideal)
    print(f"{heads} heads, {keys} keys, scores to {np.abs(q @ k.T).max():.0f}: {2 * excess:.2f} of the ideal's error")
    assert excess <= 1


def test_the_step_does_not_matter() -> None:
    q, k, v = _qkv(np.random.default_rng(1), 4, 100, 30.0)
    ten, sixteen = (_finish(_stream(q, k, v, step)) for step in (10, 16))
    assert np.abs(ten - sixteen).max() <= 2.0**-8 * np.abs(ten).max()


def test_an_evicted_slot_is_not_seen() -> None:
    rng = np.random.default_rng(2)
    q, k, v = _qkv(rng, 4, 30, 30.0)
    k[17], v[17] = 10 * q[0], 1e30  # would win, and spoil
    y = _finish(_stream(q, k, v, 10, skip_row=17))
    seen = np.arange(30) != 17
    truth = _attention(lambda w: w, q, k[seen], v[seen], np.ones(29, bool))
    ideal = bf16.rounded(_attention(bf16.rounded, q, k[seen], v[seen], np.ones(29, bool)))
    assert FINISH.tolerance.excess(y, truth, ideal) <= 1


@pytest.mark.parametrize("parts", [2, 8, 32])
def test_parts_of_a_sequence_merge(parts: int) -> None:
    """As many parts as a design has tiles; the last ones may have seen nothing."""
    heads, keys = 4, 130
    q, k, v = _qkv(np.random.default_rng(parts), heads, keys, 60.0)
    share = 10 * -(-keys // (10 * parts))
    records = [
        _stream(q, k[first : first + share], v[first : first + share], 10) if first < keys else no_records(heads)
        for first in range(0, parts * share, share)
    ]
    whole = records[-1]
    for part in reversed(records[:-1]):
        for head in range(heads):
            whole = run(MERGE, other=part[head], records=whole, head=head).outputs["records"]
    truth = _attention(lambda w: w, q, k, v, np.ones(keys, bool))
    ideal = bf16.rounded(_attention(bf16.rounded, q, k, v, np.ones(keys, bool)))
    assert FINISH.tolerance.excess(_finish(whole), truth, ideal) <= 1


def test_merge_by_its_contract() -> None:
    rng = np.random.default_rng(3)
    records, other = rng.standard_normal((4, RECORD)), rng.standard_normal(RECORD)
    records[:, RECORD_MAXIMUM], other[RECORD_MAXIMUM] = 5, 5
    judge(MERGE, {"heads": 4}, other=other, records=records, head=2)
    for mine, theirs in [(5, 9), (9, 5), (NO_MAXIMUM, 5), (5, NO_MAXIMUM), (200, -100)]:
        records[:, RECORD_MAXIMUM], other[RECORD_MAXIMUM] = mine, theirs
        out = run(MERGE, other=other, records=records, head=1).outputs["records"]
        truth = MERGE.reference(other=other, records=records, head=1)["records"]
        assert MERGE.tolerance.excess(out, truth, truth) <= 1


def test_finish_by_its_contract() -> None:
    rng = np.random.default_rng(4)
    records = rng.standard_normal((2, RECORD)) * 100
    records[:, RECORD_SUM] = 17.3, 900.0
    shape = {"heads": 2, "head": 1, "y_offset": 256, "width": 1024}
    judge(FINISH, shape, records=records, y=bf16.rounded(np.arange(1024.0)), head=1, y_offset=256)


def test_a_head_that_saw_nothing_is_zero() -> None:
    assert not _finish(no_records(2)).any()


def test_nan_spoils_the_heads_that_saw_it() -> None:
    q, k, v = _qkv(np.random.default_rng(5), 4, 20, 10.0)
    spoilt = v.copy()
    spoilt[3, 7] = np.nan
    assert np.flatnonzero(np.isnan(_finish(_stream(q, k, spoilt, 10))).any(axis=0)).tolist() == [7]
    bad_q = q.copy()
    bad_q[2, 0] = np.nan
    y = _finish(_stream(bad_q, k, v, 10))
    assert np.isnan(y[2]).all() and np.isfinite(y[[0, 1, 3]]).all()
    bad_k = k.copy()
    bad_k[15, 0] = np.inf
    y = _finish(_stream(q, bad_k, v, 10))
    assert np.array_equal(np.isnan(y).any(axis=1), q[:, 0] > 0)  # the others' score is minus infinity
    assert np.isfinite(_finish(_stream(q, bad_k, v, 10, skip_row=15))).all()


def test_a_decode_tile_fits_a_core() -> None:
    """One core with both roles and double-buffered streams of ten rows."""
    shape = {"heads": 4, "stored_rows": 10, "first_row": 0, "rows": 10}
    both = SCORES.l1_bytes({"k": 2}, **shape) + VALUES.l1_bytes({"v": 2}, **shape)
    assert both < 32 * 1024
    with pytest.raises(ValueError, match="a call takes 16 rows"):
        SCORES.check(heads=4, stored_rows=20, first_row=0, rows=17)
