# mypy: ignore-errors
# The bodies are ONNX Script, a language of its own in Python syntax.
"""EmbedNBits(ids, W): Y = scale * w[ids], out of the head's own blocks.

Only the row blocks that hold the wanted rows are gathered; the bytes of a row are then picked by the positions that the
Q4NX format gives them. The maths of codes and offsets is MatMulNBits's.
"""

from __future__ import annotations

__all__ = ["EmbedNBits"]

from onnxscript import FLOAT, UINT8, opset23 as op, script

from ..opset import DOMAIN_OPSET
from .bfloat16 import Bfloat16


@script(DOMAIN_OPSET, default_opset=op)
def EmbedNBits(ids, W, K: int, N: int, bits: int = 4, scale: float = 1.0):
    """Rows of an embedding table that lies in Q4NX blocks."""
    n_columns = op.Reshape(K, [1])
    col_blocks = (K + 255) / 256
    row = op.Reshape(ids, [-1, 1, 1])
    row_in_block = row % 32
    which = op.Squeeze(row, [2]) / 32 * col_blocks + op.Unsqueeze(op.Range(0, col_blocks, 1), [0])
    blocks = op.Gather(W, which)  # [S, b, block bytes]
    tokens_and_blocks = op.Shape(blocks, end=2)

    parts = 8 / bits
    header = 4096 / bits
    column_bytes = 2 * bits  # of 16 rows
    code_at = (
        header
        + row_in_block / 16 * 256 * column_bytes
        + op.Reshape(op.Range(0, 256, 1), [1, 1, -1]) * column_bytes
        + row_in_block % 16 / parts
    )
    code = op.GatherElements(blocks, op.Expand(code_at, op.Concat(tokens_and_blocks, [1], axis=0)), axis=2)
    code = op.BitwiseXor(code, op.Cast(bits / 8 * 128, to=UINT8.dtype))
    code = op.BitShift(code, op.Cast(row_in_block % parts * bits, to=UINT8.dtype), direction="RIGHT")
    code = op.BitwiseAnd(code, op.Cast(op.Pow(2, bits) - 1, to=UINT8.dtype))
    q = op.Reshape(op.Cast(code, to=FLOAT.dtype), [0, 0, 8, 32])

    group_at = op.Reshape(op.Range(0, 8, 1), [1, -1, 1]) * 32 + row_in_block  # [S, 8, 1]
    bytes_at = op.Reshape(group_at * 2 + op.Reshape([0, 1], [1, 1, 2]), [0, 1, -1])
    scale_at = op.Expand(bytes_at, op.Concat(tokens_and_blocks, [1], axis=0))  # [S, b, 8 groups x 2 bytes]
    factor_bytes = op.Concat(
        op.GatherElements(blocks, scale_at, axis=2), op.GatherElements(blocks, scale_at + header - 512, axis=2), axis=2
    )
    factors = Bfloat16(op.Reshape(factor_bytes, [-1, 2]))
    factors = op.Reshape(factors, op.Concat(tokens_and_blocks, [2, 8, 1], axis=0))  # [S, b, scale | min, group, 1]
    group_scale = op.Gather(factors, 0, axis=2)
    group_offset = op.Gather(factors, 1, axis=2) * op.Cast(1 - 129 * (bits / 8), to=FLOAT.dtype)

    w = q * group_scale + group_offset
    w_SK = op.Slice(op.Reshape(w, op.Concat(op.Shape(row, end=1), [-1], axis=0)), [0], n_columns, [1])
    return scale * op.Reshape(w_SK, op.Concat(op.Shape(ids), n_columns, axis=0))
