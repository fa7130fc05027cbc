"""com.microsoft's GroupQueryAttention, with the QK-norm before it or in it, becomes one FlowQKV or FlowKV.

    q [1,S,Hq*Dh]  -> Reshape -> RMSNormalization -> Reshape -> |
    k [1,S,Hkv*Dh] -> Reshape -> RMSNormalization -> Reshape -> | GroupQueryAttention -> y [1,S,Hq*Dh]
    v [1,S,Hkv*Dh]                                           -> |

Letters: S tokens of the call, Hq query heads, Hkv key/value heads, Dh head size.
"""

from __future__ import annotations

__all__ = ["FuseGqa"]

import dataclasses
import functools
from collections.abc import Sequence

import onnx_ir as ir

from .flow import PROBED_TOKENS, Flow, cache_of, check_kv_dtype, new_tokens, replace_by_flow
from .fusion_pass import Decline, FusionPass, FusionResult, attribute, constant, producer
from .positions import cached_rope
from .probe import Probe

_PROBED_PAST = 5
# Inputs by position, and those that have no counterpart in our operator.
_SEQLENS_K, _TOTAL, _COS, _SIN, _POSITIONS, _Q_NORM, _K_NORM = 5, 6, 7, 8, 9, 14, 15
_REFUSED_INPUTS = {10: "attention_bias", 11: "head_sink", 12: "k_scale", 13: "v_scale"}
# Attributes that are read here, and those that must have the value given.
_READ = ("num_heads", "kv_num_heads", "scale", "do_rotary", "local_window_size", "qk_norm_epsilon")
_NEEDED: dict[str, int | float | str] = {
    "softcap": 0.0,
    "rotary_interleaved": 0,
    "smooth_softmax": 0,
    "qk_output": 0,
    "k_quant_type": "NONE",
    "v_quant_type": "NONE",
    "kv_cache_bit_width": 0,
}
_LAYOUT = "sliding_window_cache"  # only says how the caller lays out the cache


@dataclasses.dataclass(frozen=True)
class _Normed:
    """q or k up to its projection."""

    projected: ir.Value
    norm: ir.Value
    head_dim: int
    eps: float


