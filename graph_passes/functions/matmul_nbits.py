"""MatMulNBits(A, W): Y = A w^T, dequantising one slab of rows at a time.

A slab is the largest power of two of row blocks, up to 16, that divides all of them. The Scan runs over slab numbers
and cuts each slab out of W with Slice, so that one slab of float weights is live and nothing of W is folded at load.

Both code widths go one way. A byte holds `parts` = 8 / bits codes; part p is masked out in its place, 2^(bits p) q, and
its scale divided by that power of two, which loses nothing:

    w = scale * q + offset      bits = 4: q = 0..15,                offset = min
                                bits = 8: q = code + 128 = 0..255,  offset = -128 * scale

In 8 bits too all of it is exact in float32 (multiples of scale, 16 significant bits) while 255 scale is finite.
"""

from __future__ import annotations

__all__ = ["MatMulNBits"]

from onnxscript import FLOAT, UINT8, graph, opset23 as op, script

from ..opset import DOMAIN_OPSET
from .bfloat16 import Bfloat16


@script(DOMAIN_OPSET, default_opset=op)
def MatMulNBits(A, W, K: int, N: int, bits: int = 4, block_size: int = 32):
    """Y = A w^T with w in Q4NX blocks."""
    one = op.Constant(value_ints=[1])
    two = op.Constant(value_ints=[2])
    rest = op.Constant(value_ints=[-1])
    n_rows = op.Reshape(N, one)
    n_columns = op.Reshape(K, one)
    row_blocks = (n_rows + 31) / 32
    col_blocks = (n_columns + 255) / 256
    slab_blocks = op.Min(op.BitwiseAnd(row_blocks, -row_blocks), op.Constant(value_ints=[16]))

    # The padding columns of w meet zeros of A.
    a_MK = op.Reshape(A, op.Concat(rest, n_columns, axis=0))
    a_MK = op.Pad(a_MK, op.Concat(op.Constant(value_ints=[0, 0, 0]), col_blocks * 256 - n_columns, axis=0))

    n_bits = op.Reshape(bits, one)
    parts = 8 / n_bits
    part_rows = 16 / parts  # bytes of a column in half a block
    header = 4096 / n_bits  # bytes before the codes: scales, and minima in 4 bits
    eight_bit = n_bits / 8
    place = op.Reshape(op.Pow(two, op.Range(0, 8, bits)), [-1, 1])  # [parts, 1]
    masks = op.Cast((op.Pow(two, n_bits) - 1) * place, to=UINT8.dtype)
    scale_factor = 1.0 / op.Cast(place, to=FLOAT.dtype)
    offset_factor = op.Cast(1 - 129 * eight_bit, to=FLOAT.dtype)  # 1 or -128
    flip = op.Cast(eight_bit * 128, to=UINT8.dtype)  # two's complement code ^ 128 = code + 128

    @graph()
    def slab(i):
        first = op.Reshape(i, one) * slab_blocks * col_blocks
        blocks = op.Slice(W, first, first + slab_blocks * col_blocks, [0])  # [B*b, block bytes]

        # Codes, columns outermost: [B, b, half, column, byte] -> [b*group, column in group, 1, (B, half, byte)].
        codes = op.Reshape(
            op.Slice(blocks, header, [8704], [1]),
            op.Concat(slab_blocks, col_blocks, two, op.Constant(value_ints=[256]), rest, axis=0),
        )
        codes = op.Reshape(op.Transpose(codes, perm=[1, 3, 0, 2, 4]), op.Concat(col_blocks * 8, [32, 1, -1], axis=0))
        q = op.BitwiseAnd(op.BitwiseXor(codes, flip), masks)  # [b*group, column in group, part, (B, half, byte)]

        # Scales and minima in the same order: [B, b, group, half, byte, part] -> [b*group, 1, part, (B, half, byte)].
        factors = Bfloat16(op.Reshape(op.Slice(blocks, [0], header, [1]), [-1, 2]))
        factors = op.Reshape(factors, op.Concat(slab_blocks, col_blocks, [-1, 8, 2], part_rows, parts, axis=0))
        factors = op.Transpose(factors, perm=[2, 1, 3, 6, 0, 4, 5])  # [scale | min, b, group, part, B, half, byte]
        factors = op.Reshape(factors, op.Concat(rest, col_blocks * 8, one, parts, part_rows * 2 * slab_blocks, axis=0))
        scale = scale_factor * op.Gather(factors, 0)
        offset = offset_factor * op.Gather(factors, -1)  # in 8 bits it is the scale again

        w = op.Cast(q, to=FLOAT.dtype) * scale + offset
        return op.MatMul(a_MK, op.Reshape(w, op.Concat(col_blocks * 256, rest, axis=0)))  # [M, (part, B, half, byte)]

    slabs = op.Range(0, op.Squeeze(row_blocks / slab_blocks), 1)
    y = op.Scan(slabs, body=slab, num_scan_inputs=1)  # [slab, M, rows of a slab]
    y = op.Reshape(y, op.Concat([0, 0], parts, rest, axis=0))
    y = op.Reshape(op.Transpose(y, perm=[1, 0, 3, 2]), op.Concat(op.Shape(a_MK, end=1), row_blocks * 32, axis=0))
    y = op.Slice(y, [0], n_rows, [1])
    return op.Reshape(y, op.Concat(op.Shape(A, end=-1), n_rows, axis=0))
