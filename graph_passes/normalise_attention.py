"""Attention, spelled out or over caches that the graph puts together itself, becomes Attention over past and new rows.

past_k, k_new -> Concat = present_k -> repeated, transposed, scaled -> MatMul -> mask -> Softmax -> MatMul -> y
q ------------------------------------------------------- scaled -> |                              |
past_v, v_new -> Concat = present_v -> repeated ---------------------------------------------------'
"""

from __future__ import annotations

__all__ = ["NormaliseAttention"]

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
import onnx_ir as ir

from .fusion_pass import Decline, FusionPass, attribute, consumer, other, producer, scalar
from .heads import merge_heads, split_heads
from .probe import Probe

_CALL = (5, 3)  # past and new tokens of the call in which keys and values are followed
_HIDDEN = -1e4  # what a mask fills in is below
_RELATIVE_ERROR = 1e-6  # of a scaled key
_MOVES = ("Cast", "Div", "Expand", "Mul", "Reshape", "Transpose", "Unsqueeze")  # between a cache and its product


@dataclasses.dataclass(frozen=True)
class _Cache:
    past: ir.Value
    new: ir.Value  # [1, Hkv, S, Dh]
    present: ir.Value


@dataclasses.dataclass(frozen=True)
class _Match:
    q: ir.Value  # [1, Hq, S, Dh], or [1, S, Hq*Dh]
    k: ir.Value
    v: ir.Value
    past: tuple[ir.Value, ir.Value]
    mask: ir.Value | None
    heads: tuple[int, int]  # Hq, Hkv of values that are merged; 0, 0 if they are not
    outputs: tuple[ir.Value, ir.Value, ir.Value]  # y, present_k, present_v
    attributes: Mapping[str, int | float]


class NormaliseAttention(FusionPass[_Match]):
    """Softmax and what is around it, or Attention of another form -> Attention(q, k, v, mask, past_k, past_v).

    1. Spelled out: MatMul, a mask by Add or Where, Softmax over the keys, MatMul with the values. Rows of NaN may be
       made zero after Softmax: a causal mask has none. Scores have no softcap.
    2. Keys and values are Concat(past, new) over the rows. What is between a cache and its product is asked what it
       does to known numbers: keys are repeated, each for its group of queries, transposed and scaled, values repeated.
    3. The scale is the product of the constants on q, on the keys and on the scores.
    4. Attention without past inputs has such caches too, and is not `is_causal`, which would count from the first key.
    5. Attention of [1, S, heads * Dh] becomes one of [1, heads, S, Dh], between splits and a merge of heads.
    """

    def is_candidate(self, node: ir.Node) -> bool:
        """An attention that is not in its final form."""
        if (node.domain, node.op_type) == ("", "Softmax"):
            return True
        merged = node.inputs[0] is not None and node.inputs[0].shape is not None and len(node.inputs[0].shape) == 3
        return (node.domain, node.op_type) == ("", "Attention") and (merged or len(node.inputs) < 6)

    def match(self, model: ir.Model, node: ir.Node) -> _Match:
        """Reads one attention; raises `Decline`."""
        if node.op_type == "Softmax":
            return _spelled(model.graph, node)
        return _merged(node) if len(node.inputs) >= 6 else _without_past(model.graph, node)

    def rewrite(self, model: ir.Model, matches: Sequence[tuple[ir.Node, _Match]]) -> None:
        """Replaces the nodes."""
        graph = model.graph
        for _, match in matches:
            last = match.outputs[0].producer()
            assert last is not None
            tape = ir.tape.Tape()
            operands = [match.q, match.k, match.v]
            query_heads, heads = match.heads
            if query_heads:
                by_heads = zip(operands, (query_heads, heads, heads), strict=True)
                operands = [split_heads(graph, tape, x, count) for x, count in by_heads]
            y = ir.val(None, ir.DataType.FLOAT, operands[0].shape)
            present = [ir.val(None) for _ in match.past]
            tape.op_multi_out(
                "Attention",
                [*operands, match.mask, *match.past],
                match.attributes,
                name=last.name,
                outputs=[y, *present],
            )
            new = [merge_heads(graph, tape, y) if query_heads else y, *present]
            ir.convenience.replace_nodes_and_values(graph, last, [], tape.nodes, match.outputs, new)