class FuseGqa(FusionPass[Flow]):
    """GroupQueryAttention -> FlowQKV | FlowKV.

    1. The model's input_ids is [1, S] and its attention_mask [1, past + S]; seqlens_k and total_sequence_length are
       past + S - 1 and past + S, found by running their part of the graph. S statically 1 gives FlowKV.
    2. Every attribute is known and none asks for what FlowQKV has not: softcap, smooth softmax, interleaved RoPE,
       quantised caches; nor does an input: attention_bias, head_sink.
    3. q and k have an RMSNormalization over Dh each, between two Reshapes or by inputs 14 and 15, with one epsilon.
    4. RoPE is inside (do_rotary) or a RotaryEmbedding of q and of k at positions past + i, not interleaved, over all of
       Dh. Base and factor are found from the tables, and verified on them.
    5. The window is local_window_size, every layer's own: a graph that leaves it out is global in all layers.
    6. past_k, past_v are graph inputs and present_k, present_v graph outputs. Their element type becomes `kv_dtype`.
    """

    candidate = "GroupQueryAttention"

    def __init__(self, kv_dtype: ir.DataType = ir.DataType.FLOAT16) -> None:
        self.kv_dtype = check_kv_dtype(kv_dtype)

    def is_candidate(self, node: ir.Node) -> bool:
        """A node of com.microsoft's."""
        return (node.domain, node.op_type) == ("com.microsoft", self.candidate)

    def call(self, model: ir.Model) -> FusionResult:
        """Runs the pass; layers share tables and lengths, and each is looked at once a run."""
        self._rope = functools.cache(cached_rope)
        self._check_lengths, self._check_positions = functools.cache(_check_lengths), functools.cache(_check_positions)
        return super().call(model)

    def match(self, model: ir.Model, node: ir.Node) -> Flow:
        """Reads one attention; raises `Decline`."""
        new = new_tokens(model.graph) or PROBED_TOKENS
        _check_attributes(node)
        inputs = [*node.inputs, *[None] * 16][:16]
        for index, name in _REFUSED_INPUTS.items():
            if inputs[index] is not None:
                raise Decline(f"it has {name}", inputs[index].name)  # type: ignore[union-attr]
        heads, kv_heads = int(attribute(node, "num_heads", 0)), int(attribute(node, "kv_num_heads", 0))
        if heads < 1 or kv_heads < 1 or heads % kv_heads:
            raise Decline("heads of q, k, v do not group", f"{heads}, {kv_heads}")
        self._check_lengths(model.graph, inputs[_SEQLENS_K], inputs[_TOTAL], new)
        v = inputs[2]
        if inputs[1] is None or v is None:
            raise Decline("q, k and v are packed", inputs[0].name if inputs[0] is not None else "")
        tables, below = self._rotations(model.graph, node, inputs, new)
        inside = inputs[_Q_NORM], inputs[_K_NORM]
        eps = float(attribute(node, "qk_norm_epsilon", 1e-6))
        q = _normed(below[0], "q", heads, inside[0], eps)
        k = _normed(below[1], "k", kv_heads, inside[1], eps)
        if q.eps != k.eps:
            raise Decline("q and k are normed with different epsilons", f"{q.eps:g}, {k.eps:g}")
        if q.head_dim != k.head_dim:
            raise Decline("heads of q, k, v do not group", f"{heads} x {q.head_dim}, {kv_heads} x {k.head_dim}")
        for value in (q.projected, k.projected, v):
            if value.dtype not in (None, ir.DataType.FLOAT):
                raise Decline("activations are not float32", value)
        window = int(attribute(node, "local_window_size", -1))
        return Flow(
            q.projected,
            k.projected,
            v,
            cache_of(node, inputs[3:5]),
            q.norm,
            k.norm,
            (node.outputs[0], node.outputs[1], node.outputs[2]),
            heads,
            kv_heads,
            q.head_dim,
            float(attribute(node, "scale", 0.0)) or q.head_dim**-0.5,
            max(0, window),
            self._rope(*tables, q.head_dim),
            q.eps,
        )

    def rewrite(self, model: ir.Model, matches: Sequence[tuple[ir.Node, Flow]]) -> None:
        """Replaces the attentions and retypes their caches."""
        replace_by_flow(model.graph, matches, self.kv_dtype)

    def _rotations(
        self, graph: ir.Graph, node: ir.Node, inputs: Sequence[ir.Value | None], new: int
    ) -> tuple[tuple[ir.Value, ir.Value], tuple[ir.Value, ir.Value]]:
        """The tables (cos, sin), and q and k before their rotation."""
        positions = [inputs[_POSITIONS]]
        if attribute(node, "do_rotary", 0):
            cos, sin, below = inputs[_COS], inputs[_SIN], (inputs[0], inputs[1])
        else:
            q, k = _rotary(inputs[0], "q"), _rotary(inputs[1], "k")
            if q[2:] != k[2:]:
                raise Decline("q and k are rotated by different tables", f"{q[2]}, {k[2]}")
            (cos, sin), below = q[2:], (q[0], k[0])
            positions += [q[1], k[1]]
        if cos is None or sin is None or below[0] is None or below[1] is None:
            raise Decline("RoPE has no tables", node.name)
        for value in positions:
            if value is not None:
                self._check_positions(graph, value, new)
        return (cos, sin), (below[0], below[1])


def _check_attributes(node: ir.Node) -> None:
    for name, attr in node.attributes.items():
        if name in _NEEDED:
            if attr.value != _NEEDED[name]:
                needed = _NEEDED[name]
                raise Decline(f"{name} is not {needed if isinstance(needed, str) else int(needed)}", attr.value)
        elif name not in _READ and name != _LAYOUT:
            raise Decline("it has an unknown attribute", f"{name} = {attr.value}")


