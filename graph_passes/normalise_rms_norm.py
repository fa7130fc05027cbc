"""RMSNorm, spelled out or by another name, becomes RMSNormalization.

x -> x^2 -> ReduceMean -> Add eps -> Sqrt -> 1 / . -> Mul x -> Mul w
"""

from __future__ import annotations

__all__ = ["NormaliseRmsNorm"]

import dataclasses
from collections.abc import Sequence

import onnx_ir as ir

from .fusion_pass import Decline, FusionPass, attribute, consumer, other, scalar

_SIMPLIFIED = "SimplifiedLayerNormalization"
_DEFAULT_EPSILON = 1e-5  # of SimplifiedLayerNormalization and of RMSNormalization


@dataclasses.dataclass(frozen=True)
class _Match:
    x: ir.Value
    weight: ir.Value
    eps: float
    result: ir.Value


class NormaliseRmsNorm(FusionPass[_Match]):
    """ReduceMean of squares and what follows, or SimplifiedLayerNormalization -> RMSNormalization(x, w).

    1. Squares are Pow(x, 2) or Mul(x, x); their mean is over the last axis, kept.
    2. Epsilon is a constant added to the mean, under the root: Sqrt and then Reciprocal, Div(1, .) or Div(x, .); or Pow
       by -0.5. An epsilon elsewhere is another function.
    3. The result is multiplied by a weight of the last axis's size, before anything else reads it.
    4. SimplifiedLayerNormalization, of the standard domain or com.microsoft, has only its first output used.
    """

    def is_candidate(self, node: ir.Node) -> bool:
        """The mean of a norm, or a norm by another name."""
        if node.op_type == _SIMPLIFIED:
            return node.domain in ("", "com.microsoft")
        return (node.domain, node.op_type) == ("", "ReduceMean")

    def match(self, model: ir.Model, node: ir.Node) -> _Match:
        """Reads one norm; raises `Decline`."""
        return _simplified(node) if node.op_type == _SIMPLIFIED else _spelled(node)

    def rewrite(self, model: ir.Model, matches: Sequence[tuple[ir.Node, _Match]]) -> None:
        """Replaces the nodes."""
        renamed: dict[ir.Value, ir.Value] = {}  # a norm may read another one's result
        for _, match in matches:
            last = match.result.producer()
            assert last is not None
            norm = ir.node(
                "RMSNormalization",
                [renamed.get(match.x, match.x), match.weight],
                {"axis": -1, "epsilon": match.eps},
                name=last.name,
            )
            ir.convenience.replace_nodes_and_values(model.graph, last, [], [norm], [match.result], norm.outputs)
            renamed[match.result] = norm.outputs[0]


def _simplified(node: ir.Node) -> _Match:
    x, weight = (*node.inputs, None)[:2]
    if x is None or weight is None:
        raise Decline("norm without a weight")
    axis = attribute(node, "axis", -1)
    if axis != -1 and axis != len(x.shape or ()) - 1:
        raise Decline("norm is not over the last axis", axis)
    if any(value.uses() or value.is_graph_output() for value in node.outputs[1:]):
        raise Decline("norm's deviation is read", node.outputs[1].name)
    return _Match(x, weight, float(attribute(node, "epsilon", _DEFAULT_EPSILON)), node.outputs[0])


def _spelled(mean: ir.Node) -> _Match:
    x = _squared(mean.inputs[0])
    axes = attribute(mean, "axes", ())
    if len(mean.inputs) > 1 and mean.inputs[1] is not None:
        tensor = ir.convenience.get_const_tensor(mean.inputs[1])
        axes = () if tensor is None else tensor.numpy().reshape(-1).tolist()
    if tuple(axes) not in ((-1,), (len(x.shape or ()) - 1,)) or attribute(mean, "keepdims", 1) != 1:
        raise Decline("norm is not over the last axis", f"axes {list(axes)}")
    add = consumer(mean.outputs[0], ("Add",), "no epsilon under the root")
    eps = scalar(other(add, mean.outputs[0]))
    if eps is None or not 0 <= eps < 1:
        raise Decline("epsilon is not a small constant", eps)
    normed = _divided(x, add.outputs[0])
    scaled = consumer(normed, ("Mul",), "norm without a weight")
    weight = other(scaled, normed)
    if weight is None or weight.const_value is None or len(weight.const_value.shape) != 1:
        raise Decline("norm without a weight", weight)
    width = x.shape[-1] if x.shape is not None else None
    if width != weight.const_value.shape[0]:
        raise Decline("norm's weight is not of the last axis's size", f"{weight.const_value.shape}, {width}")
    return _Match(x, weight, eps, scaled.outputs[0])


def _squared(square: ir.Value | None) -> ir.Value:
    """What is squared."""
    node = square.producer() if square is not None else None
    x = node.inputs[0] if node is not None and node.inputs else None
    if node is not None and x is not None:
        if node.op_type == "Pow" and scalar(node.inputs[1]) == 2:
            return x
        if node.op_type == "Mul" and node.inputs[1] is x:
            return x
    raise Decline("not a mean of squares", square.name if square is not None else "")


def _divided(x: ir.Value, variance: ir.Value) -> ir.Value:
    """The value x / root(variance)."""
    root = consumer(variance, ("Sqrt", "Pow"), "no root of the mean of squares")
    inverse = root
    if root.op_type == "Pow":
        if scalar(root.inputs[1]) != -0.5:
            raise Decline("no root of the mean of squares", f"power {scalar(root.inputs[1])}")
    else:
        inverse = consumer(root.outputs[0], ("Reciprocal", "Div"), "x is not divided by the root")
        if inverse.op_type == "Div" and inverse.inputs[0] is x:
            return inverse.outputs[0]
        if inverse.op_type == "Div" and (scalar(inverse.inputs[0]) != 1 or inverse.inputs[1] is not root.outputs[0]):
            raise Decline("x is not divided by the root", inverse.outputs[0].name)
    product = consumer(inverse.outputs[0], ("Mul",), "x is not divided by the root")
    if other(product, inverse.outputs[0]) is not x:
        raise Decline("x is not divided by the root", product.outputs[0].name)
    return product.outputs[0]
