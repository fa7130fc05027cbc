"""What FlowQKV's tile kernels promise: prefill attention of a tile of queries over tiles of keys (aie2p_flow_qkv.h)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from .. import bf16, bfp16
from ..contract import KernelContract, Limit, Tolerance, buffer, scalar

Array = np.ndarray[Any, np.dtype[Any]]

HEAD_DIM = 256
NO_MAXIMUM = -float(1 << 20)
SLACK = 16  # a row's maximum follows a score that is more than this above it
SOFTMAX = 80  # floats of state for 8 rows
NOTHING_SEEN, KEEP, RESCALE = 0, 1, 2
MESSAGE_BYTES = "rows * keys * 9 // 8 + 6 * rows + 64"


def blocked(matrix: Any) -> Array:
    """`[rows, columns]` → `[rows/8, columns/8, 8, 8]`, the order of Q, K, V and y."""
    m = np.asarray(matrix)
    return np.ascontiguousarray(m.reshape(len(m) // 8, 8, -1, 8).swapaxes(1, 2))


def unblocked(blocks: Any, rows: int) -> Array:
    """The matrix of `blocked`."""
    return np.asarray(blocks).reshape(rows // 8, -1, 8, 8).swapaxes(1, 2).reshape(rows, -1)


@dataclass(frozen=True)
class Message:
    """What the scores' core tells the values' core about a key tile.

    Attributes:
        p: Unnormalised probabilities `[rows, keys]`, as bfp16 holds them.
        c: Rescaling factors of what came before, `[rows]`.
        l: Sums of each row until now, `[rows]`.
        kind: NOTHING_SEEN (p and c are not written), KEEP (c is not used) or RESCALE.
    """

    p: Array
    c: Array
    l: Array  # noqa: E741 - the field's name in the literature
    kind: int

    def encode(self) -> Array:
        """Its bytes."""
        c = np.ascontiguousarray(np.asarray(self.c, np.float32)).view(np.uint32) >> 16
        kind = np.zeros(16, np.int32)
        kind[0] = self.kind
        parts: list[Array] = [
            bfp16.encode(blocked(self.p)).reshape(-1),
            c.astype(np.uint16),
            np.asarray(self.l, np.float32),
            kind,
        ]
        return np.concatenate([part.view(np.uint8).reshape(-1) for part in parts])

    @staticmethod
    def decode(raw: Any, rows: int, keys: int) -> Message:
        """The message of these bytes."""
        data = np.ascontiguousarray(raw, np.uint8).reshape(-1)
        p, c, l, kind = np.split(data, np.cumsum([rows * keys * 9 // 8, 2 * rows, 4 * rows]))  # noqa: E741
        blocks = bfp16.decode(p.reshape(rows // 8, keys // 8, 8, 9))
        factors = (c.copy().view(np.uint16).astype(np.uint32) << 16).view(np.float32).astype(np.float64)
        sums = l.copy().view(np.float32).astype(np.float64)
        return Message(unblocked(blocks, rows), factors, sums, int(kind.copy().view(np.int32)[0]))


def visible(
    position: Array, length: int, causal: bool = True, window: int = 0, images: Any = ()
) -> tuple[Array, Array]:
    """First and last visible key of the rows at `position`; [length, -1] of a row behind the sequence."""
    first = np.maximum(position - window + 1, 0) if window else np.zeros_like(position)
    last = position.copy() if causal else np.full_like(position, length - 1)
    for begin, end in np.asarray(images, np.int64).reshape(-1, 2):
        inside = (position >= begin) & (position < end)
        first = np.where(inside, np.minimum(first, begin), first)
        last = np.where(inside, np.maximum(last, end - 1), last)
    padding = position >= length
    return np.where(padding, length, first), np.where(padding, -1, np.minimum(last, length - 1))


def _bounds(
    images: Any, rows: int, rows_per_head: int, first_position: int, length: int, causal: int, window: int,
    image_count: int, **_: Any,
) -> dict[str, Array]:  # fmt: skip
    position = first_position + np.arange(rows) % rows_per_head
    listed = np.asarray(images, np.int64).reshape(-1, 2)[:image_count]
    first, last = visible(position, length, bool(causal), window, listed)
    summary = [min(length, first.min()), max(-1, last.max()), max(0, first.max()), min(length - 1, last.min())]
    return {"bounds": np.concatenate([np.stack([first, last], axis=1).reshape(-1), summary, np.zeros(12)])}


def _queries(q: Any, rows: int, **_: Any) -> dict[str, Array]:
    matrix = unblocked(np.asarray(q, np.float64), rows)
    high = bfp16.rounded(matrix)
    limbs = np.stack([blocked(high), blocked(bfp16.rounded(matrix - high))])  # [limb, rows/8, dims/8, 8, 8]
    grouped = limbs.reshape(2, rows // 32, 4, HEAD_DIM // 8, 8, 8).transpose(1, 3, 2, 0, 4, 5)
    return {"limbs": np.ascontiguousarray(grouped).reshape(-1)}


def _values(message: Any, v: Any, y: Any, rows: int, keys: int, dims: int, round_v: Any, **_: Any) -> dict[str, Array]:
    sent, before = Message.decode(message, rows, keys), np.asarray(y, np.float64)
    if sent.kind == NOTHING_SEEN:
        return {"y": before}
    factor = sent.c[:, None] if sent.kind == RESCALE else 1.0
    rounded = round_v(unblocked(np.asarray(v, np.float64), keys).T).T
    return {"y": blocked(unblocked(before, rows) * factor + sent.p @ rounded).reshape(before.shape)}


def _finish(
    message: Any, y: Any, rows: int, keys: int, dims: int, first_row: int, out_rows: int, **_: Any
) -> dict[str, Array]:
    total = Message.decode(message, rows, keys).l[:, None]
    matrix = unblocked(np.asarray(y, np.float64), rows)
    quotient = np.divide(matrix, total, out=np.zeros_like(matrix), where=total != 0)
    return {"out": blocked(quotient[first_row : first_row + out_rows])}


def _ideal_finish(**args: Any) -> dict[str, Array]:
    return {"out": bf16.rounded(_finish(**args)["out"])}


def _scores_cycles(rows: int, keys: int, **_: int) -> int:
    """Multiplications: three products, two to split a block of K, for 32 rows; 12 of the softmax, and 16 a call."""
    return rows // 32 * (460 * (keys // 8) + 16)


def _values_cycles(rows: int, keys: int, dims: int, **_: int) -> int:
    """Loads, or stores where key tiles are short, of y; without rescaling."""
    row_blocks, key_blocks, dim_blocks = rows // 8, keys // 8, dims // 8
    loads = dim_blocks * (2 * key_blocks + 1 + row_blocks * (5 + 2 * key_blocks))
    return max((loads + 1) // 2, 1 + dim_blocks * (key_blocks + 4 * row_blocks), dim_blocks * row_blocks * key_blocks)


_ROWS = Limit("rows % 32 == 0 and rows > 0", "four blocks of 8 rows are in registers")
_KEYS = Limit("keys % 8 == 0 and keys > 0", "a block is 8 keys")
_DIMS = Limit("dims % 8 == 0 and 0 < dims <= 256", "a block is 8 dimensions of a head")
_BOUNDS_DOC = "first and last visible key of each row, then [first, last, full_from, full_to] over all and padding"
_SOFTMAX = buffer("softmax", "float32", "inout", "rows // 8", SOFTMAX, doc="of 8 rows: m bf16 [16], l [8][8]")
_MESSAGE = buffer("message", "uint8", "in", MESSAGE_BYTES, doc="P bfp16 in blocks, c bf16, l fp32, kind")
_Y = buffer("y", "float32", "inout", "rows // 8", "dims // 8", 8, 8)

BOUNDS = KernelContract(
    symbol="flow_qkv_bounds_aie2p",
    source="flow_attention/aie2p_flow_qkv_scores.cc",
    args=(
        buffer("images", "int32", "in", "2 * images_room", doc="[begin, end) positions of images that a tile may meet"),
        buffer("bounds", "int32", "out", "2 * rows + 16", doc=_BOUNDS_DOC),
        scalar("rows"),
        scalar("rows_per_head", "row r asks at first_position + r % rows_per_head"),
        scalar("first_position"),
        scalar("length", "keys of the sequence; rows behind it see nothing"),
        scalar("causal", "0: every key"),
        scalar("window", "0: global; else the keys above position - window"),
        scalar("image_count", "of images"),
    ),
    numerics="integers",
    tolerance=Tolerance("equal (flow_qkv_test.py)", floor=1e-12),
    reference=_bounds,
    cycles=lambda **_: 0,  # scalar code, once a query tile: the emulation counts none
    limits=(_ROWS, Limit("rows % rows_per_head == 0", "heads have equal numbers of rows")),
)

QUERIES = KernelContract(
    symbol="flow_qkv_queries_aie2p",
    source="flow_attention/aie2p_flow_qkv_scores.cc",
    args=(
        buffer("q", "bfloat16", "in", "rows // 8", HEAD_DIM // 8, 8, 8, doc="of qk_norm_rope, scale inside"),
        buffer("limbs", "bfp16ebs8", "out", f"rows * {HEAD_DIM} * 2", doc="[rows/32][dims/8][4][2 limbs][8][8]"),
        _SOFTMAX,
        scalar("rows"),
    ),
    numerics="two bfp16 limbs, the second of what the first leaves: 15 bits of the largest of eight",
    tolerance=Tolerance("equal to bfp16's rounding, twice (flow_qkv_test.py)", floor=1e-12),
    reference=_queries,
    cycles=lambda rows, **_: 69 * (rows // 8) + 1,
    limits=(_ROWS,),
)

SCORES = KernelContract(
    symbol="flow_qkv_scores_aie2p",
    source="flow_attention/aie2p_flow_qkv_scores.cc",
    args=(
        buffer("limbs", "bfp16ebs8", "in", f"rows * {HEAD_DIM} * 2", doc="of flow_qkv_queries"),
        buffer("k", "bfloat16", "in", "keys // 8", HEAD_DIM // 8, 8, 8),
        buffer("bounds", "int32", "in", "2 * rows + 16", doc="of flow_qkv_bounds"),
        _SOFTMAX,
        buffer("scores", "float32", "out", "32 * keys", doc="scratch"),
        buffer("message", "uint8", "out", MESSAGE_BYTES, doc="P bfp16 in blocks, c bf16, l fp32, kind"),
        scalar("rows"),
        scalar("keys"),
        scalar("first_key"),
    ),
    numerics="scores of two bfp16 limbs a side, fp32; P = exp2(score - m) in bf16, then bfp16 along the keys; m an "
    "integer that follows a score more than 16 above it; l sums P as it is sent. |score| < 2^20",
    tolerance=Tolerance(
        "judged with flow_qkv_values and finish on whole sequences: rms and largest error 1.00 to 1.01 of attention "
        "with exact scores and P and V in bfp16, scores to 131, every mask; one limb would be 10 (flow_qkv_test.py)"
    ),
    reference=lambda **_: {},  # a message is bytes, and its m is free to choose: the sequence is what is judged
    cycles=_scores_cycles,
    limits=(_ROWS, _KEYS),
    static_bytes=128,
)

INIT = KernelContract(
    symbol="flow_qkv_init_aie2p",
    source="flow_attention/aie2p_flow_qkv_values.cc",
    args=(_Y, scalar("rows"), scalar("dims")),
    numerics="zero",
    tolerance=Tolerance("equal (flow_qkv_test.py)", floor=1e-12),
    reference=lambda y, **_: {"y": np.zeros(np.shape(y))},
    cycles=lambda rows, dims: rows * dims // 16,
    limits=(_ROWS, _DIMS),
)

VALUES = KernelContract(
    symbol="flow_qkv_values_aie2p",
    source="flow_attention/aie2p_flow_qkv_values.cc",
    args=(
        _MESSAGE,
        buffer("v", "bfloat16", "in", "keys // 8", "dims // 8", 8, 8),
        buffer("v_blocks", "bfp16ebs8", "out", "keys * dims", doc="scratch: V transposed"),
        _Y,
        scalar("rows"),
        scalar("keys"),
        scalar("dims", "256, or the part of a head that this core keeps"),
    ),
    numerics="V rounds to bfp16 along the keys, nearest even; eight products are summed exactly and added to y in "
    "fp32; rescaling by powers of two is exact. Padding of v must be finite",
    tolerance=Tolerance("rms error 1.00 of exact sums over V in bfp16 (flow_qkv_test.py)"),
    reference=lambda **args: _values(round_v=lambda v: v, **args),
    ideal=lambda **args: _values(round_v=bfp16.rounded, **args),
    cycles=_values_cycles,
    limits=(_ROWS, _KEYS, _DIMS),
)

FINISH = KernelContract(
    symbol="flow_qkv_finish_aie2p",
    source="flow_attention/aie2p_flow_qkv_values.cc",
    args=(
        _MESSAGE,
        buffer("y", "float32", "in", "rows // 8", "dims // 8", 8, 8),
        buffer("out", "bfloat16", "out", "out_rows // 8", "dims // 8", 8, 8),
        scalar("rows"),
        scalar("keys", "of the message"),
        scalar("dims"),
        scalar("first_row", "of y"),
        scalar("out_rows"),
    ),
    numerics="y / l by a reciprocal and products of two bf16 limbs, rounded to nearest even; 0 where l is 0",
    tolerance=Tolerance("rms error 1.00 of correct rounding (flow_qkv_test.py)"),
    reference=_finish,
    ideal=_ideal_finish,
    cycles=lambda out_rows, dims, **_: 6 * (out_rows // 8) * (dims // 8),
    limits=(
        _ROWS,
        _DIMS,
        Limit("first_row % 8 == 0 and out_rows % 8 == 0 and first_row + out_rows <= rows", "rows are in blocks of 8"),
    ),
)

FLOW_QKV: tuple[KernelContract, ...] = (BOUNDS, QUERIES, SCORES, INIT, VALUES, FINISH)
