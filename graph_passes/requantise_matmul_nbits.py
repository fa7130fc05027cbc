"""com.microsoft's MatMulNBits becomes ours: its blocks of 4- or 8-bit codes become Q4NX blocks.

Letters: N rows and K columns of a weight, B blocks in a row (ONNX Runtime's), G groups of 32 columns in a row (Q4NX's).
"""

from __future__ import annotations

__all__ = ["BlockQuantized", "RequantiseMatMulNBits", "RequantisedWeights", "block_quantized"]

import dataclasses
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from . import q4nx
from .fusion_pass import Decline, FusionPass, attribute
from .opset import DOMAIN

_QUANTIZED = ("com.microsoft", "MatMulNBits")
_ATTRIBUTES = ("K", "N", "bits", "block_size", "accuracy_level")
_SCALES = (ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.BFLOAT16)
_SLAB_ELEMENTS = 1 << 20


@dataclasses.dataclass(frozen=True)
class BlockQuantized:
    """A matrix as com.microsoft's operators hold it: w = scale * (q - zero), a scale and a zero for each block.

    Attributes:
        codes: uint8 [N, B, block_size * bits / 8], 4-bit codes two to a byte, the first one low.
        scales: float [N, B].
        zeros: uint8 [N, ceil(B * bits / 8)] in the codes' packing, or float [N, B]; None is the middle of the codes.
        N: rows.
        K: columns, without the padding of the last block.
        bits: 4 or 8.
        block_size: columns of a block.
    """

    codes: ir.TensorProtocol
    scales: ir.TensorProtocol
    zeros: ir.TensorProtocol | None
    N: int
    K: int
    bits: int
    block_size: int


