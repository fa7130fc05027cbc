"""Models that the pass tests share: the tiny export, its twin on dequantised weights, one-operator models."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import onnxruntime as ort

from onnxruntime_ep_ryzen_npu_gemma.graph_passes import q4nx
from onnxruntime_ep_ryzen_npu_gemma.graph_passes.declare_operators import DeclareOperators
from onnxruntime_ep_ryzen_npu_gemma.graph_passes.opset import DOMAIN
from onnxruntime_ep_ryzen_npu_gemma.models.gemma3_text import Logits, export
from onnxruntime_ep_ryzen_npu_gemma.sources import Source, open_source


class DequantizedSource:
    """A source whose matrices are what their Q4NX blocks stand for: what a fused model computes with."""

    def __init__(self, source: Source, head_bits: int = 4) -> None:
        self._source = source
        self._head_bits = head_bits

    def __getattr__(self, name: str) -> Any:
        return getattr(self._source, name)

    def tensor(self, name: str) -> np.ndarray:
        w = self._source.tensor(name)
        if w.ndim != 2:
            return w
        bits = self._head_bits if name == "model.embed_tokens.weight" else 4
        return q4nx.dequantize(q4nx.quantize_rtn(w, bits), *w.shape)


def exported(path: Path, logits: Logits = "all") -> ir.Model:
    return export(open_source(path), logits)


def dequantized(path: Path, head_bits: int = 4) -> ir.Model:
    """The standard graph of the weights that a fused model has."""
    return export(DequantizedSource(open_source(path), head_bits), "all")


def one_operator(op_type: str, inputs: dict[str, ir.Value], outputs: list[ir.Value], **attributes: Any) -> ir.Model:
    """A model of one node of our domain; inputs that have a value are initializers."""
    node = ir.node(op_type, list(inputs.values()), attributes, domain=DOMAIN, outputs=outputs)
    graph = ir.Graph(
        [value for value in inputs.values() if value.const_value is None],
        outputs,
        nodes=[node],
        initializers=[value for value in inputs.values() if value.const_value is not None],
        opset_imports={"": 23},
        name=op_type,
    )
    model = ir.Model(graph, ir_version=10)
    DeclareOperators()(model)
    return model


def session(model: ir.Model) -> ort.InferenceSession:
    return ort.InferenceSession(ir.to_proto(model).SerializeToString(), providers=["CPUExecutionProvider"])


def nodes(model: ir.Model, op_type: str) -> list[ir.Node]:
    return [node for node in model.graph if node.op_type == op_type]


def written(text: str, changes: Mapping[str, str] = {}, **weights: np.ndarray) -> ir.Model:
    """A model in ONNX's text form, after replacements in it; weights are the initializers that it does not declare."""
    for old, new in changes.items():
        assert old in text, old
        text = text.replace(old, new)
    model = ir.from_onnx_text(text, initializers=[ir.tensor(array, name=name) for name, array in weights.items()])
    for value in model.graph.initializers.values():
        value.shape, value.dtype = ir.Shape(value.const_value.shape), value.const_value.dtype
    return model
