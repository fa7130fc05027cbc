"""What the graph passes make of an exported graph, node by node: the side of `explain` that needs no session."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import onnx_ir as ir

from .exported_model import find_graph
from .graph_passes import fuse
from .graph_passes.opset import DOMAIN
from .sources.onnx_graph import check_graph, open_graph

__all__ = ["FusedNode", "fused_nodes"]


@dataclasses.dataclass(frozen=True)
class FusedNode:
    """One node of the graph after the passes.

    Attributes:
        decision: "fused" into an operator of ours, "declined" by a pass that looked at it, or "kept" as it is.
        reason: of a decline, with the pass that gives it.
        value: what was found that caused it.
        macs_per_token: multiply-adds of its product with weights for one token; 0 for all else.
    """

    op: str
    name: str
    decision: str
    reason: str
    value: str
    macs_per_token: int


def fused_nodes(path: Path) -> list[FusedNode]:
    """Runs the passes on an exported graph, in memory; weights are not read.

    Args:
        path: an .onnx file, or a folder with one.

    Raises:
        SourceError: the graph is missing, damaged, or reaches outside its folder.
    """
    graph_path = find_graph(path)
    check_graph(graph_path)
    model = open_graph(graph_path)
    declined = {decline.node: decline for decline in fuse(model).declines}
    nodes = []
    for node in model.graph:
        op = f"{node.domain}::{node.op_type}" if node.domain else node.op_type
        name = node.name or (node.outputs[0].name or "")
        decline = declined.get(name)
        if node.domain == DOMAIN:
            nodes.append(FusedNode(op, name, "fused", "", "", _macs(node)))
        elif decline is not None and decline.op_type == node.op_type:
            reason = f"{decline.pass_name}: {decline.reason}"
            nodes.append(FusedNode(op, name, "declined", reason, decline.value, _macs(node)))
        else:
            nodes.append(FusedNode(op, name, "kept", "", "", _macs(node)))
    return nodes


def _macs(node: ir.Node) -> int:
    if node.op_type == "MatMulNBits":
        return int(node.attributes["N"].as_int() * node.attributes["K"].as_int())
    weights = node.inputs[1] if node.op_type == "MatMul" else None
    if weights is None or not weights.is_initializer() or weights.shape is None or not weights.shape.is_static():
        return 0
    shape = weights.shape.numpy()
    return shape[0] * shape[1] if len(shape) == 2 else 0
