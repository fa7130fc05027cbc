"""What FlowKV's tile kernels promise: decode attention over rows of keys and values in bf16 (aie2p_flow_kv.h)."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import bf16
from ..contract import KernelContract, Limit, Tolerance, buffer, scalar

Array = np.ndarray[Any, np.dtype[Any]]

HEAD_DIM = 256
ROWS = 16  # most rows of K or V in a call
MESSAGE = 16  # floats a head: 16 bf16 weights in 8, rescaling factor, m, l, padding
RECORD = 272  # floats a head: y [256], m, l, padding
RESCALE, MAXIMUM, SUM = 8, 9, 10
RECORD_MAXIMUM, RECORD_SUM = HEAD_DIM, HEAD_DIM + 1
NO_MAXIMUM = -float(1 << 20)

_FP32 = Tolerance(
    "the ideal has no rounding but fp32's: rms error under 1e-7 of the largest |y| (flow_kv_test.py)", floor=1e-6
)
_HEADS = Limit("1 <= heads <= 8", "heads share a stream of one KV head")
_ROWS = Limit(
    f"1 <= rows <= {ROWS} and first_row + rows <= stored_rows", f"a call takes {ROWS} rows, of those in k or v"
)


def weights_of(message: Any) -> Array:
    """The bf16 weights of a message, `[heads, 16]`."""
    bits = np.ascontiguousarray(message, np.float32).reshape(-1, MESSAGE).view(np.uint16)[:, :ROWS]
    return (bits.astype(np.uint32) << 16).view(np.float32).astype(np.float64)


def message_of(weights: Any, rescale: Any, maximum: Any, total: Any) -> Array:
    """A message `[heads, 16]` fp32 of weights `[heads, 16]`, which are rounded to bf16."""
    message = np.zeros((len(weights), MESSAGE), np.float32)
    high = np.ascontiguousarray(bf16.rounded(weights).astype(np.float32)).view(np.uint32) >> 16
    message.view(np.uint16)[:, :ROWS] = high.astype(np.uint16)
    message[:, RESCALE], message[:, MAXIMUM], message[:, SUM] = rescale, maximum, total
    return message


def no_softmax(heads: int) -> Array:
    """The running maximum and sum of heads that saw nothing, `[heads, 16]`."""
    softmax = np.zeros((heads, MESSAGE), np.float32)
    softmax[:, MAXIMUM] = NO_MAXIMUM
    return softmax


def no_records(heads: int) -> Array:
    """Records of heads that saw nothing, `[heads, 272]`."""
    records = np.zeros((heads, RECORD), np.float32)
    records[:, RECORD_MAXIMUM] = NO_MAXIMUM
    return records


def softmax_step(
    round_weight: Any, q: Any, k: Any, softmax: Any, first_row: int, rows: int, skip_row: int
) -> tuple[Array, Array, Array, Array]:
    """Weights `[heads, rows]`, rescaling factors, new maxima and sums of a call of scores."""
    score = np.asarray(q, np.float64) @ np.asarray(k, np.float64)[first_row : first_row + rows].T
    seen = np.arange(first_row, first_row + rows) != skip_row
    before = np.asarray(softmax, np.float64)
    highest = np.where(seen, bf16.rounded(score), NO_MAXIMUM).max(axis=1)
    maximum = np.maximum(np.trunc(highest), before[:, MAXIMUM])
    weights = np.where(seen, round_weight(np.exp2(score - maximum[:, None])), 0.0)
    rescale = np.exp2(before[:, MAXIMUM] - maximum)
    return weights, rescale, maximum, before[:, SUM] * rescale + weights.sum(axis=1)


def _scores(round_weight: Any, softmax: Any, heads: int, **args: Any) -> dict[str, Array]:
    call = {name: args[name] for name in ("q", "k", "first_row", "rows", "skip_row")}
    _, _, maximum, total = softmax_step(round_weight, softmax=softmax, **call)
    after = np.array(softmax, np.float64)
    after[:, MAXIMUM], after[:, SUM] = maximum, total
    return {"softmax": after}


def _values(message: Any, v: Any, records: Any, heads: int, first_row: int, rows: int) -> dict[str, Array]:
    record, sent = np.array(records, np.float64), np.asarray(message, np.float64)
    kept = record[:, :HEAD_DIM] * sent[:, RESCALE, None]
    added = weights_of(message)[:, :rows] @ np.asarray(v, np.float64)[first_row : first_row + rows]
    record[:, :HEAD_DIM] = kept + added
    record[:, RECORD_MAXIMUM], record[:, RECORD_SUM] = sent[:, MAXIMUM], sent[:, SUM]
    return {"records": record}


def _merge(other: Any, records: Any, head: int) -> dict[str, Array]:
    merged, theirs = np.array(records, np.float64), np.asarray(other, np.float64)
    mine = merged[head]
    maximum = max(mine[RECORD_MAXIMUM], theirs[RECORD_MAXIMUM])
    keep, take = np.exp2(mine[RECORD_MAXIMUM] - maximum), np.exp2(theirs[RECORD_MAXIMUM] - maximum)
    merged[head, :HEAD_DIM] = mine[:HEAD_DIM] * keep + theirs[:HEAD_DIM] * take
    merged[head, RECORD_MAXIMUM] = maximum
    merged[head, RECORD_SUM] = mine[RECORD_SUM] * keep + theirs[RECORD_SUM] * take
    return {"records": merged}


def _finish(records: Any, y: Any, head: int, y_offset: int) -> dict[str, Array]:
    whole, record = np.array(y, np.float64), np.asarray(records, np.float64)[head]
    total = record[RECORD_SUM]
    whole[y_offset : y_offset + HEAD_DIM] = record[:HEAD_DIM] / total if total else 0.0
    return {"y": whole}


def _scores_cycles(heads: int, rows: int, **_: int) -> int:
    """Four rows of a head: 16 multiplications of q.k, 12 folds of 64 lanes to 16, 12 of the four to sums."""
    return heads * (40 * -(-rows // 4) + 5)


def _values_cycles(heads: int, rows: int, **_: int) -> int:
    """Multiplications, or loads where a head is alone; no head rescales (it costs 104 more a pair of heads)."""
    loads = (heads // 2) * (32 + 8 * rows) + (heads % 2) * (16 + 8 * rows)
    return max((loads + 1) // 2, 16 * heads, 4 * heads * rows)


_SOFTMAX = buffer("softmax", "float32", "inout", "heads", MESSAGE, doc="m at 9, l at 10")
_RECORDS = buffer("records", "float32", "inout", "heads", RECORD, doc="y [256], m, l")

INIT = KernelContract(
    symbol="flow_kv_init_aie2p",
    source="flow_attention/aie2p_flow_kv_values.cc",
    args=(_SOFTMAX, _RECORDS, scalar("heads")),
    numerics="exact",
    tolerance=Tolerance("equal (flow_kv_test.py)", floor=1e-12),
    reference=lambda heads, **_: {"softmax": no_softmax(heads), "records": no_records(heads)},
    cycles=lambda heads: 18 * heads,
    limits=(_HEADS,),
)

SCORES = KernelContract(
    symbol="flow_kv_scores_aie2p",
    source="flow_attention/aie2p_flow_kv_scores.cc",
    args=(
        buffer("q", "bfloat16", "in", "heads", HEAD_DIM, doc="of qk_norm_rope, with the scale and log2(e) inside"),
        buffer("k", "bfloat16", "in", "stored_rows", HEAD_DIM, doc="rows first_row … first_row + rows - 1 are read"),
        _SOFTMAX,
        buffer("message", "float32", "out", "heads", MESSAGE, doc="16 bf16 weights, rescaling factor, m, l"),
        scalar("heads"),
        scalar("first_row"),
        scalar("rows"),
        scalar("skip_row", "a row that is not seen: the ring slot which the current token evicts; -1: none"),
    ),
    numerics="products of bf16 exact, sums in fp32; m an integer within one of the largest score, so that rescaling is "
    "exact; weights exp2(score - m) in bf16, l their sum in fp32. |score| < 2^20. A visible score of NaN or plus "
    "infinity makes its head's output NaN, one of minus infinity has no weight",
    tolerance=Tolerance(
        "rms error of l 1.0 of exact scores with weights rounded to bf16, scores up to 152 (flow_kv_test.py)",
        floor=1e-6,
    ),
    reference=lambda message, **args: _scores(lambda w: w, **args),
    ideal=lambda message, **args: _scores(bf16.rounded, **args),
    cycles=_scores_cycles,
    limits=(_HEADS, _ROWS),
)

VALUES = KernelContract(
    symbol="flow_kv_values_aie2p",
    source="flow_attention/aie2p_flow_kv_values.cc",
    args=(
        buffer("message", "float32", "in", "heads", MESSAGE, doc="of flow_kv_scores"),
        buffer("v", "bfloat16", "in", "stored_rows", HEAD_DIM, doc="rows first_row … first_row + rows - 1 are read"),
        _RECORDS,
        scalar("heads"),
        scalar("first_row"),
        scalar("rows"),
    ),
    numerics="products of bf16 exact, sums in fp32, rescaling by powers of two exact",
    tolerance=_FP32,
    reference=_values,
    cycles=_values_cycles,
    limits=(_HEADS, _ROWS),
)

MERGE = KernelContract(
    symbol="flow_kv_merge_aie2p",
    source="flow_attention/aie2p_flow_kv_values.cc",
    args=(
        buffer("other", "float32", "in", RECORD, doc="one head's record of another part of the sequence"),
        _RECORDS,
        scalar("head", "whose record it joins"),
    ),
    numerics="powers of two times fp32, one fp32 addition; parts that saw nothing change nothing",
    tolerance=_FP32,
    reference=_merge,
    cycles=lambda **_: 16,  # loads, of equal maxima; 108 if one side rescales
    limits=(_HEADS,),
)

FINISH = KernelContract(
    symbol="flow_kv_finish_aie2p",
    source="flow_attention/aie2p_flow_kv_values.cc",
    args=(
        buffer("records", "float32", "in", "heads", RECORD, doc="y [256], m, l"),
        buffer("y", "bfloat16", "inout", "width", doc="written at y_offset, 256 elements"),
        scalar("head", "whose record it is"),
        scalar("y_offset", "in elements"),
    ),
    numerics="y / l by a reciprocal and products of two bf16 limbs, rounded to nearest even; 0 if the head saw nothing",
    tolerance=Tolerance("rms error 1.00 of correct rounding (flow_kv_test.py)"),
    reference=_finish,
    ideal=lambda **args: {"y": bf16.rounded(_finish(**args)["y"])},
    cycles=lambda **_: 24,
    limits=(_HEADS, Limit(f"y_offset + {HEAD_DIM} <= width", "y is written within its buffer")),
)

FLOW_KV: tuple[KernelContract, ...] = (INIT, SCORES, VALUES, MERGE, FINISH)
