"""Attention with its QK-norm, RoPE, head splits and mask becomes one FlowQKV, or FlowKV where a call has one token.

    q [1,S,Hq*Dh]  -> Reshape -> RMSNormalization -> Transpose -> RotaryEmbedding -> |
    k [1,S,Hkv*Dh] -> Reshape -> RMSNormalization -> Transpose -> RotaryEmbedding -> | Attention -> Transpose -> Reshape
    v [1,S,Hkv*Dh] -> Reshape -> Transpose                                        -> |

Letters: S tokens of the call, Hq query heads, Hkv key/value heads, Dh head size.
"""

from __future__ import annotations

__all__ = ["FuseAttention"]

import dataclasses
import functools
from collections.abc import Sequence

import onnx_ir as ir

from .flow import PROBED_TOKENS, Flow, cache_of, check_kv_dtype, new_tokens, replace_by_flow
from .fusion_pass import Decline, FusionPass, FusionResult, attribute, constant, producer
from .positions import mask_window, rope

_SWAP_HEADS = (0, 2, 1, 3)


@dataclasses.dataclass(frozen=True)
class _Heads:
    """One of q, k, v up to its projection: value [1, S, heads * Dh]."""

    projected: ir.Value
    heads: int
    head_dim: int


@dataclasses.dataclass(frozen=True)
class _Rotated(_Heads):
    norm: ir.Value
    eps: float
    cos: ir.Value
    sin: ir.Value


class FuseAttention(FusionPass[Flow]):
    """Attention -> FlowQKV | FlowKV.

    1. The model's input_ids is [1, S] and its attention_mask [1, past + S]. S statically 1 gives FlowKV, else FlowQKV.
    2. Softcap is 0. What the mask hides is found by running its part of the graph (`positions.py`), later positions
       too with `is_causal`: causal, or causal with a window; any other declines.
    3. q and k have an RMSNormalization over Dh each, with one epsilon, before or after the Transpose, then a half-split
       RotaryEmbedding over all of Dh. RoPE's base and factor are found from the tables, and verified on them.
    4. past_k, past_v are graph inputs and present_k, present_v graph outputs; nothing else reads the heads' output.
       The cache's element type becomes `kv_dtype`, in the graph's interface too.
    5. past_len = length of attention_mask - length of input_ids, and shared = (rows of the first global layer's past is
       not past_len), are computed once.
    """

    candidate = "Attention"

    def __init__(self, kv_dtype: ir.DataType = ir.DataType.FLOAT16) -> None:
        self.kv_dtype = check_kv_dtype(kv_dtype)

    def call(self, model: ir.Model) -> FusionResult:
        """Runs the pass; layers share masks and tables, and each is probed once a run."""
        self._mask_window, self._rope = functools.cache(mask_window), functools.cache(rope)
        return super().call(model)

    def match(self, model: ir.Model, node: ir.Node) -> Flow:
        """Reads one attention; raises `Decline`."""
        new = new_tokens(model.graph) or PROBED_TOKENS
        q_BHSD, k_BHSD, v_BHSD, mask, *caches = [*node.inputs, *[None] * 6][:6]
        for name in ("softcap", "qk_matmul_output_mode"):
            if attribute(node, name, 0) != 0:
                raise Decline(f"{name} is not 0", attribute(node, name, 0))
        q, k = _rotated(q_BHSD, "q"), _rotated(k_BHSD, "k")
        v = _heads(producer(v_BHSD, "Transpose", "v is not split into heads"), "v")
        rope = self._rope(model.graph, q.cos, q.sin, q.head_dim, new)
        if k.head_dim == q.head_dim and self._rope(model.graph, k.cos, k.sin, k.head_dim, new) != rope:
            raise Decline("q and k are rotated by different tables", f"{q.cos.name}, {k.cos.name}")
        if q.eps != k.eps:
            raise Decline("q and k are normed with different epsilons", f"{q.eps:g}, {k.eps:g}")
        if (k.heads, k.head_dim, v.head_dim) != (v.heads, q.head_dim, q.head_dim) or q.heads % k.heads:
            shapes = ", ".join(f"{x.heads} x {x.head_dim}" for x in (q, k, v))
            raise Decline("heads of q, k, v do not group", shapes)
        past = cache_of(node, caches)
        return Flow(
            q.projected,
            k.projected,
            v.projected,
            past,
            q.norm,
            k.norm,
            (_merged_heads(node, q.heads * q.head_dim), node.outputs[1], node.outputs[2]),
            q.heads,
            k.heads,
            q.head_dim,
            float(attribute(node, "scale", q.head_dim**-0.5)),
            self._mask_window(model.graph, mask, attribute(node, "is_causal", 0) == 1, new),
            rope,
            q.eps,
        )

    def rewrite(self, model: ir.Model, matches: Sequence[tuple[ir.Node, Flow]]) -> None:
        """Replaces the attentions and retypes their caches."""
        replace_by_flow(model.graph, matches, self.kv_dtype)


