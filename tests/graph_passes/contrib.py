"""Graphs with com.microsoft's operators for the tests of their passes: parts of a node or two, and how to run them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir
import onnxruntime as ort

from onnxruntime_ep_ryzen_npu_gemma.graph_passes.fusion_pass import FusionPass, FusionResult
from tests.exporters import fixtures

CONTRIB = "com.microsoft"


def graph(
    nodes: Sequence[ir.Node], inputs: Sequence[ir.Value], outputs: Sequence[ir.Value], weights: Mapping[str, ir.Value]
) -> ir.Model:
    """A model of `nodes`; the weights are its initializers."""
    made = ir.Graph(
        list(inputs),
        list(outputs),
        nodes=list(nodes),
        initializers=list(weights.values()),
        opset_imports={"": 23, CONTRIB: 1},
        name="g",
    )
    return ir.Model(made, ir_version=10)


def weight(name: str, array: np.ndarray) -> ir.Value:
    return ir.val(name, const_value=ir.tensor(array, name=name))


def floats(name: str, *dims: int | str) -> ir.Value:
    return ir.val(name, ir.DataType.FLOAT, list(dims))


def exported(name: str) -> ir.Model:
    """A fixture of tests/exporters, as its exporter made it."""
    return ir.from_proto(fixtures.load(name))


def run(model: ir.Model, feeds: Mapping[str, np.ndarray]) -> list[np.ndarray]:
    """The outputs on onnxruntime's CPU EP."""
    session = ort.InferenceSession(ir.to_proto(model).SerializeToString(), providers=["CPUExecutionProvider"])
    return [np.asarray(array) for array in session.run(None, dict(feeds))]


def apply(one: FusionPass[Any], model: ir.Model) -> FusionResult:
    result = one(model)
    assert isinstance(result, FusionResult)
    return result


def changes_nothing(one: ir.passes.PassBase, model: ir.Model) -> bool:
    """Whether a run of a pass says that it changed nothing, and did not."""
    before = ir.to_proto(model).SerializeToString(deterministic=True)
    return not one(model).modified and ir.to_proto(model).SerializeToString(deterministic=True) == before
