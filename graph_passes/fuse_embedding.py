"""The embedding, Gather and scale, becomes EmbedNBits over Q4NX blocks: the head's own where the model is tied."""

from __future__ import annotations

__all__ = ["FuseEmbedding", "embedding_scale"]

import dataclasses
from collections.abc import Sequence

import onnx_ir as ir

from .fusion_pass import Decline, FusionPass, attribute, constant
from .opset import DOMAIN
from .q4nx import GROUP_SIZE
from .quantize_matmul import FLOATS, Quantizer, matrix_shape, quantized_blocks, round_to_nearest


@dataclasses.dataclass(frozen=True)
class _Match:
    ids: ir.Value
    table: ir.Value  # the float initializer
    transposed: bool  # it is [H, V]
    V: int
    H: int
    scale: float
    result: ir.Value


class FuseEmbedding(FusionPass[_Match]):
    """Mul(Gather(table, ids), scale) -> EmbedNBits(ids, blocks).

    1. The Gather is over rows of a float initializer [V, H], or [H, V] behind a Transpose, by ids of the graph's
       interface [1, S]. H is a multiple of 32.
    2. The blocks are the head's own where the head reads that very initializer (`quantize_matmul` has run, and
       `tie_head` for copies); else they are blocks of the table's own, of `head_bits` too.
    3. The Mul by a constant scalar is taken in, as the graph has it; without one the scale is 1.
    """

    candidate = "Gather"

    def __init__(self, head_bits: int = 4, quantizer: Quantizer = round_to_nearest) -> None:
        self.head_bits, self.quantizer = head_bits, quantizer

    def is_candidate(self, node: ir.Node) -> bool:
        """A Gather of rows of a weight."""
        return super().is_candidate(node) and node.inputs[0] is not None and weight_of(node.inputs[0]) is not None

    def match(self, model: ir.Model, node: ir.Node) -> _Match:
        """Reads one Gather; raises `Decline`."""
        gathered, ids = node.inputs
        if gathered is None or ids is None or attribute(node, "axis", 0) != 0:
            raise Decline("not a gather of rows", attribute(node, "axis", 0))
        table, transposed = weight_of(gathered) or (gathered, False)
        if table.const_value is None or len(table.const_value.shape) != 2:
            raise Decline("not a gather of rows of a weight", table.name)
        if not ids.is_graph_input() or ids.dtype != ir.DataType.INT64:
            raise Decline("ids are not an int64 input of the model", ids.name)
        if table.const_value.dtype not in FLOATS:
            raise Decline("the table is not float", table.const_value.dtype)
        V, H = matrix_shape(table.const_value, transposed)
        if H % GROUP_SIZE:
            raise Decline("the table's width is not a multiple of 32", H)
        scale, result = embedding_scale(node.outputs[0])
        return _Match(ids, table, transposed, V, H, scale, result)

    def rewrite(self, model: ir.Model, matches: Sequence[tuple[ir.Node, _Match]]) -> None:
        """Replaces the nodes."""
        for node, match in matches:
            blocks = quantized_blocks(model.graph, match.table, match.transposed, self.head_bits, self.quantizer)
            attributes = {"K": match.H, "N": match.V, "bits": self.head_bits, "scale": match.scale}
            fused = ir.node("EmbedNBits", [match.ids, blocks], attributes, domain=DOMAIN, name=node.name)
            ir.convenience.replace_nodes_and_values(model.graph, node, [], [fused], [match.result], fused.outputs)


def weight_of(value: ir.Value) -> tuple[ir.Value, bool] | None:
    """The initializer that a value is, or is the Transpose of, and which of the two; None for other values."""
    node = value.producer()
    if node is not None and node.op_type == "Transpose" and tuple(attribute(node, "perm", (1, 0))) == (1, 0):
        source = node.inputs[0]
        return (source, True) if source is not None and source.is_initializer() else None
    return (value, False) if value.is_initializer() else None


def embedding_scale(rows: ir.Value) -> tuple[float, ir.Value]:
    """The scalar that the gathered rows are multiplied by, and the product."""
    consumers = rows.consumers()
    if len(consumers) == 1 and (consumers[0].domain, consumers[0].op_type) == ("", "Mul"):
        [other] = [value for value in consumers[0].inputs if value is not rows] or [None]
        scale = constant(other)
        if scale is not None and scale.size == 1:
            return float(scale.reshape(())), consumers[0].outputs[0]
    return 1.0, rows
