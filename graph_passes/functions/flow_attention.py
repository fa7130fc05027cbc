# mypy: ignore-errors
# The bodies are ONNX Script, a language of its own in Python syntax.
"""FlowQKV and FlowKV: QK-norm, RoPE, grouped attention over a KV cache, and the cache's update. One body, two names.

A cache of P rows keeps position p in slot p mod P. A growing cache has P = past_len rows, so slot and position are the
same; its present has C = P + S rows. A shared cache (present is past, C = P) is a ring: sliding layers keep only their
window.

The body reads all of `past`, attends, and only then writes `present`, so that both may be one buffer: the slots that
are written depend on y, by a term that is always zero and that no optimiser can know to be.
"""

from __future__ import annotations

__all__ = ["FlowQKV"]

from onnxscript import DOUBLE, FLOAT, INT64, opset23 as op, script

from ..opset import DOMAIN_OPSET

_MINUS_INFINITY = float("-inf")
_NO_LIMIT = 2**63 - 1


@script(DOMAIN_OPSET, default_opset=op)
def FlowQKV(
    q,
    k,
    v,
    past_k,
    past_v,
    q_norm,
    k_norm,
    past_len,
    shared,
    num_heads: int,
    kv_num_heads: int,
    scale: float,
    rope_theta: float,
    window: int = 0,
    rope_factor: float = 1.0,
    eps: float = 1e-6,
    mask: str = "causal",
):
    """Causal attention of S new tokens over a cache, QK-norm and RoPE inside."""
    one = op.Constant(value_ints=[1])
    heads = op.Reshape(num_heads, one)
    kv_heads = op.Reshape(kv_num_heads, one)
    new = op.Shape(q, start=1, end=2)  # S
    rows = op.Shape(past_k, start=2, end=3)  # P
    head_dim = op.Shape(q_norm)

    # Heads, norm and rotation. Positions past_len + i; the angle is a float32 product.
    q_BSHD = op.Reshape(q, op.Concat([0, 0], heads, head_dim, axis=0))
    k_BSHD = op.Reshape(k, op.Concat([0, 0], kv_heads, head_dim, axis=0))
    v_BSHD = op.Reshape(v, op.Concat([0, 0], kv_heads, head_dim, axis=0))
    q_BHSD = op.Transpose(op.RMSNormalization(q_BSHD, q_norm, epsilon=eps), perm=[0, 2, 1, 3])
    k_BHSD = op.Transpose(op.RMSNormalization(k_BSHD, k_norm, epsilon=eps), perm=[0, 2, 1, 3])
    v_BHSD = op.Transpose(v_BSHD, perm=[0, 2, 1, 3])

    q_position = past_len + op.Range(0, op.Squeeze(new), 1)  # [S]
    exponent = op.Cast(op.Range(0, op.Squeeze(head_dim), 2), to=DOUBLE.dtype) / op.Cast(head_dim, to=DOUBLE.dtype)
    theta = op.Cast(rope_theta, to=DOUBLE.dtype)
    factor = op.Cast(rope_factor, to=DOUBLE.dtype)
    inv_freq = op.Cast(1.0 / (factor * op.Pow(theta, exponent)), to=FLOAT.dtype)  # [Dh/2]
    angle = op.Unsqueeze(op.Cast(q_position, to=FLOAT.dtype), [0, 2]) * inv_freq  # [1, S, Dh/2]
    cos = op.Cos(angle)
    sin = op.Sin(angle)
    q_BHSD = op.RotaryEmbedding(q_BHSD, cos, sin)
    k_BHSD = op.RotaryEmbedding(k_BHSD, cos, sin)

    # Keys and values: the cached rows in order of position, then the new ones, rounded to the cache's type.
    k_new = op.CastLike(k_BHSD, past_k)
    v_new = op.CastLike(v_BHSD, past_v)
    cached = op.Min(past_len, rows)
    first = past_len - cached
    slot = (first + op.Range(0, op.Squeeze(cached), 1)) % op.Max(rows, one)
    k_all = op.Cast(op.Concat(op.Gather(past_k, slot, axis=2), k_new, axis=2), to=FLOAT.dtype)
    v_all = op.Cast(op.Concat(op.Gather(past_v, slot, axis=2), v_new, axis=2), to=FLOAT.dtype)
    kv_position = first + op.Range(0, op.Squeeze(cached + new), 1)

    # Attention. The query heads of a group are stacked as rows over their one key/value head.
    grouped = op.Concat([0], kv_heads, [-1], head_dim, axis=0)
    q_grouped = op.Reshape(q_BHSD * scale, grouped)  # [1, Hkv, G*S, Dh]
    scores = op.MatMul(q_grouped, op.Transpose(k_all, perm=[0, 1, 3, 2]))
    scores = op.Reshape(scores, op.Concat([0], heads, new, [-1], axis=0))  # [1, Hq, S, keys]
    distance = op.Unsqueeze(q_position, [1]) - op.Unsqueeze(kv_position, [0])
    reach = op.Where(window > 0, window, op.Constant(value_int=_NO_LIMIT))
    visible = op.And(distance >= 0, distance < reach)
    weights = op.Softmax(op.Where(visible, scores, op.Constant(value_float=_MINUS_INFINITY)), axis=-1)
    weights = op.Reshape(weights, op.Concat([0], kv_heads, op.Constant(value_ints=[-1]), cached + new, axis=0))
    y_BHSD = op.Reshape(op.MatMul(weights, v_all), op.Concat([0], heads, new, head_dim, axis=0))
    y = op.Reshape(op.Transpose(y_BHSD, perm=[0, 2, 1, 3]), op.Concat([0, 0], heads * head_dim, axis=0))

    # Present: the past, longer by S rows unless shared, with the last min(S, C) new rows in their slots.
    growth = op.Where(shared, 0, new)
    capacity = rows + growth
    room = op.Concat(one, kv_heads, growth, head_dim, axis=0)
    empty = op.Expand(op.CastLike(0.0, past_k), room)
    written = op.Min(new, capacity)
    never = op.Cast(op.IsNaN(op.Slice(op.Reshape(y, [-1]), [0], [1], [0])), to=INT64.dtype)
    after_y = op.Min(never, op.Constant(value_ints=[0]))  # always 0
    newest = op.Slice(q_position, new - written, new, [0])
    slots = op.Reshape(newest % op.Max(capacity, one) + after_y, [1, 1, -1, 1])
    slots = op.Expand(slots, op.Concat(one, kv_heads, written, head_dim, axis=0))
    present_k = op.ScatterElements(
        op.Concat(past_k, empty, axis=2), slots, op.Slice(k_new, new - written, new, [2]), axis=2
    )
    present_v = op.ScatterElements(
        op.Concat(past_v, empty, axis=2), slots, op.Slice(v_new, new - written, new, [2]), axis=2
    )
    return y, present_k, present_v
