"""Makes a model with our operators complete: their function bodies, the opset import, the format in the metadata."""

from __future__ import annotations

__all__ = ["DeclareOperators"]

import onnx_ir as ir

from .functions import function_bodies
from .opset import DOMAIN, FORMAT_KEY, FORMAT_VERSION, VERSION


class DeclareOperators(ir.passes.InPlacePass):
    """Adds what the model's `ryzen.npu.gemma` nodes need.

    1. A model-local function for each operator that occurs, and for those that the functions call; none that is there.
    2. The domain's opset import and the format version in metadata_props. A model without our operators gets neither.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Runs the pass."""
        bodies = function_bodies()
        wanted = [node.op_type for node in model.graph if node.domain == DOMAIN]
        modified = False
        while wanted:
            body = bodies.pop(wanted.pop(), None)
            if body is None or body.identifier() in model.functions:
                continue
            model.functions[body.identifier()] = body
            wanted += [node.op_type for node in ir.traversal.RecursiveGraphIterator(body) if node.domain == DOMAIN]
            modified = True
        if modified:
            model.graph.opset_imports[DOMAIN] = VERSION
            model.metadata_props[FORMAT_KEY] = FORMAT_VERSION
        return ir.passes.PassResult(model, modified)