def _check_lengths(graph: ir.Graph, seqlens_k: ir.Value | None, total: ir.Value | None, new: int) -> None:
    if seqlens_k is None or total is None:
        raise Decline("attention without lengths")
    last, count = (array.reshape(-1).tolist() for array in Probe(graph, _PROBED_PAST, new).evaluate(seqlens_k, total))
    if (last, count) != ([_PROBED_PAST + new - 1], [_PROBED_PAST + new]):
        raise Decline("lengths are not past + S", f"{last}, {count} with {_PROBED_PAST} past and {new} new tokens")


def _check_positions(graph: ir.Graph, positions: ir.Value, new: int) -> None:
    [found] = Probe(graph, _PROBED_PAST, new).evaluate(positions)
    if found.reshape(-1).tolist() != list(range(_PROBED_PAST, _PROBED_PAST + new)):
        raise Decline("RoPE positions are not past + i", f"{positions.name}: {found.reshape(-1).tolist()}")


def _rotary(
    value: ir.Value | None, what: str
) -> tuple[ir.Value | None, ir.Value | None, ir.Value | None, ir.Value | None]:
    """(x, position_ids, cos, sin) of a RotaryEmbedding, com.microsoft's or the standard one."""
    node = value.producer() if value is not None else None
    if node is None or node.op_type != "RotaryEmbedding" or node.domain not in ("", "com.microsoft"):
        raise Decline(f"{what} has no RoPE", value.name if value is not None else "")
    for name in ("interleaved", "rotary_embedding_dim", "is_packed_batching"):
        if attribute(node, name, 0) != 0:
            raise Decline(f"{name} of {what}'s RoPE is not 0", attribute(node, name, 0))
    if attribute(node, "scale", 1.0) != 1.0:
        raise Decline(f"scale of {what}'s RoPE is not 1", attribute(node, "scale", 1.0))
    x, *rest = [*node.inputs, *[None] * 4][:4]
    positions, cos, sin = rest if node.domain else (rest[2], rest[0], rest[1])
    if positions is None:
        raise Decline(f"RoPE of {what} has no position_ids", node.name)
    return x, positions, cos, sin


def _normed(value: ir.Value, what: str, heads: int, inside: ir.Value | None, eps: float) -> _Normed:
    """The QK-norm, by an input of the attention or between two Reshapes: [0, -1, Dh] and back, or with four axes."""
    if inside is not None:
        return _Normed(value, inside, _head_dim(inside, what), eps)
    reason = f"{what} has no QK-norm"
    merge = producer(value, "Reshape", reason)
    norm = producer(merge.inputs[0], "RMSNormalization", reason)
    split = producer(norm.inputs[0], "Reshape", reason)
    head_dim = _head_dim(norm.inputs[1], what)
    if attribute(norm, "axis", -1) != -1:
        raise Decline(f"QK-norm of {what} is not over the head", attribute(norm, "axis", -1))
    for reshape, last, ranks in ((split, head_dim, (3, 4)), (merge, heads * head_dim, (3,))):
        shape = constant(reshape.inputs[1])
        if (
            shape is None
            or len(shape) not in ranks
            or not (shape[-1] == last or (reshape is merge and shape[-1] == -1))
        ):
            raise Decline(f"heads of {what} are unknown", None if shape is None else shape.tolist())
    projected = split.inputs[0]
    assert projected is not None and norm.inputs[1] is not None
    return _Normed(projected, norm.inputs[1], head_dim, float(attribute(norm, "epsilon", 1e-5)))


def _head_dim(norm: ir.Value | None, what: str) -> int:
    shape = norm.shape if norm is not None else None
    if shape is None or len(shape) != 1 or not isinstance(shape[0], int) or shape[0] < 4 or shape[0] % 2:
        raise Decline(f"QK-norm of {what} is not over the head", shape)
    return shape[0]
