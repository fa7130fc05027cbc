"""Takes the last position before the head, so that a prompt's other positions are not multiplied by the vocabulary."""

from __future__ import annotations

__all__ = ["LastLogits"]

from collections.abc import Sequence

import onnx_ir as ir

from .fusion_pass import Decline, FusionPass, attribute, integers

_LOGITS = "logits"
_HEADS = ("MatMul", "MatMulNBits")


class LastLogits(FusionPass[ir.Node]):
    """RMSNormalization(x) -> head -> logits [1, S, V] becomes RMSNormalization(Gather(x, [-1])) -> head -> [1, 1, V].

    1. The head is a MatMul or MatMulNBits of the final norm alone; nothing else reads that norm.
    2. A graph with logits of one position, by shape or by a Gather of its own, is left as it is.
    """

    def is_candidate(self, node: ir.Node) -> bool:
        """What makes logits of more than one position."""
        made = next((value for value in node.outputs if value.name == _LOGITS and value.is_graph_output()), None)
        return made is not None and (made.shape is None or len(made.shape) != 3 or made.shape[1] != 1)

    def match(self, model: ir.Model, node: ir.Node) -> ir.Node:
        """The final norm; raises `Decline`."""
        normed = node.inputs[0] if node.op_type in _HEADS else None
        norm = normed.producer() if normed is not None else None
        if normed is None or norm is None or norm.op_type != "RMSNormalization" or len(normed.consumers()) != 1:
            raise Decline("no head after a final norm makes the logits", node.op_type)
        above = norm.inputs[0].producer() if norm.inputs[0] is not None else None
        if above is not None and above.op_type == "Gather" and attribute(above, "axis", 0) == 1:
            raise Decline("positions are gathered already", above.outputs[0].name)
        return norm

    def rewrite(self, model: ir.Model, matches: Sequence[tuple[ir.Node, ir.Node]]) -> None:
        """Inserts the Gather."""
        for head, norm in matches:
            last = ir.node("Gather", [norm.inputs[0], integers(model.graph, [-1])], {"axis": 1}, name="last_position")
            model.graph.insert_before(norm, last)
            norm.replace_input_with(0, last.outputs[0])
            for value in (*last.outputs, *norm.outputs, *head.outputs):
                source = value.shape or (norm.inputs[0] or value).shape
                value.shape = ir.Shape([1, 1, source[-1]]) if source is not None else None
