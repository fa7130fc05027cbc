"""Weights made out of other weights when they are asked for, and not kept: a model is converted as a stream."""

from __future__ import annotations

__all__ = ["Sliced", "Widened"]

import numpy as np
import onnx_ir as ir


class Widened(ir.LazyTensor):
    """A float16 or bfloat16 tensor as float32.

    Attributes:
        narrow: the tensor as it is stored.
    """

    __slots__ = ("narrow",)

    def __init__(self, narrow: ir.TensorProtocol) -> None:
        self.narrow = narrow
        super().__init__(self._widen, ir.DataType.FLOAT, ir.Shape(narrow.shape.numpy()), name=narrow.name)

    def _widen(self) -> ir.TensorProtocol:
        return ir.Tensor(self.narrow.numpy().astype(np.float32), name=self.name)


class Sliced(ir.LazyTensor):
    """The range [start, stop) of a tensor along one axis.

    Attributes:
        source: the whole tensor.
        axis: the axis that is cut.
        start: first index.
        stop: index after the last.
    """

    __slots__ = ("axis", "source", "start", "stop")

    def __init__(self, source: ir.TensorProtocol, axis: int, start: int, stop: int, name: str) -> None:
        self.source, self.axis, self.start, self.stop = source, axis, start, stop
        dims = list(source.shape.numpy())
        dims[axis] = stop - start
        super().__init__(self._slice, source.dtype, ir.Shape(dims), name=name)

    def _slice(self) -> ir.TensorProtocol:
        where = (slice(None),) * self.axis + (slice(self.start, self.stop),)
        return ir.Tensor(np.ascontiguousarray(self.source.numpy()[where]), dtype=self.dtype, name=self.name)
