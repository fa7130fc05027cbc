"""MatMul with constant float weights becomes MatMulNBits over Q4NX blocks."""

from __future__ import annotations

__all__ = [
    "FLOATS",
    "QuantizeMatMul",
    "QuantizedWeights",
    "Quantizer",
    "matrix_shape",
    "quantized_blocks",
    "round_to_nearest",
]

import dataclasses
from collections.abc import Callable, Sequence

import onnx_ir as ir

from . import q4nx
from .fusion_pass import Decline, FusionPass, attribute
from .opset import DOMAIN

FLOATS = (ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.BFLOAT16)


# Makes blocks of a matrix: (name of the float tensor, a function that reads w_NK, bits) -> uint8 [n_blocks, bytes].
# Called whenever the blocks are asked for, each time with the same result.
Quantizer = Callable[[str, Callable[[], q4nx.FloatArray], int], q4nx.ByteArray]


def round_to_nearest(name: str, read: Callable[[], q4nx.FloatArray], bits: int) -> q4nx.ByteArray:
    """The quantizer that needs nothing but the weights."""
    return q4nx.quantize_rtn(read(), bits)


class QuantizedWeights(ir.LazyTensor):
    """The Q4NX blocks of a float tensor, made anew whenever they are asked for and not kept.

    Attributes:
        source: the float tensor.
        transposed: the source is w_KN, not w_NK.
        bits: 4 or 8.
        quantizer: makes the blocks.
    """

    __slots__ = ("bits", "quantizer", "source", "transposed")

    def __init__(self, source: ir.TensorProtocol, transposed: bool, bits: int, name: str, quantizer: Quantizer) -> None:
        N, K = matrix_shape(source, transposed)
        self.source, self.transposed, self.bits, self.quantizer = source, transposed, bits, quantizer
        shape = ir.Shape([q4nx.block_count(N, K), q4nx.BLOCK_BYTES[bits]])
        super().__init__(self._quantize, ir.DataType.UINT8, shape, name=name)

    def _quantize(self) -> ir.TensorProtocol:
        name = self.source.name or self.name or ""
        try:
            return ir.Tensor(self.quantizer(name, self._read, self.bits), name=self.name)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None

    def _read(self) -> q4nx.FloatArray:
        w = self.source.numpy()
        return w.T if self.transposed else w


@dataclasses.dataclass(frozen=True)
class _Match:
    weights: ir.Value  # the float initializer
    transposed: bool  # it is w_KN
    N: int
    K: int
    bits: int


class QuantizeMatMul(FusionPass[_Match]):
    """MatMul(A, w_KN) -> MatMulNBits(A, blocks).

    1. The weights are an initializer of float type and rank 2, [K, N], or [N, K] behind a Transpose; no graph input,
       which a caller could override. K is a multiple of 32.
    2. A MatMul that makes a graph output is the head and has `head_bits`; every other has 4 bits.
    3. Weights are quantised when they are read, tensor by tensor, so that a model can be written as a stream. An
       initializer that several nodes share is shared after the pass too.
    """

    candidate = "MatMul"

    def __init__(self, head_bits: int = 4, quantizer: Quantizer = round_to_nearest) -> None:
        if head_bits not in q4nx.BLOCK_BYTES:
            raise ValueError(f"quantize_matmul: head_bits is {head_bits}; it must be one of {sorted(q4nx.BLOCK_BYTES)}")
        self.head_bits, self.quantizer = head_bits, quantizer

    def match(self, model: ir.Model, node: ir.Node) -> _Match:
        """Reads one MatMul; raises `Decline`."""
        a, w = node.inputs
        if a is None or w is None or a.dtype not in (None, ir.DataType.FLOAT):
            raise Decline("activations are not float32", a)
        transposed = True
        transpose = w.producer()
        if transpose is not None and transpose.op_type == "Transpose":
            if tuple(attribute(transpose, "perm", (1, 0))) != (1, 0) or transpose.inputs[0] is None:
                raise Decline("weights are permuted", attribute(transpose, "perm", ()))
            w, transposed = transpose.inputs[0], False
        if w.is_graph_input():
            raise Decline("weights are a graph input", w.name)
        if w.const_value is None or not w.is_initializer():
            raise Decline("weights are computed", w.name)
        if w.const_value.dtype not in FLOATS:
            raise Decline("weights are not float", w.const_value.dtype)
        if len(w.const_value.shape) != 2:
            raise Decline("weights are not a matrix", w.const_value.shape)
        N, K = matrix_shape(w.const_value, transposed)
        if K % q4nx.GROUP_SIZE:
            raise Decline("K is not a multiple of 32", K)
        bits = self.head_bits if node.outputs[0].is_graph_output() else 4
        return _Match(w, transposed, N, K, bits)

    def rewrite(self, model: ir.Model, matches: Sequence[tuple[ir.Node, _Match]]) -> None:
        """Replaces the nodes; float weights that nothing else reads go with the clean-up."""
        graph = model.graph
        for node, match in matches:
            blocks = quantized_blocks(graph, match.weights, match.transposed, match.bits, self.quantizer)
            attributes = {"K": match.K, "N": match.N, "bits": match.bits, "block_size": q4nx.GROUP_SIZE}
            fused = ir.node("MatMulNBits", [node.inputs[0], blocks], attributes, domain=DOMAIN, name=node.name)
            ir.convenience.replace_nodes_and_values(graph, node, [node], [fused], node.outputs, fused.outputs)


def quantized_blocks(graph: ir.Graph, weights: ir.Value, transposed: bool, bits: int, quantizer: Quantizer) -> ir.Value:
    """The initializer of a float initializer's blocks, made once however many nodes read it."""
    source = weights.const_value
    assert source is not None
    name = f"{weights.name}.{'q4nx' if bits == 4 else 'q8'}"
    known = graph.initializers.get(name)
    if known is not None and known.const_value is not None:
        same = known.const_value
        if isinstance(same, QuantizedWeights) and (same.source, same.transposed) == (source, transposed):
            return known
        name += ".transposed"
    value = ir.val(name, const_value=QuantizedWeights(source, transposed, bits, name, quantizer))
    graph.register_initializer(value)
    return value


def matrix_shape(tensor: ir.TensorProtocol, transposed: bool) -> tuple[int, int]:
    """(N, K)."""
    first, second = tensor.shape.numpy()
    return (second, first) if transposed else (first, second)
