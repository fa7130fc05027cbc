"""One product for q, k and v, or for gate and up, becomes one product each."""

from __future__ import annotations

__all__ = ["SplitPackedProjections"]

import dataclasses
from collections.abc import Sequence

import onnx_ir as ir

from .fusion_pass import Decline, FusionPass, attribute, constant
from .lazy_weights import Sliced

_QUANTIZED = ("com.microsoft", "MatMulNBits")
_PRODUCTS = (("", "MatMul"), _QUANTIZED)


@dataclasses.dataclass(frozen=True)
class _Match:
    sizes: tuple[int, ...]  # columns of each part of the result
    weights: dict[int, tuple[ir.Value, int, int]]  # by input: the weight, the axis that is cut, its size per column


class SplitPackedProjections(FusionPass[_Match]):
    """Split(MatMul(A, w)) -> MatMul(A, w_0), MatMul(A, w_1), ...; the same with com.microsoft's MatMulNBits.

    1. The Split is over the last axis, by known sizes, and reads all of the product; or the product is the packed q of
       a GroupQueryAttention that has neither k nor v, cut by its numbers of heads.
    2. The weights are constants of the model that no caller can override; each part of them is cut out when it is read.
    3. Quantised weights are cut by rows, with their scales and zero points; a bias or a g_idx declines.
    """

    candidate = "MatMul"

    def is_candidate(self, node: ir.Node) -> bool:
        """A product whose only reader cuts it."""
        if (node.domain, node.op_type) not in _PRODUCTS:
            return False
        readers = node.outputs[0].consumers()
        return len(readers) == 1 and (_is_split(readers[0]) or _takes_packed(readers[0], node.outputs[0]))

    def match(self, model: ir.Model, node: ir.Node) -> _Match:
        """Reads one product; raises `Decline`."""
        [reader] = node.outputs[0].consumers()
        quantized = (node.domain, node.op_type) == _QUANTIZED
        weights = [_weight(node, index) for index in range(1, len(node.inputs)) if node.inputs[index] is not None]
        if quantized and len(node.inputs) > 4:
            raise Decline("it has a g_idx or a bias", [value.name for value in node.inputs[4:] if value is not None])
        N = int(attribute(node, "N", 0)) if quantized else _dims(weights[0])[-1]
        sizes = _split_sizes(reader, N) if _is_split(reader) else _head_sizes(reader, N)
        if sum(sizes) != N or min(sizes) < 1:
            raise Decline("the parts are not the whole", f"{sizes} of {N} columns")
        parts: dict[int, tuple[ir.Value, int, int]] = {}
        for index, value in enumerate(weights, 1):
            shape = _dims(value)
            if not quantized and len(shape) != 2:
                raise Decline("weights are not a matrix", list(shape))
            axis = 0 if quantized else 1
            if shape[axis] % N:
                raise Decline("weights are not in rows of the result's columns", f"{value.name} {list(shape)}")
            parts[index] = (value, axis, shape[axis] // N)
        return _Match(tuple(sizes), parts)

    def rewrite(self, model: ir.Model, matches: Sequence[tuple[ir.Node, _Match]]) -> None:
        """Replaces the products and their Splits."""
        graph = model.graph
        for node, match in matches:
            [reader] = node.outputs[0].consumers()
            parts, start = [], 0
            for number, size in enumerate(match.sizes):
                parts.append(_part(graph, node, match, number, start, size))
                start += size
            results = [part.outputs[0] for part in parts]
            if _is_split(reader):
                ir.convenience.replace_nodes_and_values(graph, node, [reader, node], parts, reader.outputs, results)
                continue
            for part, result in zip(parts, results, strict=True):
                result.name, result.type = part.name, node.outputs[0].type
            graph.insert_after(node, parts)
            for index, result in enumerate(results):
                reader.replace_input_with(index, result)
            graph.remove(node, safe=True)


def _is_split(node: ir.Node) -> bool:
    return (node.domain, node.op_type) == ("", "Split")


def _takes_packed(node: ir.Node, value: ir.Value) -> bool:
    packed = (node.domain, node.op_type) == ("com.microsoft", "GroupQueryAttention")
    return packed and node.inputs[0] is value and node.inputs[1] is None and node.inputs[2] is None


def _weight(node: ir.Node, index: int) -> ir.Value:
    value = node.inputs[index]
    assert value is not None
    if value.is_graph_input():
        raise Decline("weights are a graph input", value.name)
    if value.const_value is None or not value.is_initializer():
        raise Decline("weights are computed", value.name)
    return value


def _dims(weight: ir.Value) -> tuple[int, ...]:
    assert weight.const_value is not None
    return tuple(weight.const_value.shape.numpy())


def _split_sizes(split: ir.Node, N: int) -> list[int]:
    rank = split.inputs[0].shape  # type: ignore[union-attr]
    axis = attribute(split, "axis", 0)
    if axis != -1 and (rank is None or axis != len(rank) - 1):
        raise Decline("the Split is not over the last axis", axis)
    if len(split.inputs) < 2 or split.inputs[1] is None:
        count = len(split.outputs)
        return [N // count] * count
    sizes = constant(split.inputs[1])
    if sizes is None:
        raise Decline("the sizes of the Split are computed", split.inputs[1].name)
    return [int(size) for size in sizes]


def _head_sizes(attention: ir.Node, N: int) -> list[int]:
    heads, kv_heads = int(attribute(attention, "num_heads", 0)), int(attribute(attention, "kv_num_heads", 0))
    total = heads + 2 * kv_heads
    if min(heads, kv_heads) < 1 or N % total:
        raise Decline("heads of q, k, v do not group", f"{heads} + 2 * {kv_heads} in {N} columns")
    return [N // total * count for count in (heads, kv_heads, kv_heads)]


def _part(graph: ir.Graph, node: ir.Node, match: _Match, number: int, start: int, size: int) -> ir.Node:
    """The product of columns [start, start + size)."""
    operands = list(node.inputs)
    for index, (value, axis, step) in match.weights.items():
        name = f"{value.name}.{number}"
        if name not in graph.initializers:
            assert value.const_value is not None
            cut = Sliced(value.const_value, axis, start * step, (start + size) * step, name)
            graph.register_initializer(ir.val(name, const_value=cut))
        operands[index] = graph.initializers[name]
    attributes = dict(node.attributes)
    if "N" in attributes:
        attributes["N"] = ir.AttrInt64("N", size)
    return ir.Node(node.domain, node.op_type, operands, attributes.values(), name=f"{node.name}.{number}")
