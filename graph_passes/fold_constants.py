"""Computes what is constant and small, so that later passes see numbers: 1 + w of a norm, casts of scalars."""

from __future__ import annotations

__all__ = ["FoldConstants"]

import onnx_ir as ir
from onnx_ir.passes import common

from .folding import fold
from .opset import DOMAIN

_MAX_ELEMENTS = 1 << 14  # of an operand or a result: a norm's weight is below, a projection's far above


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
        modified = fold(model, _MAX_ELEMENTS)
        for one in (
            common.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0),
            common.IdentityEliminationPass(),
            common.RemoveUnusedNodesPass(),
        ):
            modified |= one(model).modified
        return ir.passes.PassResult(model, modified)
