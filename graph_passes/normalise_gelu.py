"""The tanh approximation of GELU, however spelled, becomes Gelu(approximate="tanh").

gelu(x) = x / 2 * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 x^3)))
"""

from __future__ import annotations

__all__ = ["NormaliseGelu"]

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from .fusion_pass import Decline, FusionPass, attribute
from .probe import Probe

_ELEMENTWISE = ("Add", "Sub", "Mul", "Div", "Pow", "Neg", "Cast")
_MAX_STEPS = 6  # of one spelling after its Tanh: + 1, * x, * 0.5, casts
_X = np.linspace(-12, 12, 4097, dtype=np.float32)
_ATOL = 4e-6  # on those x: spellings in float32 are 9e-7 away from float64, the exact GELU is 4.7e-4


@dataclasses.dataclass(frozen=True)
class _Match:
    x: ir.Value
    result: ir.Value


class NormaliseGelu(FusionPass[_Match]):
    """Tanh and what is around it, or com.microsoft's FastGelu -> Gelu(x).

    1. Tanh's argument is made of one value x by elementwise operators and constants.
    2. The result is the first value after Tanh that is gelu(x) on a range of numbers: the constants, the cube and the
       order of factors are not looked at, only what they compute.
    3. The exact GELU, by Erf or by name, is another function and stays.
    """

    def is_candidate(self, node: ir.Node) -> bool:
        """A GELU, or the heart of one."""
        kind = (node.domain, node.op_type)
        exact = kind == ("", "Gelu") and attribute(node, "approximate", "none") != "tanh"
        return exact or kind in (("", "Tanh"), ("", "Erf"), ("com.microsoft", "FastGelu"), ("com.microsoft", "Gelu"))

    def match(self, model: ir.Model, node: ir.Node) -> _Match:
        """Reads one GELU; raises `Decline`."""
        if node.op_type in ("Gelu", "Erf"):
            raise Decline("exact GELU, not its tanh approximation", node.op_type)
        if node.op_type == "FastGelu":
            if node.inputs[0] is None or len(node.inputs) > 1:
                raise Decline("FastGelu with a bias", node.inputs[-1])
            return _Match(node.inputs[0], node.outputs[0])
        x = _argument(node)
        error = math.inf
        for value in _following(node.outputs[0]):
            try:
                [y] = Probe(model.graph, 1, 1).evaluate(value, known={x: _X})
            except Decline:
                break  # made of more than x: the GELU is before it, or none is
            error = float(np.abs(y - _gelu(_X)).max()) if y.shape == _X.shape else math.inf
            if error < _ATOL:
                return _Match(x, value)
        raise Decline("not a GELU", f"{error:.2g} away")

    def rewrite(self, model: ir.Model, matches: Sequence[tuple[ir.Node, _Match]]) -> None:
        """Replaces the nodes."""
        for _, match in matches:
            last = match.result.producer()
            assert last is not None
            gelu = ir.node("Gelu", [match.x], {"approximate": "tanh"}, name=last.name)
            ir.convenience.replace_nodes_and_values(model.graph, last, [], [gelu], [match.result], gelu.outputs)


def _argument(tanh: ir.Node) -> ir.Value:
    """The one value that Tanh's argument is made of."""
    leaves: set[ir.Value] = set()
    seen: set[ir.Value] = set()
    stack = [value for value in tanh.inputs if value is not None]
    while stack:
        value = stack.pop()
        node = value.producer()
        if value in seen or value.const_value is not None:
            continue
        seen.add(value)
        if node is not None and node.domain == "" and node.op_type in _ELEMENTWISE and len(seen) < 32:
            stack += [operand for operand in node.inputs if operand is not None]
        else:
            leaves.add(value)
    if len(leaves) != 1:
        raise Decline("not a GELU of one value", ", ".join(sorted(str(leaf.name) for leaf in leaves)))
    return leaves.pop()


def _following(value: ir.Value) -> Sequence[ir.Value]:
    """The values that are made of `value` by elementwise operators, one after another."""
    found: list[ir.Value] = []
    while len(found) < _MAX_STEPS and len(value.consumers()) == 1:
        [node] = value.consumers()
        if node.domain != "" or node.op_type not in _ELEMENTWISE:
            break
        value = node.outputs[0]
        found.append(value)
    return found


def _gelu(x: np.ndarray) -> np.ndarray:
    wide = x.astype(np.float64)
    gelu: np.ndarray = wide / 2 * (1 + np.tanh(math.sqrt(2 / math.pi) * (wide + 0.044715 * wide**3)))
    return gelu
