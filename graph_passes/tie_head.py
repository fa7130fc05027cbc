"""A head that is a copy of the embedding, as several exporters write it, reads the embedding instead."""

from __future__ import annotations

__all__ = ["TieHead"]

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from .fusion_pass import Decline, FusionPass, attribute
from .lazy_weights import Widened

_SLAB_ELEMENTS = 1 << 20  # of each matrix, compared at a time


class TieHead(FusionPass[ir.Value]):
    """MatMul(x, copy [H, V]) -> MatMul(x, Transpose(table [V, H])).

    1. The MatMul makes an output of the model, and its weights are an initializer; one that reads the table itself is
       tied already and no candidate.
    2. A Gather reads rows of an initializer of the transposed shape.
    3. Both hold the same numbers, which is looked at slab by slab. A head of its own stays.
    """

    candidate = "MatMul"

    def is_candidate(self, node: ir.Node) -> bool:
        """A head with weights that no Gather reads."""
        weights = node.inputs[1] if super().is_candidate(node) else None
        return (
            weights is not None
            and weights.is_initializer()
            and node.outputs[0].is_graph_output()
            and all(user.op_type == "MatMul" for user in weights.consumers())
        )

    def match(self, model: ir.Model, node: ir.Node) -> ir.Value:
        """The table; raises `Decline`."""
        copy = node.inputs[1]
        assert copy is not None and copy.const_value is not None
        tables = [gather.inputs[0] for gather in model.graph if _gathers_rows(gather)]
        same = [
            x
            for x in tables
            if x is not None and x.shape is not None and x.shape == ir.Shape([*copy.const_value.shape][::-1])
        ]
        if not same:
            shapes = ", ".join(str(x.shape) for x in tables if x is not None)
            raise Decline("no embedding has the head's shape", f"{copy.const_value.shape}: {shapes}")
        table = same[0]
        assert table.const_value is not None
        row = _first_difference(table.const_value, copy.const_value)
        if row is not None:
            raise Decline("the head has weights of its own", f"{copy.name}: token {row}")
        return table

    def rewrite(self, model: ir.Model, matches: Sequence[tuple[ir.Node, ir.Value]]) -> None:
        """Replaces the weights; the copy goes with the clean-up."""
        for node, table in matches:
            transpose = ir.node("Transpose", [table], {"perm": (1, 0)}, name=f"{node.name}.tied")
            model.graph.insert_before(node, transpose)
            node.replace_input_with(1, transpose.outputs[0])


def _gathers_rows(node: ir.Node) -> bool:
    table = node.inputs[0] if (node.domain, node.op_type) == ("", "Gather") else None
    return table is not None and table.is_initializer() and attribute(node, "axis", 0) == 0


def _first_difference(table_VH: ir.TensorProtocol, copy_HV: ir.TensorProtocol) -> int | None:
    """The first token whose weights differ; None if there is none."""
    if isinstance(table_VH, Widened) and isinstance(copy_HV, Widened):
        table_VH, copy_HV = table_VH.narrow, copy_HV.narrow
    if table_VH.dtype != copy_HV.dtype:
        return 0
    rows = int(table_VH.shape.numpy()[0])
    step = max(1, _SLAB_ELEMENTS * rows // table_VH.size)
    for first in range(0, rows, step):
        slab = slice(first, first + step)
        same = (table_VH.numpy()[slab] == copy_HV.numpy()[:, slab].T).all(axis=1)
        for tensor in (table_VH, copy_HV):
            if isinstance(tensor, ir.ExternalTensor):
                tensor.release()  # mapped pages count as this process's memory
        if not same.all():
            return first + int(np.argmin(same))
    return None
