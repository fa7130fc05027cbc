"""The model's inputs and outputs take the names and shapes that the operators and their callers know."""

from __future__ import annotations

__all__ = ["NormaliseInterface"]

import re
from collections.abc import Iterable

import onnx_ir as ir

from .fusion_pass import Decline, Declined, FusionResult

_LAYER_FIRST = re.compile(r".*?(?P<layer>\d+)\D*(?P<kind>key|value)$")
_KIND_FIRST = re.compile(r".*(?P<kind>key|value)\D*(?P<layer>\d+)$")


class NormaliseInterface(ir.passes.InPlacePass):
    """Batch 1, our names.

    1. A symbolic batch becomes 1, in the interface and wherever its symbol occurs. A static one other than 1 declines,
       and nothing is changed.
    2. Caches, the float inputs and outputs of four axes with a layer's number and "key" or "value" in their names,
       become past_key_values.N.{key,value} and present.N.{key,value}.
    3. The lengths become "sequence", "total", "past_N" and "present_N".
    """

    def call(self, model: ir.Model) -> FusionResult:
        """Runs the pass."""
        graph = model.graph
        try:
            names = _symbols(graph)
        except Decline as decline:
            name = graph.name or ""
            declined = Declined(type(self).__name__, "Graph", name, decline.reason, str(decline.value))
            return FusionResult(model, False, [], [declined])
        modified = _substitute(graph, names)
        modified |= _name_caches(graph.inputs, "past_key_values", "past")
        modified |= _name_caches(graph.outputs, "present", "present")
        return FusionResult(model, modified, [], [])


def _symbols(graph: ir.Graph) -> dict[str, int | str]:
    """What the symbols of batch, S and past + S become."""
    inputs = {value.name: value for value in graph.inputs}
    names: dict[str, int | str] = {}
    lengths = {"input_ids": "sequence", "attention_mask": "total"}
    for name, length in lengths.items():
        shape = inputs[name].shape if name in inputs else None
        if shape is None or len(shape) != 2:
            raise Decline(f"the model has no input {name} of two axes", ", ".join(map(str, inputs)))
        if isinstance(shape[0], int) and shape[0] != 1:
            raise Decline("batch is not 1", f"{name} {shape}")
        batch, tokens = (dim.value if isinstance(dim, ir.SymbolicDim) else None for dim in shape)
        names |= {batch: 1} if batch is not None else {}
        names |= {tokens: length} if tokens is not None else {}
    return names


def _substitute(graph: ir.Graph, names: dict[str, int | str]) -> bool:
    """Puts sizes and names in the place of symbols, in every shape."""
    modified = False
    made = (value for node in graph for value in node.outputs)
    for value in (*graph.inputs, *graph.outputs, *made):
        if value.shape is None:
            continue
        dims = [names.get(dim.value or "", dim) if isinstance(dim, ir.SymbolicDim) else dim for dim in value.shape]
        if dims and value in graph.inputs and isinstance(dims[0], ir.SymbolicDim):
            dims[0] = 1  # exporters may give every input a batch symbol of its own
        if ir.Shape(dims) != value.shape:
            value.shape = ir.Shape(dims)
            modified = True
    return modified


def _name_caches(values: Iterable[ir.Value], prefix: str, rows: str) -> bool:
    modified = False
    for value in values:
        found = _LAYER_FIRST.match(value.name or "") or _KIND_FIRST.match(value.name or "")
        if found is None or value.shape is None or len(value.shape) != 4:
            continue
        layer, kind = int(found["layer"]), found["kind"]
        name = f"{prefix}.{layer}.{kind}"
        _, heads, length, head_dim = value.shape
        shape = ir.Shape([1, heads, f"{rows}_{layer}" if isinstance(length, ir.SymbolicDim) else length, head_dim])
        if (value.name, value.shape) != (name, shape):
            value.name, value.shape = name, shape
            modified = True
    return modified