def _spelled(graph: ir.Graph, softmax: ir.Node) -> _Match:
    if attribute(softmax, "axis", -1) not in (-1, 3):
        raise Decline("softmax is not over the keys", attribute(softmax, "axis", -1))
    scores, mask = _unmasked(softmax.inputs[0])
    scores, scale = _unscaled(scores)
    product = scores.producer()
    if product is not None and product.op_type == "Tanh":
        raise Decline("scores are capped", product.outputs[0].name)
    if product is None or product.op_type != "MatMul" or product.inputs[0] is None:
        raise Decline("scores are not a product of queries and keys", scores.name)
    q, factor = _unscaled(product.inputs[0])
    if q.shape is None or len(q.shape) != 4 or not isinstance(q.shape[1], int):
        raise Decline("queries are not [1, heads, S, Dh]", q.shape)
    k, key_scale = _cache(graph, product.inputs[1], q.shape[1], transposed=True)
    weights = softmax.outputs[0]
    guard = next((node for node in weights.consumers() if node.op_type == "IsNaN"), None)
    if guard is not None:
        choice = consumer(guard.outputs[0], ("Where",), "rows of NaN are not replaced")
        if scalar(choice.inputs[1]) != 0 or choice.inputs[2] is not weights or len(weights.consumers()) != 2:
            raise Decline("rows of NaN are not made zero", choice.outputs[0].name)
        weights = choice.outputs[0]
    result = consumer(weights, ("MatMul",), "weights are not multiplied by values")
    v, value_scale = _cache(graph, result.inputs[1], q.shape[1], transposed=False)
    if value_scale != 1:
        raise Decline("values are scaled", value_scale)
    return _Match(
        q,
        k.new,
        v.new,
        (k.past, v.past),
        mask,
        (0, 0),
        (result.outputs[0], k.present, v.present),
        {"scale": scale * factor * key_scale},
    )


def _without_past(graph: ir.Graph, node: ir.Node) -> _Match:
    q, keys, values, mask = [*node.inputs, None, None, None][:4]
    if q is None or q.shape is None or len(q.shape) != 4 or not isinstance(q.shape[1], int):
        raise Decline("queries are not [1, heads, S, Dh]", q.shape if q is not None else None)
    if attribute(node, "is_causal", 0):
        raise Decline("is_causal counts from the first key", node.outputs[0].name)
    (k, key_scale), (v, value_scale) = (_cache(graph, x, q.shape[1], transposed=False) for x in (keys, values))
    if (key_scale, value_scale) != (1, 1):
        raise Decline("keys or values are scaled", f"{key_scale}, {value_scale}")
    if any(value.uses() or value.is_graph_output() for value in node.outputs[1:]):
        raise Decline("more than y is read", node.outputs[0].name)
    outputs = (node.outputs[0], k.present, v.present)
    return _Match(q, k.new, v.new, (k.past, v.past), mask, (0, 0), outputs, _attributes(node))


def _merged(node: ir.Node) -> _Match:
    q, k, v, mask, past_k, past_v = node.inputs[:6]
    query_heads, heads = attribute(node, "q_num_heads", 0), attribute(node, "kv_num_heads", 0)
    if q is None or k is None or v is None or past_k is None or past_v is None or len(node.outputs) < 3:
        raise Decline("attention without a cache", node.outputs[0].name)
    for x, count in ((q, query_heads), (k, heads), (v, heads)):
        width = x.shape[2] if x.shape is not None and len(x.shape) == 3 else None
        if not isinstance(width, int) or count < 1 or width % count:
            raise Decline("heads do not divide an operand", f"{x.name}: {count}, {x.shape}")
    if len(node.inputs) > 6 and node.inputs[6] is not None:
        raise Decline("lengths of padded keys and values", node.inputs[6].name)
    outputs = (node.outputs[0], node.outputs[1], node.outputs[2])
    return _Match(q, k, v, (past_k, past_v), mask, (query_heads, heads), outputs, _attributes(node))


