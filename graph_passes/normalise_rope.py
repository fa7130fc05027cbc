"""Half-split rotation, spelled out or over stored tables, becomes RotaryEmbedding over tables of this call's rows.

x_BHSD -> Mul cos -----------------------------------> Add          cos, sin [.., S, Dh]: both halves are the same
       -> Slice -> Neg, Slice -> Concat -> Mul sin -> |
"""

from __future__ import annotations

__all__ = ["NormaliseRope"]

import dataclasses
from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from .fusion_pass import Decline, FusionPass, attribute, constant, consumer, integers, other, producer
from .heads import merge_heads, split_heads
from .probe import Probe

_CALL = (5, 3)  # past and new tokens of the call in which tables are looked at


@dataclasses.dataclass(frozen=True)
class _Match:
    x: ir.Value  # [1, heads, S, Dh], or [1, S, heads * Dh]
    heads: int
    cos: ir.Value
    sin: ir.Value
    positions: ir.Value | None  # rows of cos and sin [P, Dh/2], if these are stored
    halved: bool  # cos and sin are [.., S, Dh]
    interleaved: int
    rotated: int  # numbers of a head that are rotated, 0 for all
    result: ir.Value


class NormaliseRope(FusionPass[_Match]):
    """Concat(-high half, low half) and what is around it, or RotaryEmbedding of another form -> RotaryEmbedding.

    1. Spelled out: x times cos, plus x with its halves swapped and the first one negated, times sin. The halves are
       Slice or Split of the last axis, in the middle. The tables' own halves are equal, which is looked at in a call.
    2. RotaryEmbedding with position_ids, of the standard domain or com.microsoft, reads its tables by Gather.
    3. RotaryEmbedding of [1, S, heads * Dh] becomes one of [1, heads, S, Dh], between a split and a merge of heads.
    4. com.microsoft's has no factor on its result, and positions of each token, not one offset.
    """

    def is_candidate(self, node: ir.Node) -> bool:
        """A rotation that is not in its final form."""
        if node.op_type == "RotaryEmbedding":
            stored = len(node.inputs) > 3 and node.inputs[3] is not None
            merged = node.inputs[0] is not None and node.inputs[0].shape is not None and len(node.inputs[0].shape) == 3
            return node.domain == "com.microsoft" or (node.domain == "" and (stored or merged))
        first = node.inputs[0].producer() if node.inputs and node.inputs[0] is not None else None
        return (node.domain, node.op_type, len(node.inputs)) == ("", "Concat", 2) and (
            first is not None and first.op_type == "Neg"
        )

    def match(self, model: ir.Model, node: ir.Node) -> _Match:
        """Reads one rotation; raises `Decline`."""
        return _spelled(model.graph, node) if node.op_type == "Concat" else _operator(node)

    def rewrite(self, model: ir.Model, matches: Sequence[tuple[ir.Node, _Match]]) -> None:
        """Replaces the nodes."""
        graph = model.graph
        for _, match in matches:
            last = match.result.producer()
            assert last is not None
            tape = ir.tape.Tape()
            tables = [self._table(graph, tape, match, table) for table in (match.cos, match.sin)]
            x_BHSD = match.x
            merged = match.x.shape is not None and len(match.x.shape) == 3
            if merged:
                x_BHSD = split_heads(graph, tape, match.x, match.heads)
            attributes = {"interleaved": match.interleaved, "rotary_embedding_dim": match.rotated}
            output = ir.val(None, x_BHSD.dtype, x_BHSD.shape)
            result = tape.op("RotaryEmbedding", [x_BHSD, *tables], attributes, name=last.name, output=output)
            if merged:
                result = merge_heads(graph, tape, result)
            ir.convenience.replace_nodes_and_values(graph, last, [], tape.nodes, [match.result], [result])

    @staticmethod
    def _table(graph: ir.Graph, tape: ir.tape.Tape, match: _Match, table: ir.Value) -> ir.Value:
        """[1, S, Dh/2]."""
        if match.positions is not None:
            return tape.op("Gather", [table, match.positions], {"axis": 0})
        if not match.halved:
            return table
        assert table.shape is not None
        head_dim = int(table.shape[-1])  # type: ignore[arg-type]
        rows = tape.op("Reshape", [table, integers(graph, [1, -1, head_dim])])
        half = [integers(graph, [0]), integers(graph, [head_dim // 2]), integers(graph, [2])]
        return tape.op("Slice", [rows, *half])


def _operator(node: ir.Node) -> _Match:
    if node.domain == "":
        x, cos, sin, positions = [*node.inputs, None, None][:4]
    else:
        x, positions, cos, sin = [*node.inputs, None, None, None][:4]
        if attribute(node, "scale", 1.0) != 1.0:
            raise Decline("rotation with a factor", attribute(node, "scale", 1.0))
        if attribute(node, "is_packed_batching", 0) != 0:
            raise Decline("tokens of several sequences are packed", node.outputs[0].name)
        if positions is None or positions.shape is None or len(positions.shape) != 2:
            raise Decline("positions are not of each token", positions)
    if x is None or cos is None or sin is None or cos.shape is None or x.shape is None:
        raise Decline("rotation of unknown shape", x)
    half, heads = cos.shape[-1], attribute(node, "num_heads", 0)
    if len(x.shape) == 3:
        width = x.shape[2]
        if not isinstance(width, int) or not isinstance(half, int):
            raise Decline("rotation of unknown shape", x)
        heads = heads or width // (2 * half)
        if heads < 1 or width % heads:
            raise Decline("heads do not divide x", f"{heads}, {x.shape}")
    rotated = attribute(node, "rotary_embedding_dim", 0)
    interleaved = attribute(node, "interleaved", 0)
    return _Match(x, heads, cos, sin, positions, False, interleaved, rotated, node.outputs[0])


def _spelled(graph: ir.Graph, concat: ir.Node) -> _Match:
    negated = producer(concat.inputs[0], "Neg", "not a rotation")
    (x, high), (same, low) = _part(negated.inputs[0]), _part(concat.inputs[1])
    head_dim = x.shape[-1] if x.shape is not None else None
    if (
        x is not same
        or not isinstance(head_dim, int)
        or attribute(concat, "axis", 0) not in (-1, len(x.shape or ()) - 1)
    ):
        raise Decline("not halves of one value", f"{x.name}, {same.name}")
    half = head_dim // 2
    if (low, high) == (range(half, head_dim), range(half)):
        raise Decline("halves rotate the other way", concat.outputs[0].name)
    if (low, high) != (range(half), range(half, head_dim)):
        raise Decline("not halves of one value", f"{low}, {high}")
    by_sin = consumer(concat.outputs[0], ("Mul",), "halves are not multiplied by a table")
    add = consumer(by_sin.outputs[0], ("Add",), "halves are not added to a product")
    by_cos = producer(other(add, by_sin.outputs[0]), "Mul", "halves are not added to a product")
    if x not in by_cos.inputs:
        raise Decline("halves are not added to a product of x", by_cos.outputs[0].name)
    cos, sin = other(by_cos, x), other(by_sin, concat.outputs[0])
    if cos is None or sin is None:
        raise Decline("rotation without tables", concat.outputs[0].name)
    for table in (cos, sin):
        if table.shape is None or table.shape[-1] != head_dim:
            raise Decline("table is not of the head's size", f"{table.name}: {table.shape}")
        [numbers] = Probe(graph, *_CALL).evaluate(table)
        if numbers.size != _CALL[1] * head_dim:
            raise Decline("table has more than a row for a token", f"{table.name}: {list(numbers.shape)}")
        if not np.array_equal(numbers[..., :half], numbers[..., half:]):
            raise Decline("the halves of a table differ", table.name)
    heads = x.shape[1] if x.shape is not None and len(x.shape) == 4 else 0
    if not isinstance(heads, int) or heads < 1:
        raise Decline("x is not [1, heads, S, Dh]", x.shape)
    return _Match(x, heads, cos, sin, None, True, 0, 0, add.outputs[0])


def _part(value: ir.Value | None) -> tuple[ir.Value, range]:
    """What a value is a part of, and which part of the last axis."""
    node = value.producer() if value is not None else None
    x = node.inputs[0] if node is not None and node.inputs else None
    if node is not None and x is not None and x.shape is not None and isinstance(x.shape[-1], int):
        last, width = len(x.shape) - 1, x.shape[-1]
        if node.op_type == "Slice":
            bounds = [constant(operand) for operand in node.inputs[1:]]
            if all(bound is not None and bound.size == 1 for bound in bounds) and len(bounds) > 2:
                start, end, axis, step = [*(int(bound.reshape(())) for bound in bounds if bound is not None), 1][:4]
                if axis in (-1, last):
                    return x, range(width)[start:end:step]
        elif node.op_type == "Split" and attribute(node, "axis", 0) in (-1, last) and len(node.outputs) == 2:
            sizes = [output.shape[-1] if output.shape is not None else None for output in node.outputs]
            if isinstance(sizes[0], int):
                return x, range(width)[: sizes[0]] if value is node.outputs[0] else range(width)[sizes[0] :]
    raise Decline("not halves of one value", value.name if value is not None else "")
