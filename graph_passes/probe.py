"""Runs a small part of a graph on made-up calls: what a mask or a rotation does is asked of it, not guessed.

Exporters spell positions and masks in many ways. All of them are functions of the lengths of a call alone, so a few
calls with known lengths tell the window, the RoPE base and the position arithmetic for certain.
"""

from __future__ import annotations

__all__ = ["Probe"]

import dataclasses

import numpy as np
import onnx_ir as ir
from onnxscript import optimizer

from .fusion_pass import Decline

_MAX_NODES = 400  # of the part that makes a mask; a spelled-out one has under a hundred
_MAX_ELEMENTS = 1 << 27


@dataclasses.dataclass(frozen=True)
class Probe:
    """A call of the model: `past` cached tokens, `new` tokens, all attended to."""

    graph: ir.Graph
    past: int
    new: int

    def evaluate(self, *values: ir.Value) -> list[np.ndarray]:
        """The arrays that `values` have in this call; declines if they depend on more than the lengths of the call."""
        for value in values:
            self._check(value)
        part = ir.convenience.extract(self.graph, self.graph.inputs, values)
        for value in list(part.inputs):
            array = self._feed(value)
            value.const_value = ir.Tensor(array, name=value.name)
            value.shape = ir.Shape(array.shape)
            part.register_initializer(value)
        part.inputs.clear()
        optimizer.fold_constants(
            ir.Model(part, ir_version=10),
            onnx_shape_inference=False,
            input_size_limit=_MAX_ELEMENTS,
            output_size_limit=_MAX_ELEMENTS,
            should_fold=lambda _: True,
        )
        arrays = []
        for value, output in zip(values, part.outputs, strict=True):
            tensor = ir.convenience.get_const_tensor(output)
            if tensor is None:
                raise Decline("this part of the graph cannot be evaluated", value.name)
            arrays.append(tensor.numpy())
        return arrays

    def _feed(self, value: ir.Value) -> np.ndarray:
        if value.name == "input_ids":
            return np.zeros((1, self.new), np.int64)
        if value.name == "attention_mask":
            return np.ones((1, self.past + self.new), np.int64)
        shape = [dim if isinstance(dim, int) else self.past for dim in value.shape or ()]
        dtype = value.dtype.numpy() if value.dtype is not None else np.float32
        return np.broadcast_to(np.zeros((), dtype), shape)  # takes no memory: only its shape can matter

    def _check(self, value: ir.Value) -> None:
        """Declines a part that is too large to be made of lengths alone."""
        seen: set[ir.Node] = set()
        stack = [value]
        while stack:
            node = stack.pop().producer()
            if node is None or node in seen:
                continue
            seen.add(node)
            if len(seen) > _MAX_NODES or (node.domain, node.op_type) in (("", "MatMul"), ("", "Attention")):
                raise Decline("depends on more than the lengths of the call", f"{value.name} on {node.name}")
            stack += [x for x in node.inputs if x is not None]
