"""The last position taken in other ways becomes Gather(x, [-1]) over axis 1."""

from __future__ import annotations

__all__ = ["NormaliseLastToken"]

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from .fusion_pass import Decline, FusionPass, attribute, constant

_ENDLESS = np.iinfo(np.int32).max  # an end that no sequence reaches; exporters write this or more
_LAST = "last_token"


class NormaliseLastToken(FusionPass[ir.Value]):
    """x [1, S, H] -> [1, 1, H], in the one form that our own export has.

    1. Unsqueeze(Gather(x, -1) over axis 1, [1]): genai's pruned head.
    2. Slice(x) from -1 to the end of axis 1, step 1.
    3. Anything else about such a Gather or Slice declines: another axis, another reader.
    """

    candidate = "Gather"

    def is_candidate(self, node: ir.Node) -> bool:
        """A Gather of the scalar -1, or a Slice from -1 on, of float values."""
        rows = node.inputs[0] if (node.domain, node.op_type) in (("", "Gather"), ("", "Slice")) else None
        if rows is None or rows.dtype != ir.DataType.FLOAT:
            return False
        index = constant(node.inputs[1])
        return index is not None and index.ndim == (node.op_type == "Slice") and index.size == 1 and index.item() == -1

    def match(self, model: ir.Model, node: ir.Node) -> ir.Value:
        """The value [1, 1, H] that the Gather will make; raises `Decline`."""
        return _sliced(node) if node.op_type == "Slice" else _gathered(node)

    def rewrite(self, model: ir.Model, matches: Sequence[tuple[ir.Node, ir.Value]]) -> None:
        """Replaces the nodes."""
        graph = model.graph
        last = graph.initializers.get(_LAST)
        if last is None:
            last = ir.val(_LAST, const_value=ir.tensor(np.array([-1], np.int64), name=_LAST))
            graph.register_initializer(last)
        for node, result in matches:
            gather = ir.node("Gather", [node.inputs[0], last], {"axis": 1}, name=node.name)
            maker = result.producer()
            old = [node] if maker is None or maker is node else [node, maker]
            ir.convenience.replace_nodes_and_values(graph, node, old, [gather], [result], gather.outputs)


def _gathered(node: ir.Node) -> ir.Value:
    if attribute(node, "axis", 0) not in (1, -2):
        raise Decline("not of the sequence axis", attribute(node, "axis", 0))
    readers = node.outputs[0].consumers()
    if len(readers) != 1 or (readers[0].domain, readers[0].op_type) != ("", "Unsqueeze"):
        raise Decline("the axis is not put back", ", ".join(reader.op_type for reader in readers))
    axes = constant(readers[0].inputs[1])
    if axes is None or axes.tolist() not in ([1], [-2]):
        raise Decline("the axis is not put back", None if axes is None else axes.tolist())
    return readers[0].outputs[0]


def _sliced(node: ir.Node) -> ir.Value:
    _, _, *rest = node.inputs
    ends, axes, steps = (constant(value) for value in [*rest, *[None] * 3][:3])
    if axes is None or axes.tolist() not in ([1], [-2]):
        raise Decline("not of the sequence axis", None if axes is None else axes.tolist())
    if ends is None or ends.size != 1 or ends.item() < _ENDLESS or (steps is not None and steps.tolist() != [1]):
        raise Decline("not the last position alone", None if ends is None else ends.tolist())
    return node.outputs[0]
