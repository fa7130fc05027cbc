"""Bodies of our operators: model-local ONNX functions in standard opset 23.

They make a fused model run on any ONNX runtime, slowly and with the same numbers, and are the oracle of every kernel.
"""

from __future__ import annotations

__all__ = ["function_bodies"]

import onnx_ir as ir

from ..opset import DOMAIN, VERSION
from .bfloat16 import Bfloat16
from .embed_nbits import EmbedNBits
from .flow_attention import FlowQKV
from .matmul_nbits import MatMulNBits


def function_bodies() -> dict[str, ir.Function]:
    """A new `ir.Function` for each operator of the domain, and for what they call, by name."""
    bodies = {
        script.name: ir.from_proto(script.to_function_proto())
        for script in (Bfloat16, EmbedNBits, FlowQKV, MatMulNBits)
    }
    flow_kv = ir.from_proto(FlowQKV.to_function_proto())
    flow_kv.name = "FlowKV"
    bodies[flow_kv.name] = flow_kv
    for body in bodies.values():
        body.opset_imports[DOMAIN] = VERSION
    return bodies
