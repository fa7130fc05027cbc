"""Computes what is constant and small, so that later passes see numbers: 1 + w of a norm, casts of scalars."""

from __future__ import annotations

__all__ = ["MAX_ELEMENTS", "FoldConstants", "reads_weights"]

import onnx_ir as ir
from onnx_ir.passes import common
from onnxscript import optimizer

from .opset import DOMAIN

MAX_ELEMENTS = 1 << 14  # of an operand or a result: a norm's weight is below, a projection's far above


class FoldConstants(ir.passes.InPlacePass):
    """Folds small constants.

    1. A node whose operands are all constant and small becomes a constant; weights are neither read nor made.
    2. Constants are initializers, not nodes. Casts to the same type, and nodes that nothing reads, are gone.
    3. A fused graph, which has nodes of our domain, is left alone.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Runs the pass."""
        if any(node.domain == DOMAIN for node in model.graph):
            return ir.passes.PassResult(model, False)
        folded = optimizer.fold_constants(
            model,
            input_size_limit=MAX_ELEMENTS,
            output_size_limit=MAX_ELEMENTS,
            should_fold=lambda node: False if reads_weights(node) else None,
        )
        modified = folded.modified
        for one in (
            common.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0),
            common.IdentityEliminationPass(),
            common.RemoveUnusedNodesPass(),
        ):
            modified |= one(model).modified
        return ir.passes.PassResult(model, modified)


def reads_weights(node: ir.Node) -> bool:
    """Whether an operand is too large to be anything but a weight; a Transpose of one would be folded otherwise."""
    tensors = (value.const_value for value in node.inputs if value is not None)
    return any(tensor is not None and tensor.size > MAX_ELEMENTS for tensor in tensors)