def _rotated(x_BHSD: ir.Value | None, what: str) -> _Rotated:
    rotary = producer(x_BHSD, "RotaryEmbedding", f"{what} has no RoPE")
    if attribute(rotary, "interleaved", 0) != 0:
        raise Decline(f"RoPE of {what} is interleaved", rotary.name)
    if len(rotary.inputs) > 3 and rotary.inputs[3] is not None:
        raise Decline(f"RoPE of {what} has position_ids", rotary.inputs[3].name)
    above = rotary.inputs[0].producer() if rotary.inputs[0] is not None else None
    if above is not None and above.op_type == "RMSNormalization":
        norm, swap = above, producer(above.inputs[0], "Transpose", f"{what} is not split into heads")
        heads = _heads(swap, what)
    else:
        swap = producer(rotary.inputs[0], "Transpose", f"{what} is not split into heads")
        norm = producer(swap.inputs[0], "RMSNormalization", f"{what} has no QK-norm")
        heads = _heads(swap, what, below=norm)
    if attribute(norm, "axis", -1) not in (-1, 3):
        raise Decline(f"QK-norm of {what} is not over the head", attribute(norm, "axis", -1))
    weight, cos, sin = norm.inputs[1], rotary.inputs[1], rotary.inputs[2]
    if weight is None or weight.shape != (heads.head_dim,):
        raise Decline(f"QK-norm of {what} is not over the head", weight.shape if weight is not None else None)
    if attribute(rotary, "rotary_embedding_dim", 0) not in (0, heads.head_dim):
        raise Decline(f"RoPE of {what} is partial", attribute(rotary, "rotary_embedding_dim", 0))
    if cos is None or sin is None:
        raise Decline(f"RoPE of {what} has no tables", rotary.name)
    eps = float(attribute(norm, "epsilon", 1e-5))
    return _Rotated(heads.projected, heads.heads, heads.head_dim, weight, eps, cos, sin)


def _heads(swap: ir.Node, what: str, below: ir.Node | None = None) -> _Heads:
    """The head split Reshape -> (below) -> Transpose: [1, S, heads * Dh] -> [1, heads, S, Dh]."""
    if tuple(attribute(swap, "perm", ())) != _SWAP_HEADS:
        raise Decline(f"{what} is not split into heads", f"perm {attribute(swap, 'perm', ())}")
    split = producer((below or swap).inputs[0], "Reshape", f"{what} is not split into heads")
    shape = constant(split.inputs[1])
    if shape is None or len(shape) != 4 or shape[2] < 1 or shape[3] < 4:
        raise Decline(f"heads of {what} are unknown", None if shape is None else shape.tolist())
    projected = split.inputs[0]
    if projected is None or projected.dtype not in (None, ir.DataType.FLOAT):
        raise Decline("activations are not float32", projected)
    return _Heads(projected, int(shape[2]), int(shape[3]))


def _merged_heads(attention: ir.Node, width: int) -> ir.Value:
    """The output of Attention -> Transpose -> Reshape, [1, S, Hq * Dh]."""
    value = attention.outputs[0]
    for op_type in ("Transpose", "Reshape"):
        consumers = value.consumers()
        if len(consumers) != 1 or consumers[0].op_type != op_type:
            raise Decline("heads of y are not merged", ", ".join(str(node.op_type) for node in consumers))
        if op_type == "Transpose" and tuple(attribute(consumers[0], "perm", ())) != _SWAP_HEADS:
            raise Decline("heads of y are not merged", f"perm {attribute(consumers[0], 'perm', ())}")
        if op_type == "Reshape":
            shape = constant(consumers[0].inputs[1])
            if shape is None or len(shape) != 3 or shape[2] not in (-1, width):
                raise Decline("heads of y are not merged", None if shape is None else shape.tolist())
        value = consumers[0].outputs[0]
    return value
