"""Gemma3 text as a standard ONNX graph: opset 23, float32, batch 1, KV cache in and out.

The graph is meant to be read: one function here for each block, nodes named after Hugging Face's modules, no fusion.
`graph_passes` turns it into the fused model.  Weights are lazy tensors: a weight is read when it is written or
quantised, and not kept.

Letters in shapes: S new tokens ("sequence"), L tokens in all ("total"), H hidden size, Hq query heads, Hkv key/value
heads, Dh head size, F intermediate size, V vocabulary.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Literal

import numpy as np
import onnx_ir as ir

from onnxruntime_ep_ryzen_npu_gemma.sources import Source

from .graph_builder import Dims, GraphBuilder, shape_of, value

__all__ = ["Logits", "export"]

Logits = Literal["last", "all"]

_I64, _BOOL = ir.DataType.INT64, ir.DataType.BOOL


def export(source: Source, logits: Logits = "last") -> ir.Model:
    """Builds the graph.

    Args:
        source: weights and configuration.
        logits: "last" computes the last position only, f32 [1, 1, V]; "all" every position, f32 [1, S, V].

    Returns:
        A model with inputs input_ids i64 [1, S], attention_mask i64 [1, L] and past_key_values.N.{key,value}
        f32 [1, Hkv, past_N, Dh], and outputs logits and present.N.{key,value} f32 [1, Hkv, present_N, Dh].
    """
    g = GraphBuilder(source)
    input_ids = g.input("input_ids", [1, "sequence"], _I64)
    attention_mask = g.input("attention_mask", [1, "total"], _I64)

    embedding_VH = g.weight("model.embed_tokens")
    h = _embed(g, embedding_VH, input_ids)
    shared = _shared_by_layers(g, input_ids, attention_mask)
    cache: list[ir.Value] = []
    for layer, kind in enumerate(source.config.layer_types):
        h, present = _decoder_layer(g, layer, h, shared[kind])
        cache += present
    for output in (_head(g, embedding_VH, h, logits), *cache):
        g.output(output)
    return g.model("gemma3_text")


@dataclasses.dataclass(frozen=True)
class _Shared:
    """What all layers of one kind ("sliding" or "full") share."""

    mask_SL: ir.Value  # bool [S, L]
    cos: ir.Value  # f32 [1, S, Dh/2]
    sin: ir.Value


def _shared_by_layers(g: GraphBuilder, input_ids: ir.Value, attention_mask: ir.Value) -> dict[str, _Shared]:
    """Positions of queries and keys, and from them masks and RoPE tables.  Only the mask's length counts."""
    zero, one = (g.constant(name, np.array(n, np.int64)) for name, n in (("zero", 0), ("one", 1)))
    seq_len = g.op("sequence_length", "Shape", [input_ids], [1], _I64, start=1, end=2)
    total_len = g.op("total_length", "Shape", [attention_mask], [1], _I64, start=1, end=2)
    past_len = g.op("past_length", "Sub", [total_len, seq_len], [1], _I64)
    seq_scalar = g.op("sequence_length.scalar", "Squeeze", [seq_len], [], _I64)
    total_scalar = g.op("total_length.scalar", "Squeeze", [total_len], [], _I64)
    new_pos_S = g.op("new_positions", "Range", [zero, seq_scalar, one], ["sequence"], _I64)
    q_pos_S = g.op("query_positions", "Add", [new_pos_S, past_len], ["sequence"], _I64)
    kv_pos_L = g.op("key_positions", "Range", [zero, total_scalar, one], ["total"], _I64)

    config = g.source.config
    full_SL, sliding_SL = _masks(g, config.sliding_window, q_pos_S, kv_pos_L)
    q_pos = g.op("query_positions.float", "Cast", [q_pos_S], ["sequence"], to=ir.DataType.FLOAT)
    q_pos_1S1 = g.op("query_positions.column", "Unsqueeze", [q_pos, g.integers(0, 2)], [1, "sequence", 1])
    rope_global = _rope_tables(g, "rotary_emb", q_pos_1S1, config.rope_theta_global, config.rope_factor_global)
    rope_local = _rope_tables(g, "rotary_emb_local", q_pos_1S1, config.rope_theta_local, 1.0)
    return {"full": _Shared(full_SL, *rope_global), "sliding": _Shared(sliding_SL, *rope_local)}


