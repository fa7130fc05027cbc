"""Gives every value its shape, and makes constant what exporters compute from shapes.

The same head split is one Reshape by [0, 0, 4, 64] from one exporter and a dozen nodes over Shape from another. In a
call whose lengths are known all of that is constant arithmetic. Two such calls are run, without weights: what is the
same number in both is constant, and a dimension that differs is recognised by its two numbers.
"""

from __future__ import annotations

__all__ = ["ALL_ROWS", "NEW_ROWS", "PAST_ROWS", "InferShapes"]

import dataclasses
from collections.abc import Sequence

import onnx_ir as ir

from .folding import fold
from .fusion_pass import attribute, constant, integers
from .opset import DOMAIN
from .probe import Probe

# Names of the dimensions that are lengths of a call, as `normalise_interface` has them.
NEW_ROWS, PAST_ROWS, ALL_ROWS = "sequence", "past", "total"
_PASTS, _TOKENS = (37, 101), (5, 11)  # within a RoPE table of 128 rows; every length differs between the calls
_MAX_CONSTANT = 8  # elements of a shape
_MAX_FOLDED = 1 << 13  # elements; position arithmetic is that small


@dataclasses.dataclass(frozen=True)
class _Known:
    """A value in one call."""

    shape: tuple[int, ...] | None
    dtype: ir.DataType | None
    numbers: tuple[int, ...] | None  # of a small integer vector


class InferShapes(ir.passes.InPlacePass):
    """Infers shapes by running two calls.

    1. Shapes and types of all values between the model's inputs and outputs; dimensions are numbers, or NEW_ROWS,
       PAST_ROWS, ALL_ROWS, or unknown.
    2. Reshape to a shape with at most one length in it has a constant shape operand, -1 standing for the length alone.
    3. Slice has constant bounds where they are the same in both calls.
    4. Shape of a value in between is made of numbers and of the lengths of input_ids and attention_mask, so that
       nothing is computed for its shape alone.
    5. A fused graph, which has nodes of our domain, is left alone, and so is one without these inputs.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Runs the pass."""
        graph = model.graph
        inputs = {value.name: value for value in graph.inputs}
        if any(node.domain == DOMAIN for node in graph) or not {"input_ids", "attention_mask"} <= inputs.keys():
            return ir.passes.PassResult(model, False)
        static = inputs["input_ids"].shape[1] if inputs["input_ids"].shape else None
        tokens = (static, static) if isinstance(static, int) else _TOKENS
        calls = [Probe(graph, past, new) for past, new in zip(_PASTS, tokens, strict=True)]
        lengths = {tuple(call.past + call.new for call in calls): ALL_ROWS, tokens: NEW_ROWS, _PASTS: PAST_ROWS}
        one, other = (_run(model, call) for call in calls)
        modified = False
        shapes: dict[ir.Value | None, ir.Shape] = {}
        for node in graph:
            for value in node.outputs:
                found = [call[value.name] for call in (one, other) if value.name in call]
                modified |= _annotate(value, found, lengths, shapes)
        for node in list(graph):
            if (node.domain, node.op_type) == ("", "Reshape"):
                modified |= _fix(node, 1, _target(shapes.get(node.outputs[0])))
            elif (node.domain, node.op_type) == ("", "Slice"):
                for index, bound in enumerate(node.inputs[1:], 1):
                    name = bound.name if bound is not None else None
                    in_both = {call[name].numbers if name in call else None for call in (one, other)}
                    modified |= _fix(node, index, in_both.pop() if len(in_both) == 1 else None)
            elif (node.domain, node.op_type) == ("", "Shape"):
                modified |= _from_inputs(graph, node, shapes.get(node.inputs[0]))
        return ir.passes.PassResult(model, modified)


def _run(model: ir.Model, call: Probe) -> dict[str | None, _Known]:
    """What is known of the values in one call, by name."""
    clone = model.clone()
    for value in clone.graph.inputs:
        value.shape = ir.Shape(call.input_shape(value))
    for node in clone.graph:
        for value in node.outputs:
            value.shape = None
    fold(clone, _MAX_FOLDED, infer_shapes=True)
    return {name: _known(value) for name, value in ir.convenience.create_value_mapping(clone.graph).items()}