class RequantisedWeights(ir.LazyTensor):
    """The Q4NX blocks of a matrix that was quantised otherwise, made anew whenever they are asked for and not kept.

    Attributes:
        source: the matrix.
        nmse: squared error of the new weights over the squares of the old, known once the blocks have been made.
    """

    __slots__ = ("nmse", "source")

    def __init__(self, source: BlockQuantized, name: str) -> None:
        self.source = source
        self.nmse: float | None = None
        shape = ir.Shape([q4nx.block_count(source.N, source.K), q4nx.BLOCK_BYTES[source.bits]])
        super().__init__(self._requantise, ir.DataType.UINT8, shape, name=name)

    def _requantise(self) -> ir.TensorProtocol:
        src = self.source
        G = src.K // q4nx.GROUP_SIZE
        B = -(-src.K // src.block_size)
        codes = src.codes.numpy().reshape(src.N, -1)
        scale_NB = src.scales.numpy().reshape(src.N, B)
        zeros = src.zeros.numpy().reshape(src.N, -1) if src.zeros is not None else None
        scale_NG, min_NG = np.empty((src.N, G), np.uint16), np.empty((src.N, G), np.uint16)
        q_NK = np.empty((src.N, src.K), np.uint8 if src.bits == 4 else np.int8)
        error = power = 0.0
        step = max(1, _SLAB_ELEMENTS // src.K)
        for first in range(0, src.N, step):
            rows = slice(first, first + step)
            q_nBk = _unpack(codes[rows], src.bits).reshape(-1, B, src.block_size).astype(np.float32)
            zero_nB = _zeros(zeros[rows] if zeros is not None else None, q_nBk.shape[:2], src.bits)
            scale_nB = scale_NB[rows].astype(np.float32)
            if not (np.isfinite(scale_nB).all() and np.isfinite(zero_nB).all()):
                raise ValueError(f"{src.scales.name}: a scale or zero is not finite; check the source model")
            w_nGc = _groups((q_nBk - zero_nB[..., None]) * scale_nB[..., None], src.K)
            if src.block_size % q4nx.GROUP_SIZE == 0:
                repeats = src.block_size // q4nx.GROUP_SIZE
                grid = (np.repeat(x, repeats, axis=1)[:, :G] for x in (scale_nB, zero_nB))
            else:
                grid = None
            scale, minimum, q_nGc, new_nGc = _encode(w_nGc, src.bits, *(grid or (None, None)))
            scale_NG[rows], min_NG[rows], q_NK[rows] = scale, minimum, q_nGc.reshape(-1, src.K)
            error += float(np.square(new_nGc - w_nGc, dtype=np.float64).sum())
            power += float(np.square(w_nGc, dtype=np.float64).sum())
        if not (np.isfinite(error) and np.isfinite(q4nx.from_bfloat16(scale_NG)).all()):
            raise ValueError(f"{src.scales.name}: a scale is too large for bfloat16; check the source model")
        self.nmse = error / power if power else 0.0
        return ir.Tensor(q4nx.pack(scale_NG, min_NG if src.bits == 4 else None, q_NK), name=self.name)


class RequantiseMatMulNBits(FusionPass[BlockQuantized]):
    """com.microsoft::MatMulNBits(A, codes, scales, zeros) -> MatMulNBits(A, blocks).

    1. 4 or 8 bits, K a multiple of 32, blocks of 16, or of 32 times any number; no g_idx, no bias. The tensors are
       constants of the model that no caller can override. Any accuracy_level: ours is exact.
    2. 4 bits, blocks of 32 or more: each group of 32 lies in one block, whose scale becomes its scale, in bfloat16, and
       whose zero becomes its minimum, bfloat16(-zero * scale). The codes are rounded against those two, which changes
       none of them: the rounding moves a weight by less than half a step.
    3. 4 bits, blocks of 16: the group gets a scale and a minimum of its own range, and new codes.
    4. 8 bits: w = scale * code with code = q - zero. A group whose codes leave int8's -127..127, or is made of two
       blocks, gets a scale of its own range, and new codes.
    5. Blocks are made when they are read, and the error is known then (`RequantisedWeights.nmse`).
    """

    candidate = "MatMulNBits"

    def is_candidate(self, node: ir.Node) -> bool:
        """A node of com.microsoft's."""
        return (node.domain, node.op_type) == _QUANTIZED

    def match(self, model: ir.Model, node: ir.Node) -> BlockQuantized:
        """Reads one product; raises `Decline`."""
        a, codes, scales, zeros, g_idx, bias = [*node.inputs, *[None] * 6][:6]
        if a is None or a.dtype not in (None, ir.DataType.FLOAT):
            raise Decline("activations are not float32", a)
        for name, value in (("g_idx", g_idx), ("bias", bias)):
            if value is not None:
                raise Decline(f"it has a {name}", value.name)
        for name, attr in node.attributes.items():
            if name not in _ATTRIBUTES:
                raise Decline("it has an unknown attribute", f"{name} = {attr.value}")
        sizes = (int(attribute(node, name, 0)) for name in ("N", "K", "bits", "block_size"))
        return block_quantized(codes, scales, zeros, *sizes)

    def rewrite(self, model: ir.Model, matches: Sequence[tuple[ir.Node, BlockQuantized]]) -> None:
        """Replaces the nodes; the old tensors go with the clean-up."""
        graph = model.graph
        for node, match in matches:
            blocks = _blocks(graph, match)
            attributes = {"K": match.K, "N": match.N, "bits": match.bits, "block_size": q4nx.GROUP_SIZE}
            fused = ir.node("MatMulNBits", [node.inputs[0], blocks], attributes, domain=DOMAIN, name=node.name)
            ir.convenience.replace_nodes_and_values(graph, node, [node], [fused], node.outputs, fused.outputs)


def block_quantized(
    codes: ir.Value | None, scales: ir.Value | None, zeros: ir.Value | None, N: int, K: int, bits: int, block_size: int
) -> BlockQuantized:
    """Checks the operands of a quantised operator; declines those that cannot become Q4NX."""
    if bits not in q4nx.BLOCK_BYTES:
        raise Decline("bits is not 4 or 8", bits)
    if K < 1 or N < 1 or K % q4nx.GROUP_SIZE:
        raise Decline("K is not a multiple of 32", K)
    if block_size < 16 or (block_size % q4nx.GROUP_SIZE and q4nx.GROUP_SIZE % block_size):
        raise Decline("blocks neither divide 32 columns nor are divided by them", block_size)
    B = -(-K // block_size)
    sizes = {"codes": N * B * block_size * bits // 8, "scales": N * B}
    tensors = [_constant(value, name) for name, value in (("codes", codes), ("scales", scales), ("zero points", zeros))]
    if tensors[0] is None or tensors[1] is None:
        raise Decline("weights are missing", "")
    if tensors[0].dtype != ir.DataType.UINT8 or tensors[0].size != sizes["codes"]:
        raise Decline("codes do not fit N, K and the blocks", f"{tensors[0].dtype} {tensors[0].shape}")
    if tensors[1].dtype not in _SCALES or tensors[1].size != sizes["scales"]:
        raise Decline("scales do not fit N, K and the blocks", f"{tensors[1].dtype} {tensors[1].shape}")
    if tensors[2] is not None:
        packed = tensors[2].dtype == ir.DataType.UINT8
        wanted = N * -(-B * bits // 8) if packed else N * B
        if not (packed or tensors[2].dtype in _SCALES) or tensors[2].size != wanted:
            raise Decline("zero points do not fit N, K and the blocks", f"{tensors[2].dtype} {tensors[2].shape}")
    return BlockQuantized(tensors[0], tensors[1], tensors[2], N, K, bits, block_size)


def _constant(value: ir.Value | None, what: str) -> ir.TensorProtocol | None:
    if value is None:
        return None
    if value.is_graph_input():
        raise Decline("weights are a graph input", value.name)
    if value.const_value is None or not value.is_initializer():
        raise Decline(f"{what} are computed", value.name)
    return value.const_value


def _blocks(graph: ir.Graph, source: BlockQuantized) -> ir.Value:
    """The initializer of the new blocks, made once for each matrix."""
    name = f"{source.codes.name}.{'q4nx' if source.bits == 4 else 'q8'}"
    known = graph.initializers.get(name)
    if known is not None and isinstance(known.const_value, RequantisedWeights) and known.const_value.source == source:
        return known
    value = ir.val(name, const_value=RequantisedWeights(source, name))
    graph.register_initializer(value)
    return value


def _unpack(packed: npt.NDArray[np.uint8], bits: int) -> npt.NDArray[np.uint8]:
    """Codes of the last axis, one to a byte."""
    if bits == 8:
        return packed
    return np.stack([packed & 15, packed >> 4], axis=-1).reshape(*packed.shape[:-1], -1)


def _zeros(zeros: npt.NDArray[np.generic] | None, shape: tuple[int, ...], bits: int) -> q4nx.FloatArray:
    """Zero points, float32 [n, B]."""
    if zeros is None:
        return np.full(shape, 1 << (bits - 1), np.float32)
    if zeros.dtype == np.uint8:
        zeros = _unpack(zeros, bits)[:, : shape[1]]  # type: ignore[arg-type]
    return zeros.astype(np.float32)


def _groups(w_nBk: q4nx.FloatArray, K: int) -> q4nx.FloatArray:
    """[n, B, block_size] -> [n, G, 32], the padding removed."""
    return w_nBk.reshape(len(w_nBk), -1)[:, :K].reshape(len(w_nBk), -1, q4nx.GROUP_SIZE)


def _encode(
    w_nGc: q4nx.FloatArray, bits: int, scale_nG: q4nx.FloatArray | None, zero_nG: q4nx.FloatArray | None
) -> tuple[q4nx.Bfloat16Bits, q4nx.Bfloat16Bits, npt.NDArray[np.generic], q4nx.FloatArray]:
    """(scale, minimum, codes, new weights) of groups, on the grid that is given or one of their range."""
    largest = np.abs(w_nGc).max(axis=2)
    if bits == 8:
        own = largest / np.float32(127)
        scale = q4nx.to_bfloat16(own if scale_nG is None else np.where(own > np.abs(scale_nG), own, scale_nG))
        minimum = np.zeros_like(scale)
    elif scale_nG is not None and zero_nG is not None:
        scale = q4nx.to_bfloat16(scale_nG)
        minimum = q4nx.to_bfloat16(-zero_nG * q4nx.from_bfloat16(scale))
    else:
        low = w_nGc.min(axis=2)
        scale, minimum = q4nx.to_bfloat16((w_nGc.max(axis=2) - low) / np.float32(15)), q4nx.to_bfloat16(low)
    step, offset = (q4nx.from_bfloat16(x)[..., None] for x in (scale, minimum))
    first, last = (0, 15) if bits == 4 else (-127, 127)
    q_nGc = np.clip(np.rint((w_nGc - offset) / np.where(step == 0, np.float32(1), step)), first, last)
    return scale, minimum, q_nGc.astype(np.uint8 if bits == 4 else np.int8), q_nGc * step + offset
