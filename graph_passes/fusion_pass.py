"""What every fusion pass is: candidates, a match that may decline with a reason and a value, a rewrite."""

from __future__ import annotations

__all__ = [
    "Decline",
    "Declined",
    "FusionPass",
    "FusionResult",
    "attribute",
    "constant",
    "consumer",
    "integers",
    "other",
    "producer",
    "scalar",
]

import abc
import dataclasses
from collections.abc import Collection, Sequence
from typing import Any, Generic, TypeVar

import numpy as np
import onnx_ir as ir

Match = TypeVar("Match")


class Decline(Exception):
    """Raised while matching: why a candidate is left as it is, and the value that decided it."""

    def __init__(self, reason: str, value: object = "") -> None:
        super().__init__(reason, value)
        self.reason = reason
        self.value = value


@dataclasses.dataclass(frozen=True)
class Declined:
    """A candidate that a pass left as it is."""

    pass_name: str
    op_type: str
    node: str
    reason: str
    value: str

    def __str__(self) -> str:
        return f"{self.pass_name}: {self.op_type} {self.node!r}: {self.reason}" + (
            f": {self.value}" if self.value else ""
        )


@dataclasses.dataclass
class FusionResult(ir.passes.PassResult):
    """A pass's result and record: the names of the candidates that matched, and those that did not, with reasons."""

    matches: Sequence[str]
    declines: Sequence[Declined]


class FusionPass(ir.passes.InPlacePass, abc.ABC, Generic[Match]):
    """Rewrites the candidates that match, in place; leaves the others and records why.

    1. All candidates are matched before anything is changed; matching changes nothing.
    2. A decline never stops the pass.
    3. Replaced nodes are left to the clean-up pass.
    """

    candidate: str  # the op type, of the standard domain, that is looked at

    def is_candidate(self, node: ir.Node) -> bool:
        """Whether a decline of this node would be worth telling."""
        return (node.domain, node.op_type) == ("", self.candidate)

    @abc.abstractmethod
    def match(self, model: ir.Model, node: ir.Node) -> Match:
        """Reads what the rewrite needs; raises `Decline`."""

    @abc.abstractmethod
    def rewrite(self, model: ir.Model, matches: Sequence[tuple[ir.Node, Match]]) -> None:
        """Replaces the matched nodes; there is at least one."""

    def call(self, model: ir.Model) -> FusionResult:
        """Runs the pass on the main graph."""
        matches: list[tuple[ir.Node, Match]] = []
        declines: list[Declined] = []
        for node in model.graph:
            if not self.is_candidate(node):
                continue
            try:
                matches.append((node, self.match(model, node)))
            except Decline as decline:
                name = node.name or (node.outputs[0].name or "")
                declines.append(Declined(type(self).__name__, node.op_type, name, decline.reason, str(decline.value)))
        names = [node.name or "" for node, _ in matches]
        if matches:
            self.rewrite(model, matches)
        return FusionResult(model, bool(matches), names, declines)


def producer(value: ir.Value | None, op_type: str, reason: str) -> ir.Node:
    """The node that makes `value`; declines with `reason` unless it is a standard `op_type`."""
    node = value.producer() if value is not None else None
    if node is None or (node.domain, node.op_type) != ("", op_type):
        found = "nothing" if value is None else f"{value.name} from {node.op_type}" if node is not None else value.name
        raise Decline(reason, found)
    return node


def attribute(node: ir.Node, name: str, default: int | float | str | Sequence[int]) -> Any:
    """An attribute's value, or `default` if the node does not have it."""
    attr = node.attributes.get(name)
    return default if attr is None else attr.value


def constant(value: ir.Value | None) -> np.ndarray | None:
    """The array of a constant: a Constant node, or an initializer that no caller can override. Read when asked for."""
    if value is None or value.is_graph_input():
        return None
    tensor = ir.convenience.get_const_tensor(value)
    return None if tensor is None else tensor.numpy()


def scalar(value: ir.Value | None) -> float | None:
    """The number of a constant with one element."""
    tensor = None if value is None or value.is_graph_input() else ir.convenience.get_const_tensor(value)
    return float(tensor.numpy().reshape(())) if tensor is not None and tensor.size == 1 else None


def consumer(value: ir.Value, op_types: Collection[str], reason: str) -> ir.Node:
    """The one node that reads `value`; declines with `reason` unless it is a standard one of `op_types`."""
    nodes = value.consumers()
    if len(nodes) == 1 and nodes[0].domain == "" and nodes[0].op_type in op_types and not value.is_graph_output():
        return nodes[0]
    raise Decline(reason, f"{value.name} to {', '.join(node.op_type for node in nodes) or 'nothing'}")


def other(node: ir.Node, value: ir.Value) -> ir.Value | None:
    """The second operand of a binary node that has `value` for the first, or the other way round."""
    return node.inputs[1] if node.inputs[0] is value else node.inputs[0]


def integers(graph: ir.Graph, numbers: Sequence[int]) -> ir.Value:
    """An int64 vector of the graph: the initializer of these numbers, made once."""
    name = f"int64.{'_'.join(map(str, numbers))}"
    if name not in graph.initializers:
        graph.register_initializer(ir.val(name, const_value=ir.tensor(np.array(numbers, np.int64), name=name)))
    return graph.initializers[name]
