"""Constant folding that neither reads weights nor makes anything large, whatever a graph asks for.

onnxscript's folder evaluates a node whose operands are constant and looks at the result's size afterwards. Graphs come
from outside: here the size is bounded before, and a node that could be larger, or reads something larger, stays.
"""

from __future__ import annotations

__all__ = ["fold"]

import math
from collections.abc import Sequence

import numpy as np
import onnx_ir as ir
from onnxscript import optimizer

# Operators whose results have sizes that are not bounded here.
_UNBOUNDED = ("Col2Im", "ConvTranspose", "Loop", "OneHot", "Pad", "Resize", "Scan", "Upsample")


def fold(model: ir.Model, max_elements: int, *, infer_shapes: bool = False) -> bool:
    """Replaces nodes of constant operands by constants, in place.

    Args:
        model: its Constant nodes count as constants.
        max_elements: of every operand that is read and of every result.
        infer_shapes: also infers shape and type of each value on the way.

    Returns:
        Whether anything changed.

    Raises:
        RuntimeError: a node is malformed.
    """
    result = optimizer.fold_constants(
        model,
        onnx_shape_inference=infer_shapes,
        input_size_limit=max_elements,
        output_size_limit=max_elements,
        should_fold=lambda node: _elements(node, max_elements) <= max_elements,
    )
    return bool(result.modified)


def _elements(node: ir.Node, max_elements: int) -> float:
    """A bound of the largest operand's and the result's number of elements."""
    tensors = [tensor for value in node.inputs if value is not None and (tensor := value.const_value) is not None]
    shapes = [tuple(tensor.shape.numpy()) for tensor in tensors]
    largest = max((math.prod(shape) for shape in shapes), default=0)
    return largest if largest > max_elements else max(largest, _result(node, tensors, shapes))


def _result(node: ir.Node, tensors: Sequence[ir.TensorProtocol], shapes: Sequence[tuple[int, ...]]) -> float:
    op_type = node.op_type
    try:
        if op_type in _UNBOUNDED:
            return math.inf
        if op_type == "Range":
            start, stop, step = (float(tensor.numpy().reshape(())) for tensor in tensors)
            return max(0.0, (stop - start) / step)
        if op_type == "ConstantOfShape":
            return float(np.prod(tensors[0].numpy(), dtype=np.float64))
        if op_type == "Tile":
            return math.prod(shapes[0]) * float(np.prod(tensors[1].numpy(), dtype=np.float64))
        if op_type == "Expand":
            return math.prod(np.broadcast_shapes(shapes[0], tuple(tensors[1].numpy().tolist())))
        if op_type == "Gather":
            axis = node.attributes.get_int("axis", 0)
            return math.prod(shapes[1]) * math.prod(shapes[0]) / max(1, shapes[0][axis])
        if op_type == "GatherND":
            return math.prod(shapes[1][:-1]) * math.prod(shapes[0][shapes[1][-1] :])
        return math.prod(np.broadcast_shapes(*shapes))
    except (IndexError, ValueError, ZeroDivisionError):  # sizes that do not broadcast: they are joined at most
        return sum(math.prod(shape) for shape in shapes)
