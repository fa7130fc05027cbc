"""Who runs what: the execution provider's own report on every node it was shown, read and added up.

Devices: "npu" and "host" are ours (host: our kernels on the CPU, with the reason when it was not asked for); "cpu" is
onnxruntime's own CPU provider, with the reason why the node was left to it. Nodes that onnxruntime optimised away
before it asked are in no report.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .console import percent
from .errors import Problem
from .registration import EP_NAME

__all__ = ["COLUMNS", "DEVICES", "Group", "Node", "Placement", "group_nodes", "layer_pattern", "read_placement"]

COLUMNS = ("domain", "op_type", "name", "device", "reason", "value", "macs_per_token")
DEVICES = ("npu", "host", "cpu")  # best first


@dataclass(frozen=True)
class Node:
    """One node, in the order of the graph.

    Attributes:
        reason: why it was not taken, or why it is on the host; "" if it is where it was asked to be.
        value: what the reason is about, such as the shape that does not fit.
        macs_per_token: multiply-adds of its matrix product for one token; 0 for all else.
    """

    domain: str
    op_type: str
    name: str
    device: str
    reason: str
    value: str
    macs_per_token: int

    @property
    def op(self) -> str:
        """The operator with its domain, as "domain::Op"; without one for ONNX's own."""
        return f"{self.domain}::{self.op_type}" if self.domain else self.op_type

    @property
    def module(self) -> str:
        """The name with layer numbers replaced by "*": equal for the same node of each layer."""
        return layer_pattern(self.name)

    @property
    def why(self) -> str:
        """Reason and value as one text."""
        return f"{self.reason}: {self.value}" if self.value else self.reason


@dataclass(frozen=True)
class Group:
    """Nodes that share what they were grouped by."""

    nodes: tuple[Node, ...]
    share: float

    @property
    def macs_per_token(self) -> int:
        """The sum of the nodes'."""
        return sum(node.macs_per_token for node in self.nodes)


@dataclass(frozen=True)
class Placement:
    """All nodes of a session; empty when the execution provider made no report."""

    nodes: tuple[Node, ...] = ()

    @property
    def taken(self) -> tuple[Node, ...]:
        """The nodes that the execution provider runs."""
        return tuple(node for node in self.nodes if node.device != "cpu")

    @property
    def device(self) -> str:
        """Where most of the work is: "npu", "host", or "cpu" when nothing was taken."""
        by_device = group_nodes(self.taken, lambda node: node.device)
        return max(by_device, key=lambda group: group.macs_per_token).nodes[0].device if by_device else "cpu"

    @property
    def share_of_macs(self) -> float:
        """Of all multiply-adds, the share in taken nodes; 0 when there are none."""
        return _share(self.taken, self.nodes)

    def sentence(self) -> str:
        """The summary for people."""
        if not self.nodes:
            return f"cpu ({EP_NAME} made no report: onnxruntime left it out and runs every node on its CPU provider)"
        on_host = next((node.why for node in self.taken if node.device == "host" and node.reason), "")
        device = f"{self.device}, {on_host}" if on_host else self.device
        nodes = f"{len(self.taken)} of {len(self.nodes)} nodes"
        return f"{device} ({EP_NAME} took {nodes} and {percent(self.share_of_macs)} of the multiply-adds)"

    def summary(self) -> dict[str, Any]:
        """The four numbers that `generate` and `explain` report, for `--json`."""
        return {
            "device": self.device,
            "nodes": len(self.nodes),
            "nodes_taken": len(self.taken),
            "share_of_multiply_adds": self.share_of_macs,
        }


def layer_pattern(name: str) -> str:
    """A name with its layer numbers replaced by "*"."""
    return re.sub(r"(?<![^./_])\d+(?![^./_])", "*", name)


def group_nodes(nodes: Iterable[Node], key: Callable[[Node], Hashable]) -> list[Group]:
    """Groups nodes by a key, each group with its share of all multiply-adds, in the order of their first nodes."""
    nodes = tuple(nodes)
    members: dict[Hashable, list[Node]] = {}
    for node in nodes:
        members.setdefault(key(node), []).append(node)
    return [Group(tuple(group), _share(group, nodes)) for group in members.values()]


def read_placement(path: Path) -> Placement:
    """Reads the tab-separated report; an empty `Placement` when there is no such file.

    Raises:
        Problem: the file is not such a report.
    """
    if not path.is_file():
        return Placement()
    header, *lines = path.read_text("utf-8", errors="replace").removesuffix("\n").split("\n")
    if tuple(header.split("\t")) != COLUMNS:
        raise _damaged("the header", header)
    return Placement(tuple(_node(number, line) for number, line in enumerate(lines, 2)))


def _node(number: int, line: str) -> Node:
    cells = line.split("\t")
    if len(cells) != len(COLUMNS) or cells[3] not in DEVICES or not cells[6].isdecimal():
        raise _damaged(f"line {number}", line)
    domain, op_type, name, device, reason, value, macs = cells
    return Node(domain, op_type, name, device, reason, value, int(macs))


def _damaged(where: str, found: str) -> Problem:
    return Problem("the execution provider's placement report cannot be read", where, repr(found[:80]),
                   "install the package again: its library and its Python are of different versions")  # fmt: skip


def _share(part: Iterable[Node], whole: Iterable[Node]) -> float:
    total = sum(node.macs_per_token for node in whole)
    return sum(node.macs_per_token for node in part) / total if total else 0.0
