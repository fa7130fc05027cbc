"""com.microsoft's SkipSimplifiedLayerNormalization becomes Add and RMSNormalization."""

from __future__ import annotations

__all__ = ["NormaliseSkipNorm"]

import dataclasses
from collections.abc import Sequence

import onnx_ir as ir

from .fusion_pass import Decline, FusionPass, attribute

_NORMED, _SUM = 0, 3  # outputs; 1 and 2 are the mean and the inverse deviation


@dataclasses.dataclass(frozen=True)
class _Match:
    x: ir.Value
    weight: ir.Value
    eps: float


class NormaliseSkipNorm(FusionPass[_Match]):
    """SkipSimplifiedLayerNormalization(x, skip, weight) -> s = Add(x, skip), RMSNormalization(s, weight).

    1. The contrib operator and a model-local function of its name (mobius declares one) are the same operator.
    2. Both outputs that mean something are kept: the normed rows and, where it is read, the sum.
    3. A bias, or a reader of the mean or the inverse deviation, declines.
    """

    candidate = "SkipSimplifiedLayerNormalization"

    def is_candidate(self, node: ir.Node) -> bool:
        """A node of com.microsoft's."""
        return (node.domain, node.op_type) == ("com.microsoft", self.candidate)

    def match(self, model: ir.Model, node: ir.Node) -> _Match:
        """Reads one node; raises `Decline`."""
        x, skip, weight, bias = [*node.inputs, *[None] * 4][:4]
        if x is None or skip is None or weight is None:
            raise Decline("an input is missing", len(node.inputs))
        if bias is not None:
            raise Decline("it has a bias", bias.name)
        for statistic in node.outputs[1:_SUM]:
            if statistic.uses() or statistic.is_graph_output():
                raise Decline("a statistic of the norm is read", statistic.name)
        return _Match(x, weight, float(attribute(node, "epsilon", 1e-5)))

    def rewrite(self, model: ir.Model, matches: Sequence[tuple[ir.Node, _Match]]) -> None:
        """Replaces the nodes."""
        for node, match in matches:
            # The operands as they are now: x is the sum of the node before, which has been replaced since the match.
            add = ir.node("Add", node.inputs[:2], name=f"{node.name}.sum")
            total = add.outputs[0]
            total.name, total.type, total.shape = f"{node.name}.sum", match.x.type, match.x.shape
            attributes = {"axis": -1, "epsilon": match.eps}
            norm = ir.node("RMSNormalization", [total, match.weight], attributes, name=node.name)
            old, new = [node.outputs[_NORMED]], [norm.outputs[0]]
            if len(node.outputs) > _SUM:
                old, new = [*old, node.outputs[_SUM]], [*new, total]
                old[1].type, old[1].shape = old[1].type or total.type, old[1].shape or total.shape
                old[1].name = old[1].name or total.name
            ir.convenience.replace_nodes_and_values(model.graph, node, [node], [add, norm], old, new)