def _masks(g: GraphBuilder, window: int, q_pos_S: ir.Value, kv_pos_L: ir.Value) -> tuple[ir.Value, ir.Value]:
    """Key j is visible to query i iff j <= i, and in a sliding layer j > i - window: the window counts token i."""
    SL: Dims = ["sequence", "total"]
    q_S1 = g.op("mask.queries", "Unsqueeze", [q_pos_S, g.integers(1)], ["sequence", 1], _I64)
    kv_1L = g.op("mask.keys", "Unsqueeze", [kv_pos_L, g.integers(0)], [1, "total"], _I64)
    full = g.op("mask.full", "LessOrEqual", [kv_1L, q_S1], SL, _BOOL)
    window_size = g.constant("sliding_window", np.array(window, np.int64))
    before_window = g.op("mask.before_window", "Sub", [q_S1, window_size], ["sequence", 1], _I64)
    in_window = g.op("mask.in_window", "Greater", [kv_1L, before_window], SL, _BOOL)
    return full, g.op("mask.sliding", "And", [full, in_window], SL, _BOOL)


def _rope_tables(
    g: GraphBuilder, name: str, q_pos_1S1: ir.Value, theta: float, factor: float
) -> tuple[ir.Value, ir.Value]:
    """Cos and sin of position * inv_freq; the linear factor divides positions and is written into inv_freq."""
    half = g.source.config.head_dim // 2
    inv_freq = 1.0 / (factor * theta ** (np.arange(half, dtype=np.float64) / half))
    inv_freq_11D = g.constant(f"{name}.inv_freq", inv_freq.astype(np.float32).reshape(1, 1, half))
    shape: Dims = [1, "sequence", half]
    angles = g.op(f"{name}.angles", "Mul", [q_pos_1S1, inv_freq_11D], shape)
    return g.op(f"{name}.cos", "Cos", [angles], shape), g.op(f"{name}.sin", "Sin", [angles], shape)


def _embed(g: GraphBuilder, embedding_VH: ir.Value, input_ids: ir.Value) -> ir.Value:
    """Embedding rows times sqrt(H), in float32 as it is: not rounded to bfloat16."""
    H = g.source.config.hidden_size
    shape: Dims = [1, "sequence", H]
    rows = g.op("model.embed_tokens", "Gather", [embedding_VH, input_ids], shape)
    scale = g.constant("embed_scale", np.array(math.sqrt(H), np.float32))
    return g.op("model.embed_tokens.scaled", "Mul", [rows, scale], shape)


def _decoder_layer(g: GraphBuilder, layer: int, h: ir.Value, shared: _Shared) -> tuple[ir.Value, list[ir.Value]]:
    """Attention and MLP, each between two norms, around the residual h [1, S, H]; also the layer's new cache."""
    name = f"model.layers.{layer}"
    x = _rms_norm(g, f"{name}.input_layernorm", h)
    y, present = _attention(g, layer, x, shared)
    y = _rms_norm(g, f"{name}.post_attention_layernorm", y)
    h = g.op(f"{name}.attention_residual", "Add", [h, y], shape_of(h))
    x = _rms_norm(g, f"{name}.pre_feedforward_layernorm", h)
    y = _rms_norm(g, f"{name}.post_feedforward_layernorm", _mlp(g, f"{name}.mlp", x))
    return g.op(f"{name}.mlp_residual", "Add", [h, y], shape_of(h)), present


