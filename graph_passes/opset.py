"""The operator set `ryzen.npu.gemma`: every operator as data, the one place in Python that names them.

Passes emit nodes from this table, `docs.py` prints it as docs/operators.md, tests compare it with the function bodies
in `functions/` and with the C++ side.

Letters in shapes: S tokens of this call, P rows of the past buffer, C rows of the present buffer, M any leading axes,
Hq query heads, Hkv key/value heads, Dh head size, K input columns, N output rows, n_blocks = ceil(N/32) * ceil(K/256).
"""

from __future__ import annotations

__all__ = [
    "DOMAIN",
    "DOMAIN_OPSET",
    "FORMAT_KEY",
    "FORMAT_VERSION",
    "KV_TYPES",
    "OPERATORS",
    "VERSION",
    "Attribute",
    "Operator",
    "Tensor",
]

import dataclasses

import onnx_ir as ir
from onnxscript.values import Opset

from .names import DOMAIN, FORMAT_KEY, FORMAT_VERSION, VERSION

DOMAIN_OPSET = Opset(DOMAIN, VERSION)

KV_TYPES = (ir.DataType.FLOAT16, ir.DataType.FLOAT)


@dataclasses.dataclass(frozen=True)
class Tensor:
    """An input or output: name, element type, shape in the letters above, meaning."""

    name: str
    type: str
    shape: str
    doc: str


@dataclasses.dataclass(frozen=True)
class Attribute:
    """An attribute; `default` None means that it is required."""

    name: str
    type: ir.AttributeType
    doc: str
    default: int | float | str | None = None


@dataclasses.dataclass(frozen=True)
class Operator:
    """One operator of the domain."""

    name: str
    doc: str
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    attributes: tuple[Attribute, ...]
    since_version: int = 1


_INT, _FLOAT, _STRING = ir.AttributeType.INT, ir.AttributeType.FLOAT, ir.AttributeType.STRING

_BLOCKS = Tensor("W", "uint8", "[n_blocks, 5120 | 8704]", "Q4NX blocks of w_NK: 5120 bytes wide in 4 bits, 8704 in 8")
_K = Attribute("K", _INT, "columns of w_NK; a multiple of 32")
_N = Attribute("N", _INT, "rows of w_NK")
_BITS = Attribute("bits", _INT, "4 or 8", default=4)

_FLOW_INPUTS = (
    Tensor("q", "float32", "[1, S, Hq*Dh]", "projected queries, before norm and RoPE"),
    Tensor("k", "float32", "[1, S, Hkv*Dh]", "projected keys, before norm and RoPE"),
    Tensor("v", "float32", "[1, S, Hkv*Dh]", "projected values"),
    Tensor("past_k", "T", "[1, Hkv, P, Dh]", "cached keys, normed and rotated"),
    Tensor("past_v", "T", "[1, Hkv, P, Dh]", "cached values"),
    Tensor("q_norm", "float32", "[Dh]", "RMSNorm weight of the queries (1 + w)"),
    Tensor("k_norm", "float32", "[Dh]", "RMSNorm weight of the keys (1 + w)"),
    Tensor("past_len", "int64", "[1]", "tokens before this call; the first query's position"),
    Tensor("shared", "bool", "[1]", "present is the past buffer (C = P), not a longer copy (C = P + S)"),
)
_FLOW_OUTPUTS = (
    Tensor("y", "float32", "[1, S, Hq*Dh]", "attention output, before the output projection"),
    Tensor("present_k", "T", "[1, Hkv, C, Dh]", "cached keys, the new ones included"),
    Tensor("present_v", "T", "[1, Hkv, C, Dh]", "cached values, the new ones included"),
)
_FLOW_ATTRIBUTES = (
    Attribute("num_heads", _INT, "Hq"),
    Attribute("kv_num_heads", _INT, "Hkv; divides Hq"),
    Attribute("scale", _FLOAT, "factor of the scores"),
    Attribute("window", _INT, "positions that a query sees, its own included; 0 = all", default=0),
    Attribute("rope_theta", _FLOAT, "RoPE base"),
    Attribute("rope_factor", _FLOAT, "RoPE position divisor", default=1.0),
    Attribute("eps", _FLOAT, "epsilon of the two RMSNorms", default=1e-6),
    Attribute("mask", _STRING, 'who sees whom; version 1 has "causal"', default="causal"),
)
_FLOW_DOC = """\
Per head: RMSNorm of q and k, half-split RoPE at positions past_len + i, rounding of the new k and v to T, softmax
attention in float32 over past and new rows with grouped heads, and the cache update.

    inv_freq_j = 1 / (rope_factor * rope_theta^(2j/Dh))     taken in float64, rounded to float32
    angle_j = position * inv_freq_j                         a float32 product
    y_i = softmax_p(scale * q_i . k_p) v_p                  over p <= i and, with a window, p > i - window

Position p lives in slot p mod P of a buffer of P rows. `shared` false: the past holds past_len = P rows and the present
those and the new ones. `shared` true: the present is the past with the last min(S, P) new rows written into their
slots; P must be at least min(past_len + S, window), or past_len + S without a window. No row of the past that a query
sees is written over before it is read, so a shared present may be the past's own buffer."""

OPERATORS: dict[str, Operator] = {
    op.name: op
    for op in (
        Operator(
            "MatMulNBits",
            "Y = A w^T with w in 4 or 8 bits: com.microsoft's MatMulNBits, except that W holds Q4NX blocks, scales and "
            "minima included. One row of A (decode) dequantises and projects in one kernel; many rows (prefill) "
            "dequantise tiles.",
            inputs=(Tensor("A", "float32", "[M, K]", "activations"), _BLOCKS),
            outputs=(Tensor("Y", "float32", "[M, N]", ""),),
            attributes=(_K, _N, _BITS, Attribute("block_size", _INT, "columns of a group; 32", default=32)),
        ),
        Operator(
            "EmbedNBits",
            "Embedding rows out of the language-model head's own weights (tied): Y = scale * w[ids].",
            inputs=(Tensor("ids", "int64", "[1, S]", "token ids, each in [0, N)"), _BLOCKS),
            outputs=(Tensor("Y", "float32", "[1, S, K]", ""),),
            attributes=(_K, _N, _BITS, Attribute("scale", _FLOAT, "the square root of the hidden size", default=1.0)),
        ),
        Operator(
            "FlowQKV", "Prefill attention, any S >= 1.\n" + _FLOW_DOC, _FLOW_INPUTS, _FLOW_OUTPUTS, _FLOW_ATTRIBUTES
        ),
        Operator(
            "FlowKV",
            "Decode attention: the maths of FlowQKV with S = 1.",
            _FLOW_INPUTS,
            _FLOW_OUTPUTS,
            _FLOW_ATTRIBUTES,
        ),
    )
}
