"""Raises a model to the opset that has RMSNormalization, RotaryEmbedding and Attention."""

from __future__ import annotations

__all__ = ["OPSET", "UpgradeOpset"]

import onnx_ir as ir
from onnxscript import version_converter

OPSET = 23
_IR_VERSION = 10
_OLDEST = 18  # the oldest that onnxscript's converter knows; before it, onnx's own is asked


class UpgradeOpset(ir.passes.InPlacePass):
    """Converts to opset 23.

    1. Older opsets are converted node by node; model-local functions are inlined by it. Opset 23 and newer stay.
    2. Afterwards the opset is 23 or newer: the passes that follow write operators of it. A graph that the converters
       cannot raise is refused.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Runs the pass."""
        opset = _opset(model)
        if opset >= OPSET:
            return ir.passes.PassResult(model, False)
        version_converter.convert_version(model, OPSET, fallback=opset < _OLDEST)
        model.ir_version = max(model.ir_version or 0, _IR_VERSION)
        return ir.passes.PassResult(model, True)

    def ensures(self, model: ir.Model) -> None:
        """Checks the opset."""
        if _opset(model) < OPSET:
            raise ir.passes.PostconditionError(
                f"the graph has opset {_opset(model)} and cannot be raised to {OPSET}; export it with opset 18 or newer"
            )


def _opset(model: ir.Model) -> int:
    return model.graph.opset_imports.get("", OPSET)