def _attention(g: GraphBuilder, layer: int, x: ir.Value, shared: _Shared) -> tuple[ir.Value, list[ir.Value]]:
    """Grouped-query attention with RMSNorm on queries and keys before RoPE; x and the result are [1, S, H]."""
    name = f"model.layers.{layer}.self_attn"
    config = g.source.config
    Hq, Hkv, Dh = config.num_heads, config.num_kv_heads, config.head_dim
    q_BHSD = _rotated_heads(g, f"{name}.q", Hq, x, shared)
    k_BHSD = _rotated_heads(g, f"{name}.k", Hkv, x, shared)
    v_BHSD = _swap_heads(g, f"{name}.v_proj", _heads(g, f"{name}.v_proj", Hkv, x))

    past = [g.input(f"past_key_values.{layer}.{kind}", [1, Hkv, f"past_{layer}", Dh]) for kind in ("key", "value")]
    present = [value(f"present.{layer}.{kind}", [1, Hkv, f"present_{layer}", Dh]) for kind in ("key", "value")]
    y_BHSD = value(name, [1, Hq, "sequence", Dh])
    inputs = [q_BHSD, k_BHSD, v_BHSD, shared.mask_SL, *past]
    g.op_multi_out(name, "Attention", inputs, [y_BHSD, *present], scale=config.query_scale)

    y_BSHD = _swap_heads(g, name, y_BHSD)
    y_BSK = g.op(f"{name}.merged", "Reshape", [y_BSHD, g.integers(0, 0, Hq * Dh)], [1, "sequence", Hq * Dh])
    return _linear(g, f"{name}.o_proj", y_BSK), present


def _rotated_heads(g: GraphBuilder, name: str, heads: int, x: ir.Value, shared: _Shared) -> ir.Value:
    """Projection, split into heads, RMSNorm over Dh, RoPE: [1, heads, S, Dh]."""
    normed_BSHD = _rms_norm(g, f"{name}_norm", _heads(g, f"{name}_proj", heads, x))
    x_BHSD = _swap_heads(g, f"{name}_norm", normed_BSHD)
    inputs = [x_BHSD, shared.cos, shared.sin]
    return g.op(f"{name}_rotary", "RotaryEmbedding", inputs, shape_of(x_BHSD), interleaved=0)


def _heads(g: GraphBuilder, name: str, heads: int, x: ir.Value) -> ir.Value:
    """Projection split into heads, [1, S, heads, Dh]."""
    Dh = g.source.config.head_dim
    split = g.integers(0, 0, heads, Dh)
    return g.op(f"{name}.heads", "Reshape", [_linear(g, name, x), split], [1, "sequence", heads, Dh])


def _swap_heads(g: GraphBuilder, name: str, x: ir.Value) -> ir.Value:
    """Swaps the sequence and the head axis."""
    B, first, second, D = shape_of(x)
    return g.op(f"{name}.transposed", "Transpose", [x], [B, second, first, D], perm=[0, 2, 1, 3])


def _mlp(g: GraphBuilder, name: str, x: ir.Value) -> ir.Value:
    """down(gelu_tanh(gate(x)) * up(x)), [1, S, H]."""
    gate, up = _linear(g, f"{name}.gate_proj", x), _linear(g, f"{name}.up_proj", x)
    activated = g.op(f"{name}.act_fn", "Gelu", [gate], shape_of(gate), approximate="tanh")
    return _linear(g, f"{name}.down_proj", g.op(f"{name}.product", "Mul", [activated, up], shape_of(up)))


def _head(g: GraphBuilder, embedding_VH: ir.Value, h: ir.Value, logits: Logits) -> ir.Value:
    """Final norm and projection to the vocabulary, with the embedding's own weight unless the model has another."""
    if logits == "last":
        h = g.op("last_position", "Gather", [h, g.integers(-1)], [1, 1, shape_of(h)[2]], axis=1)
    x = _rms_norm(g, "model.norm", h)
    if "lm_head.weight" in g.source.names():
        weight_HV = g.weight("lm_head", transposed=True)
    else:
        weight_HV = g.op("lm_head.tied", "Transpose", [embedding_VH], shape_of(embedding_VH)[::-1], perm=[1, 0])
    return g.op("logits", "MatMul", [x, weight_HV], [*shape_of(x)[:2], shape_of(weight_HV)[1]])


def _rms_norm(g: GraphBuilder, name: str, x: ir.Value) -> ir.Value:
    """Over the last axis; the weight already is 1 + w."""
    epsilon = g.source.config.rms_eps
    return g.op(name, "RMSNormalization", [x, g.weight(name)], shape_of(x), axis=-1, epsilon=epsilon)


def _linear(g: GraphBuilder, name: str, x: ir.Value) -> ir.Value:
    """[1, S, K] times w [K, N]."""
    w_KN = g.weight(name, transposed=True)
    return g.op(name, "MatMul", [x, w_KN], [*shape_of(x)[:2], shape_of(w_KN)[1]])
