"""A float16 or bfloat16 graph becomes a float32 graph: the operators have float32 activations."""

from __future__ import annotations

__all__ = ["NormalisePrecision"]

import onnx_ir as ir

from .lazy_weights import Widened
from .opset import DOMAIN

_HALVES = (ir.DataType.FLOAT16, ir.DataType.BFLOAT16)


class NormalisePrecision(ir.passes.InPlacePass):
    """Every value in half precision becomes float32, the model's interface included.

    1. Weights stay as they are stored and are widened when they are read.
    2. A Cast to half precision becomes a Cast to float32; a Cast from float32 to float32 goes.
    3. A model that has operators of ours is left alone: half precision is the type of its cache.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Runs the pass."""
        graph = model.graph
        if any(node.domain == DOMAIN for node in graph):
            return ir.passes.PassResult(model, False)
        modified = False
        for value in (*graph.inputs, *graph.initializers.values()):
            modified |= _widen_value(value)
        owners: list[ir.Graph | ir.Function] = [graph, *model.functions.values()]
        for owner in owners:
            for node in ir.traversal.RecursiveGraphIterator(owner):
                modified |= _widen_node(node)
        modified |= _remove_casts(graph)
        return ir.passes.PassResult(model, modified)


def _widen_value(value: ir.Value) -> bool:
    tensor = value.const_value
    if tensor is not None and tensor.dtype in _HALVES:
        value.const_value = Widened(tensor)
    if value.dtype not in _HALVES:
        return False
    value.type = ir.TensorType(ir.DataType.FLOAT)
    return True


def _widen_node(node: ir.Node) -> bool:
    modified = False
    for value in node.outputs:
        modified |= _widen_value(value)
    for attr in list(node.attributes.values()):
        if attr.type == ir.AttributeType.TENSOR and attr.value.dtype in _HALVES:
            node.attributes.add(ir.AttrTensor(attr.name, Widened(attr.value)))
            modified = True
    target = node.attributes.get("to")
    if (node.domain, node.op_type) == ("", "Cast") and target is not None and target.value in _HALVES:
        node.attributes.add(ir.AttrInt64("to", ir.DataType.FLOAT))
        modified = True
    return modified


def _remove_casts(graph: ir.Graph) -> bool:
    """Takes out the Casts from float32 to float32; a result keeps the name that the caller knows."""
    modified = False
    for node in list(graph):
        if (node.domain, node.op_type) != ("", "Cast") or node.attributes["to"].value != ir.DataType.FLOAT:
            continue
        source, result = node.inputs[0], node.outputs[0]
        if source is None or source.dtype != ir.DataType.FLOAT:
            continue
        if result.is_graph_output():
            if source.is_graph_input() or source.is_graph_output():
                continue
            source.name, source.shape = result.name, result.shape
        ir.convenience.replace_all_uses_with(result, source, replace_graph_outputs=True)
        graph.remove(node, safe=True)
        modified = True
    return modified
