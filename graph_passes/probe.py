"""Runs a small part of a graph on made-up calls: what a mask or a rotation does is asked of it, not guessed.

Exporters spell positions and masks in many ways. All of them are functions of the lengths of a call alone, so a few
calls with known lengths tell the window, the RoPE base and the position arithmetic for certain. In the same way a part
between two values, such as what repeats keys for their query heads, is asked what it does to known numbers.
"""

from __future__ import annotations

__all__ = ["Probe"]

import dataclasses
from collections.abc import Mapping

import numpy as np
import onnx_ir as ir

from .folding import fold
from .fusion_pass import Decline

_MAX_NODES = 400  # of the part that makes a mask; a spelled-out one has under a hundred
_MAX_ELEMENTS = 1 << 27

_NOTHING: Mapping[ir.Value, np.ndarray] = {}


@dataclasses.dataclass(frozen=True)
class Probe:
    """A call of the model: `past` cached tokens, `new` tokens, all attended to."""

    graph: ir.Graph
    past: int
    new: int

    def evaluate(self, *values: ir.Value, known: Mapping[ir.Value, np.ndarray] = _NOTHING) -> list[np.ndarray]:
        """The arrays that `values` have in this call, given those in `known`.

        Raises:
            Decline: they depend on more than `known` and the lengths of the call, or cannot be computed here.
        """
        feeds = self._feeds(values, known)
        part = ir.convenience.extract(self.graph, list(feeds), values)
        for value, array in zip(list(part.inputs), feeds.values(), strict=True):
            value.const_value = ir.Tensor(array, name=value.name)
            value.shape = ir.Shape(array.shape)
            part.register_initializer(value)
        part.inputs.clear()
        try:
            fold(ir.Model(part, ir_version=10), _MAX_ELEMENTS)
        except RuntimeError as error:
            raise Decline("this part of the graph cannot be evaluated", error) from error
        arrays = []
        for value, output in zip(values, part.outputs, strict=True):
            tensor = ir.convenience.get_const_tensor(output)
            if tensor is None:
                raise Decline("this part of the graph cannot be evaluated", value.name)
            arrays.append(tensor.numpy())
        return arrays

    def input_shape(self, value: ir.Value) -> list[int]:
        """The shape of one of the model's inputs in this call."""
        if value.name == "input_ids":
            return [1, self.new]
        if value.name == "attention_mask":
            return [1, self.past + self.new]
        return [dim if isinstance(dim, int) else self.past for dim in value.shape or ()]

    def _feeds(self, values: tuple[ir.Value, ...], known: Mapping[ir.Value, np.ndarray]) -> dict[ir.Value, np.ndarray]:
        """What the part that makes `values` is fed with; declines a part that is not made of lengths alone."""
        feeds: dict[ir.Value, np.ndarray] = {}
        seen: set[ir.Node] = set()
        stack = list(values)
        while stack:
            value = stack.pop()
            node = value.producer()
            if value in known:
                feeds[value] = known[value]
            elif value.is_graph_input():
                feeds[value] = self._feed(value)
            elif node is not None and node not in seen:
                seen.add(node)
                if len(seen) > _MAX_NODES or _runs_weights(node):
                    raise Decline("depends on more than the lengths of the call", f"{values[0].name} on {node.name}")
                for operand in node.inputs:
                    if operand is not None and operand.name == "input_ids" and node.op_type != "Shape":
                        raise Decline("depends on the tokens, not on their number alone", node.name)
                    stack += [operand] if operand is not None else []
        return feeds

    def _feed(self, value: ir.Value) -> np.ndarray:
        shape = self.input_shape(value)
        dtype = value.dtype.numpy() if value.dtype is not None else np.float32
        # The others take no memory: only their shapes can matter.
        return np.ones(shape, dtype) if value.name == "attention_mask" else np.broadcast_to(np.zeros((), dtype), shape)


def _runs_weights(node: ir.Node) -> bool:
    """Whether a node is a projection or an attention: nothing that a call's lengths alone decide."""
    if (node.domain, node.op_type) == ("", "MatMul"):
        return any(x is not None and x.is_initializer() and len(x.shape or ()) == 2 for x in node.inputs)
    return node.op_type in ("Attention", "GroupQueryAttention", "MatMulNBits")
