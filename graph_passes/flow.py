"""FlowQKV and FlowKV as fusion makes them, whatever spelling of attention they come from.

What a match knows of one layer, what the model's interface must be, and the writing of the nodes.

Letters: S tokens of the call, Hq query heads, Hkv key/value heads, Dh head size.
"""

from __future__ import annotations

__all__ = ["PROBED_TOKENS", "Flow", "cache_of", "check_kv_dtype", "new_tokens", "replace_by_flow"]

import dataclasses
from collections.abc import Sequence

import onnx_ir as ir

from .fusion_pass import Decline
from .opset import DOMAIN, KV_TYPES
from .positions import Rope

PROBED_TOKENS = 3  # S of the calls that a graph of any S is asked about


@dataclasses.dataclass(frozen=True)
class Flow:
    """One layer's attention, from its projections to the merged heads."""

    q: ir.Value  # [1, S, Hq*Dh]
    k: ir.Value  # [1, S, Hkv*Dh]
    v: ir.Value  # [1, S, Hkv*Dh]
    past: tuple[ir.Value, ir.Value]
    q_norm: ir.Value
    k_norm: ir.Value
    outputs: tuple[ir.Value, ir.Value, ir.Value]  # y [1, S, Hq*Dh], present_k, present_v of the nodes found
    num_heads: int
    kv_num_heads: int
    head_dim: int
    scale: float
    window: int
    rope: Rope
    eps: float


def check_kv_dtype(kv_dtype: ir.DataType) -> ir.DataType:
    """The element type of the cache; raises ValueError unless the operators have it."""
    if kv_dtype not in KV_TYPES:
        raise ValueError(f"kv_dtype is {kv_dtype}; it must be one of {', '.join(map(str, KV_TYPES))}")
    return kv_dtype


def new_tokens(graph: ir.Graph) -> int | None:
    """S if it is static; declines unless input_ids is [1, S] and attention_mask [1, past + S]."""
    inputs = {value.name: value for value in graph.inputs}
    for name in ("input_ids", "attention_mask"):
        if name not in inputs:
            raise Decline(f"the model has no input {name}", ", ".join(map(str, inputs)))
        shape = inputs[name].shape
        if shape is None or len(shape) != 2 or shape[0] != 1:
            raise Decline("batch is not 1", f"{name} {shape}")
    tokens = inputs["input_ids"].shape[1]  # type: ignore[index]
    return tokens if isinstance(tokens, int) else None


def cache_of(attention: ir.Node, past: Sequence[ir.Value | None]) -> tuple[ir.Value, ir.Value]:
    """(past_k, past_v); declines unless past and present are of the model's interface and nobody else's."""
    past_k, past_v = past
    if past_k is None or past_v is None or len(attention.outputs) < 3:
        raise Decline("attention without a cache", f"{len(attention.outputs)} outputs")
    for value in (past_k, past_v):
        if not value.is_graph_input():
            raise Decline("past is not a graph input", value.name)
        others = {user.op_type for user in value.consumers() if user is not attention} - {"Shape"}
        if others:
            raise Decline("past is read by others", f"{value.name}: {', '.join(sorted(others))}")
    for value in attention.outputs[1:3]:
        if not value.is_graph_output() or value.uses():
            raise Decline("present is not a graph output alone", value.name)
    return past_k, past_v


def replace_by_flow(graph: ir.Graph, found: Sequence[tuple[ir.Node, Flow]], kv_dtype: ir.DataType) -> None:
    """Writes the operators in place of the attentions, gives their caches the wanted type and the known sizes."""
    first_global = next((flow for _, flow in found if flow.window == 0), found[0][1])
    past_len, shared = _cache_state(graph, first_global.past[0])
    op_type = "FlowKV" if new_tokens(graph) == 1 else "FlowQKV"
    for attention, flow in found:
        node = ir.node(
            op_type,
            [flow.q, flow.k, flow.v, *flow.past, flow.q_norm, flow.k_norm, past_len, shared],
            {
                "num_heads": flow.num_heads,
                "kv_num_heads": flow.kv_num_heads,
                "scale": flow.scale,
                "window": flow.window,
                "rope_theta": flow.rope.theta,
                "rope_factor": flow.rope.factor,
                "eps": flow.eps,
                "mask": "causal",
            },
            domain=DOMAIN,
            num_outputs=3,
            name=attention.name,
        )
        ir.convenience.replace_nodes_and_values(graph, attention, [], [node], flow.outputs, node.outputs)
        for value in (*flow.past, *node.outputs[1:]):
            value.type = ir.TensorType(kv_dtype)
            rows = value.shape[2] if value.shape is not None and len(value.shape) == 4 else None
            value.shape = ir.Shape([1, flow.kv_num_heads, rows, flow.head_dim])


def _cache_state(graph: ir.Graph, past_k: ir.Value) -> tuple[ir.Value, ir.Value]:
    """Adds past_len i64 [1] and shared bool [1] at the head of the graph."""
    inputs = {value.name: value for value in graph.inputs}
    tape = ir.tape.Tape()

    def op(name: str, op_type: str, operands: Sequence[ir.Value], dtype: ir.DataType, **attributes: int) -> ir.Value:
        output = ir.val(name, dtype, [1])
        return tape.op(op_type, operands, attributes, name=name, output=output)

    i64, boolean = ir.DataType.INT64, ir.DataType.BOOL
    total = op("cache.total_len", "Shape", [inputs["attention_mask"]], i64, start=1, end=2)
    new = op("cache.new_len", "Shape", [inputs["input_ids"]], i64, start=1, end=2)
    past_len = op("cache.past_len", "Sub", [total, new], i64)
    rows = op("cache.rows", "Shape", [past_k], i64, start=2, end=3)
    growing = op("cache.growing", "Equal", [rows, past_len], boolean)
    shared = op("cache.shared", "Not", [growing], boolean)
    graph.insert_before(graph[0], tape.nodes)
    return past_len, shared
