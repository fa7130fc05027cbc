"""Raises a model to the opset that has RMSNormalization, RotaryEmbedding and Attention."""

from __future__ import annotations

__all__ = ["UpgradeOpset"]

import onnx_ir as ir
from onnxscript import version_converter

OPSET = 23
_OLDEST = 18  # the oldest that onnxscript converts from
_IR_VERSION = 10


class UpgradeOpset(ir.passes.InPlacePass):
    """Converts to opset 23.

    1. Opsets 18 to 22 are converted node by node; model-local functions are inlined by it.
    2. Opset 23 and newer stay. Older than 18 stays too: its operators are not recognised by the passes that follow.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Runs the pass."""
        if not _OLDEST <= model.graph.opset_imports.get("", 0) < OPSET:
            return ir.passes.PassResult(model, False)
        version_converter.convert_version(model, OPSET)
        model.ir_version = max(model.ir_version, _IR_VERSION)
        return ir.passes.PassResult(model, True)