def _known(value: ir.Value) -> _Known:
    tensor = ir.convenience.get_const_tensor(value)
    found = value.shape if tensor is None else tensor.shape
    shape = found.numpy() if isinstance(found, ir.Shape) and found.is_static() else None
    numbers = None
    if tensor is not None and tensor.dtype == ir.DataType.INT64 and tensor.size <= _MAX_CONSTANT:
        numbers = tuple(tensor.numpy().reshape(-1).tolist()) if len(tensor.shape) == 1 else None
    return _Known(shape, value.dtype if tensor is None else tensor.dtype, numbers)


def _annotate(
    value: ir.Value,
    found: Sequence[_Known],
    lengths: dict[tuple[int, ...], str],
    shapes: dict[ir.Value | None, ir.Shape],
) -> bool:
    """Adds a value's shape to `shapes` and, unless it is the model's output, writes it and the type on the value."""
    before = value.dtype, value.shape
    if found and value.dtype is None and found[0].dtype is not None:
        value.dtype = found[0].dtype
    one, other = (found[0].shape, found[1].shape) if len(found) == 2 else (None, None)
    if one is not None and other is not None and len(one) == len(other):
        shapes[value] = ir.Shape([a if a == b else lengths.get((a, b)) for a, b in zip(one, other, strict=True)])
        if not value.is_graph_output():
            value.shape = shapes[value]
    return before != (value.dtype, value.shape)


def _target(shape: ir.Shape | None) -> Sequence[int] | None:
    """The operand of a Reshape to `shape`, if one can be constant."""
    if shape is None:
        return None
    target = [dim if isinstance(dim, int) else -1 for dim in shape]
    return None if target.count(-1) > 1 or 0 in target else target


def _fix(node: ir.Node, index: int, numbers: Sequence[int] | None) -> bool:
    """Makes an operand constant, or one that leaves a number to be found out complete."""
    operand, graph = node.inputs[index], node.graph
    if numbers is None or operand is None or not isinstance(graph, ir.Graph):
        return False
    before = constant(operand)
    if before is not None and all(number != -1 or now == -1 for number, now in zip(before, numbers, strict=True)):
        return False
    node.replace_input_with(index, integers(graph, numbers))
    return True


def _from_inputs(graph: ir.Graph, node: ir.Node, shape: ir.Shape | None) -> bool:
    """Replaces the Shape of a value in between."""
    if shape is None:
        return False
    start, end = attribute(node, "start", 0), attribute(node, "end", len(shape))
    dims = [dim if isinstance(dim, int) else dim.value for dim in shape][start:end]
    if not dims or not all(isinstance(dim, int) or dim in (NEW_ROWS, PAST_ROWS, ALL_ROWS) for dim in dims):
        return False
    parts = [integers(graph, [dim]) if isinstance(dim, int) else _length(graph, node, str(dim)) for dim in dims]
    concat = ir.node("Concat", parts, {"axis": 0}, name=node.name)
    ir.convenience.replace_nodes_and_values(graph, node, [node], [concat], node.outputs, concat.outputs)
    return True


def _length(graph: ir.Graph, reader: ir.Node, name: str) -> ir.Value:
    """One of the lengths of a call, int64 [1], computed before `reader`, which is the first to want it."""
    value_name = f"length.{name}"
    known = next((value for node in graph for value in node.outputs if value.name == value_name), None)
    if known is not None:
        return known
    if name == PAST_ROWS:
        node = ir.node("Sub", [_length(graph, reader, ALL_ROWS), _length(graph, reader, NEW_ROWS)], name=value_name)
    else:
        owner = {NEW_ROWS: "input_ids", ALL_ROWS: "attention_mask"}[name]
        source = next(value for value in graph.inputs if value.name == owner)
        node = ir.node("Shape", [source], {"start": 1, "end": 2}, name=value_name)
    graph.insert_before(reader, node)
    [length] = node.outputs
    length.name, length.dtype, length.shape = value_name, ir.DataType.INT64, ir.Shape([1])
    return length
