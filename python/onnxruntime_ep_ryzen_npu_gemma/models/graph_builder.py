"""Collects the nodes, weights, inputs and outputs of a graph.  A value has the name of the node that makes it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from onnxruntime_ep_ryzen_npu_gemma.sources import Source

__all__ = ["Dims", "GraphBuilder", "shape_of", "value"]

_OPSET = 23
_IR_VERSION = 10

Dims = Sequence[int | str | ir.SymbolicDim]


class GraphBuilder:
    """One graph in the making, with the weights of one source."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self._tape = ir.tape.Tape()
        self._inputs: list[ir.Value] = []
        self._outputs: list[ir.Value] = []
        self._constants: dict[str, ir.Value] = {}

    def input(self, name: str, shape: Dims, dtype: ir.DataType = ir.DataType.FLOAT) -> ir.Value:
        """Adds a graph input."""
        self._inputs.append(value(name, shape, dtype))
        return self._inputs[-1]

    def output(self, output: ir.Value) -> None:
        """Makes a value a graph output."""
        self._outputs.append(output)

    def op(
        self,
        name: str,
        op_type: str,
        inputs: Sequence[ir.Value],
        shape: Dims,
        dtype: ir.DataType = ir.DataType.FLOAT,
        **attributes: int | float | str | Sequence[int],
    ) -> ir.Value:
        """Adds a node with one output and returns the output."""
        return self._tape.op(op_type, inputs, attributes, name=name, output=value(name, shape, dtype))

    def op_multi_out(
        self,
        name: str,
        op_type: str,
        inputs: Sequence[ir.Value],
        outputs: Sequence[ir.Value],
        **attributes: int | float | str | Sequence[int],
    ) -> None:
        """Adds a node with several outputs."""
        self._tape.op_multi_out(op_type, inputs, attributes, name=name, outputs=outputs)

    def weight(self, module: str, *, transposed: bool = False) -> ir.Value:
        """The lazy weight of a module; `transposed` makes [K, N] of a projection's [N, K]."""
        source, name = self.source, f"{module}.weight"
        shape = source.shape(name)[::-1] if transposed else source.shape(name)

        def read() -> ir.TensorProtocol:
            values = source.tensor(name)
            return ir.Tensor(values.T if transposed else values, name=name)

        return self._tape.initializer(ir.LazyTensor(read, ir.DataType.FLOAT, ir.Shape(shape), name=name))

    def constant(self, name: str, values: np.ndarray) -> ir.Value:
        """A small initializer; the same name gives the same one."""
        if name not in self._constants:
            self._constants[name] = self._tape.initializer(ir.Tensor(values, name=name))
        return self._constants[name]

    def integers(self, *values: int) -> ir.Value:
        """A constant i64 [len(values)], as shape and axis operands need it."""
        return self.constant("ints_" + "_".join(map(str, values)).replace("-", "minus"), np.array(values, np.int64))

    def model(self, name: str) -> ir.Model:
        """The finished model."""
        nodes, initializers = self._tape.nodes, self._tape.initializers
        opsets = {"": _OPSET}
        graph = ir.Graph(
            self._inputs, self._outputs, nodes=nodes, initializers=initializers, opset_imports=opsets, name=name
        )
        return ir.Model(graph, ir_version=_IR_VERSION, producer_name="ryzen-npu-gemma")


def value(name: str, shape: Dims, dtype: ir.DataType = ir.DataType.FLOAT) -> ir.Value:
    """A value of known type and shape."""
    return ir.Value(name=name, type=ir.TensorType(dtype), shape=ir.Shape(shape))


def shape_of(x: ir.Value) -> tuple[int | str | ir.SymbolicDim, ...]:
    """The shape of a value of this builder, which always has one."""
    if x.shape is None:
        raise ValueError(f"{x.name}: no shape")
    return tuple(x.shape)