def _attributes(node: ir.Node) -> dict[str, int | float]:
    """All that is not of the merged form, for the fusion to judge."""
    return {name: attr.value for name, attr in node.attributes.items() if name not in ("q_num_heads", "kv_num_heads")}


def _unmasked(masked: ir.Value | None) -> tuple[ir.Value, ir.Value]:
    """The scores and the mask, bool or added."""
    node = masked.producer() if masked is not None else None
    if node is not None and node.op_type == "Where":
        seen, scores, fill = node.inputs
        low = scalar(fill)
        if seen is not None and scores is not None and low is not None and low <= _HIDDEN:
            return scores, seen
        raise Decline("hidden scores are not very negative", low)
    if node is not None and node.op_type == "Add":
        for scores in node.inputs:
            inner = _unscaled(scores)[0].producer() if scores is not None else None
            mask = other(node, scores) if scores is not None else None
            if scores is not None and mask is not None and inner is not None and inner.op_type in ("MatMul", "Tanh"):
                return scores, mask
    raise Decline("scores are not masked", masked.name if masked is not None else "")


def _unscaled(value: ir.Value) -> tuple[ir.Value, float]:
    """What a value is made of by constant factors, and their product."""
    scale = 1.0
    while (node := value.producer()) is not None and node.op_type in ("Mul", "Div"):
        inner, factor = node.inputs[0], scalar(node.inputs[1])
        if factor is None and node.op_type == "Mul":
            inner, factor = node.inputs[1], scalar(node.inputs[0])
        if inner is None or not factor:
            break
        value, scale = inner, scale * factor if node.op_type == "Mul" else scale / factor
    return value, scale


def _cache(graph: ir.Graph, operand: ir.Value | None, query_heads: int, *, transposed: bool) -> tuple[_Cache, float]:
    """The cache that an operand of a product repeats, and the factor on it."""
    value = operand
    while value is not None and (node := value.producer()) is not None and node.op_type in _MOVES:
        scaled = node.op_type == "Mul" and scalar(node.inputs[0]) is not None
        value = node.inputs[1] if scaled else node.inputs[0]
    concat = producer(value, "Concat", "keys or values are not past and new")
    axis, (past, new) = attribute(concat, "axis", 0), [*concat.inputs, None][:2]
    if len(concat.inputs) != 2 or axis not in (-2, 2) or past is None or new is None or not past.is_graph_input():
        raise Decline("keys or values are not past and new", concat.outputs[0].name)
    call, present = Probe(graph, *_CALL), concat.outputs[0]
    _, heads, _, head_dim = [*call.input_shape(past), 0, 0, 0, 0][:4]
    if heads < 1 or head_dim < 1 or query_heads % heads:
        raise Decline("heads do not group", f"{query_heads}, {heads}")
    numbers = 1 + np.arange(heads * sum(_CALL) * head_dim, dtype=np.float32).reshape(1, heads, -1, head_dim) / 997
    assert operand is not None
    [found] = call.evaluate(operand, known={present: numbers})
    wanted = np.repeat(numbers, query_heads // heads, axis=1)
    if transposed:
        wanted = wanted.swapaxes(2, 3)
    if found.shape != wanted.shape:
        raise Decline("keys or values are not repeated for their queries", f"{operand.name}: {list(found.shape)}")
    scale = float(found.flat[0] / wanted.flat[0])
    if not np.allclose(found, wanted * scale, rtol=_RELATIVE_ERROR, atol=0):
        raise Decline("keys or values are not repeated for their queries", operand.name)
    return _Cache(past, new, present), scale
