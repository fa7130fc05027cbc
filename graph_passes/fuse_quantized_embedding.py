"""An embedding that gathers out of the head's own codes becomes EmbedNBits over the head's Q4NX blocks."""

from __future__ import annotations

__all__ = ["FuseQuantizedEmbedding"]

import dataclasses
from collections.abc import Sequence

import onnx_ir as ir

from .fuse_embedding import embedding_scale
from .fusion_pass import Decline, FusionPass, attribute
from .opset import DOMAIN
from .requantise_matmul_nbits import BlockQuantized, RequantisedWeights, block_quantized


@dataclasses.dataclass(frozen=True)
class _Match:
    ids: ir.Value
    head: ir.Node  # the MatMulNBits
    scale: float
    result: ir.Value


class FuseQuantizedEmbedding(FusionPass[_Match]):
    """Mul(GatherBlockQuantized(codes, ids, scales, zeros), scale) -> EmbedNBits(ids, blocks of the head).

    1. The codes are those of a MatMulNBits that `requantise_matmul_nbits` has rewritten, as they are or behind a
       Reshape; so are scales and zero points, bits and block size.
    2. Rows are gathered, by ids of the graph's interface [1, S].
    3. The Mul by a constant scalar is taken in; without one the scale is 1.
    """

    candidate = "GatherBlockQuantized"

    def is_candidate(self, node: ir.Node) -> bool:
        """A node of com.microsoft's."""
        return (node.domain, node.op_type) == ("com.microsoft", self.candidate)

    def match(self, model: ir.Model, node: ir.Node) -> _Match:
        """Reads one gather; raises `Decline`."""
        codes, ids, scales, zeros = [*node.inputs, None][:4]
        if attribute(node, "gather_axis", 0) != 0 or attribute(node, "quantize_axis", 1) not in (1, -1):
            axes = attribute(node, "gather_axis", 0), attribute(node, "quantize_axis", 1)
            raise Decline("not a gather of rows", axes)
        if ids is None or not ids.is_graph_input() or ids.dtype != ir.DataType.INT64:
            raise Decline("ids are not an int64 input of the model", ids.name if ids is not None else "")
        reshape = codes.producer() if codes is not None else None
        if reshape is not None and (reshape.domain, reshape.op_type) == ("", "Reshape"):
            codes = reshape.inputs[0]
        bits, block_size = int(attribute(node, "bits", 4)), int(attribute(node, "block_size", 128))
        for head, source in _heads(model.graph):
            if codes is not None and source.codes is codes.const_value:
                if block_quantized(codes, scales, zeros, source.N, source.K, bits, block_size) != source:
                    raise Decline("it reads the head's codes with other scales", scales.name if scales else "")
                scale, result = embedding_scale(node.outputs[0])
                return _Match(ids, head, scale, result)
        raise Decline("the codes are not the head's", codes.name if codes is not None else "")

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


def _heads(graph: ir.Graph) -> list[tuple[ir.Node, BlockQuantized]]:
    """The products whose weights came from other codes, with those."""
    found = []
    for node in graph:
        if (node.domain, node.op_type) == (DOMAIN, "MatMulNBits") and node.inputs[1] is not None:
            blocks = node.inputs[1].const_value
            if isinstance(blocks, RequantisedWeights):
                found.append((node, blocks.source))
    return found
