"""The head of a fused graph computes the last position only: a prompt's other logits are not asked for."""

from __future__ import annotations

__all__ = ["PruneLogits"]

import numpy as np
import onnx_ir as ir

from .opset import DOMAIN

_LAST = "last_token"


class PruneLogits(ir.passes.InPlacePass):
    """logits [1, S, V] -> [1, 1, V].

    1. The node that makes the output "logits" is our MatMulNBits, or a MatMul; its operand is cut, before the norm that
       makes it if nothing else reads that.
    2. A graph whose logits have one position is left alone, and so is one with another head.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Runs the pass."""
        graph = model.graph
        logits = next((value for value in graph.outputs if value.name == "logits"), None)
        head = logits.producer() if logits is not None else None
        if (
            logits is None
            or head is None
            or (head.domain, head.op_type) not in (("", "MatMul"), (DOMAIN, "MatMulNBits"))
        ):
            return ir.passes.PassResult(model, False)
        if logits.shape is None or len(logits.shape) != 3 or logits.shape[1] == 1:
            return ir.passes.PassResult(model, False)
        reader, rows = head, head.inputs[0]
        norm = rows.producer() if rows is not None else None
        if norm is not None and norm.op_type == "RMSNormalization" and len(norm.outputs[0].uses()) == 1:
            reader, rows = norm, norm.inputs[0]
            norm.outputs[0].shape = _one_row(norm.outputs[0])
        assert rows is not None
        if _LAST not in graph.initializers:
            last = ir.tensor(np.array([-1], np.int64), name=_LAST)
            graph.register_initializer(ir.val(_LAST, const_value=last))
        gather = ir.node("Gather", [rows, graph.initializers[_LAST]], {"axis": 1}, name=f"{rows.name}.last")
        row = gather.outputs[0]
        row.name, row.type, row.shape = f"{rows.name}.last", rows.type, _one_row(rows)
        graph.insert_before(reader, gather)
        reader.replace_input_with(0, row)
        logits.shape = _one_row(logits)
        return ir.passes.PassResult(model, True)


def _one_row(value: ir.Value) -> ir.Shape | None:
    return ir.Shape([value.shape[0], 1, value.shape[2]]) if value.shape is not None else None
