"""A fused graph for one token a call: the decode half of a model that is split in two."""

from __future__ import annotations

__all__ = ["SpecialiseDecode"]

import onnx_ir as ir
from onnx_ir.passes import common

from .declare_operators import DeclareOperators
from .opset import DOMAIN


class SpecialiseDecode(ir.passes.FunctionalPass):
    """FlowQKV -> FlowKV, S = 1; the weights are the same tensors under the same names.

    1. The given model is not changed; a copy is returned.
    2. The length of input_ids becomes 1 in every shape where its symbol occurs.
    3. A graph without FlowQKV is returned as a copy with S = 1, whatever it holds.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Runs the pass."""
        decode = model.clone()
        graph = decode.graph
        ids = next((value for value in graph.inputs if value.name == "input_ids"), None)
        if ids is None or ids.shape is None or len(ids.shape) != 2:
            found = ", ".join(str(value.name) for value in graph.inputs)
            raise ValueError(f"specialise_decode: the model has no input_ids of two axes among {found}")
        sequence = ids.shape[1]
        for value in (*graph.inputs, *graph.outputs, *(value for node in graph for value in node.outputs)):
            if value.shape is not None and isinstance(sequence, ir.SymbolicDim):
                value.shape = ir.Shape([1 if dim == sequence else dim for dim in value.shape])
        for node in graph:
            if (node.domain, node.op_type) == (DOMAIN, "FlowQKV"):
                node.op_type = "FlowKV"
        common.RemoveUnusedFunctionsPass()(decode)  # type: ignore[no-untyped-call]
        DeclareOperators()(decode)
        return ir.passes.PassResult(decode, True)
