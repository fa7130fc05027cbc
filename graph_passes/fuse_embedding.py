"""The embedding of a tied model is read out of the head's own Q4NX blocks: Gather and scale become EmbedNBits."""

from __future__ import annotations

__all__ = ["FuseEmbedding", "embedding_scale"]

import dataclasses
from collections.abc import Sequence

import onnx_ir as ir

from .fusion_pass import Decline, FusionPass, attribute, constant
from .opset import DOMAIN
from .quantize_matmul import QuantizedWeights


@dataclasses.dataclass(frozen=True)
class _Match:
    ids: ir.Value
    head: ir.Node  # the MatMulNBits
    scale: float
    result: ir.Value


class FuseEmbedding(FusionPass[_Match]):
    """Mul(Gather(table, ids), scale) -> EmbedNBits(ids, blocks of the head).

    1. The Gather is over rows of a [V, H] initializer, by ids of the graph's interface [1, S].
    2. A MatMulNBits holds the blocks of that very initializer (`quantize_matmul` has run).
    3. The Mul by a constant scalar is taken in; without one the scale is 1.
    """

    candidate = "Gather"

    def is_candidate(self, node: ir.Node) -> bool:
        """A Gather of rows of a weight."""
        return super().is_candidate(node) and node.inputs[0] is not None and node.inputs[0].is_initializer()

    def match(self, model: ir.Model, node: ir.Node) -> _Match:
        """Reads one Gather; raises `Decline`."""
        table, ids = node.inputs
        if table is None or ids is None or attribute(node, "axis", 0) != 0:
            raise Decline("not a gather of rows", attribute(node, "axis", 0))
        if table.const_value is None or len(table.const_value.shape) != 2:
            raise Decline("not a gather of rows of a weight", table.name)
        if not ids.is_graph_input() or ids.dtype != ir.DataType.INT64:
            raise Decline("ids are not an int64 input of the model", ids.name)
        head = _head(model.graph, table)
        scale, result = embedding_scale(node.outputs[0])
        return _Match(ids, head, scale, result)

    def rewrite(self, model: ir.Model, matches: Sequence[tuple[ir.Node, _Match]]) -> None:
        """Replaces the nodes."""
        for node, match in matches:
            attributes = {name: match.head.attributes[name].value for name in ("K", "N", "bits")}
            fused = ir.node(
                "EmbedNBits",
                [match.ids, match.head.inputs[1]],
                {**attributes, "scale": match.scale},
                domain=DOMAIN,
                name=node.name,
            )
            ir.convenience.replace_nodes_and_values(model.graph, node, [], [fused], [match.result], fused.outputs)


def _head(graph: ir.Graph, table: ir.Value) -> ir.Node:
    for node in graph:
        if (node.domain, node.op_type) == (DOMAIN, "MatMulNBits"):
            blocks = node.inputs[1].const_value if node.inputs[1] is not None else None
            if isinstance(blocks, QuantizedWeights) and blocks.source is table.const_value and not blocks.transposed:
                return node
    raise Decline("the table is not the head's weight", table.name)


def embedding_scale(rows: ir.Value) -> tuple[float, ir.Value]:
    """The scalar that the gathered rows are multiplied by, and the product."""
    consumers = rows.consumers()
    if len(consumers) == 1 and (consumers[0].domain, consumers[0].op_type) == ("", "Mul"):
        [other] = [value for value in consumers[0].inputs if value is not rows] or [None]
        scale = constant(other)
        if scale is not None and scale.size == 1:
            return float(scale.reshape(())), consumers[0].outputs[0]
    return 1.0, rows
