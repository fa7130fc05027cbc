"""The Q4NX weight format: quantise, pack, unpack, dequantise.

A matrix w_NK (row = output, column = input) is cut into blocks of 32 rows x 256 columns, stored row-major over
(N/32, K/256); K is padded to 256 and N to 32 with zero scale and zero minimum. A group is 32 columns of one row.

    bits = 4, 5120 bytes, w = scale * q + min, q in 0..15
      [0, 512)      bf16 scale, index = g * 32 + r        g = column / 32 in 0..7, r = row in 0..31
      [512, 1024)   bf16 min, same index
      [1024, 5120)  byte 1024 + (r / 16) * 2048 + c * 8 + (r % 16) / 2 ; low nibble = even row, high nibble = odd row

    bits = 8, 8704 bytes, w = scale * code, code is int8
      [0, 512)      bf16 scale, index = g * 32 + r
      [512, 8704)   byte 512 + (r / 16) * 4096 + c * 16 + r % 16

The bf16 scale and minimum are chosen first and the codes are rounded against them, so what is lost is the rounding of
the code alone. `scale * q` is exact in float32, so w has one rounding, with or without a fused multiply-add.

Arrays in block order are named by their axes: B row block, b column block, g group, c column, r row of the block.
The C++ twin is kernels/q4nx.h; tests/shared_facts_test.py compares the two.
"""

from __future__ import annotations

__all__ = [
    "BLOCK_BYTES",
    "BLOCK_COLS",
    "BLOCK_ROWS",
    "GROUP_SIZE",
    "block_count",
    "check_grids",
    "check_matrix",
    "dequantize",
    "from_bfloat16",
    "pack",
    "quantize_rtn",
    "to_bfloat16",
    "unpack",
]

import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

BLOCK_ROWS = 32
BLOCK_COLS = 256
GROUP_SIZE = 32
GROUPS_PER_BLOCK = BLOCK_COLS // GROUP_SIZE
SCALE_OFFSET = 0
MIN_OFFSET = 512  # bits = 4
NIBBLE_OFFSET = 1024  # bits = 4
CODE_OFFSET = 512  # bits = 8
BLOCK_BYTES = {4: 5120, 8: 8704}

_SLAB_ELEMENTS = 1 << 20  # 4 MiB of float32: a slab and its codes stay in cache

FloatArray = npt.NDArray[np.float32]
ByteArray = npt.NDArray[np.uint8]
Bfloat16Bits = npt.NDArray[np.uint16]
AnyArray = npt.NDArray[Any]

if sys.byteorder != "little":
    raise ImportError("q4nx: blocks are little-endian and read in place; this machine is big-endian")


def block_count(N: int, K: int) -> int:
    """Number of blocks of a matrix w_NK, its padding included."""
    return -(-N // BLOCK_ROWS) * -(-K // BLOCK_COLS)


def to_bfloat16(x: npt.NDArray[np.floating]) -> Bfloat16Bits:
    """Rounds floats to bfloat16, to nearest even; returns the bit patterns (uint16, same shape)."""
    x = np.ascontiguousarray(x, np.float32)
    bits = x.view(np.uint32)
    rounded = ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)
    return np.where(np.isnan(x), np.uint16(0x7FC0), rounded)


def from_bfloat16(bits: Bfloat16Bits) -> FloatArray:
    """Widens bfloat16 bit patterns (uint16) to float32, same shape."""
    return (bits.astype(np.uint32) << 16).view(np.float32)


def quantize_rtn(w_NK: npt.NDArray[np.floating], bits: int = 4) -> ByteArray:
    """Quantises a matrix, each group to its own range, each code to the nearest.

    Args:
        w_NK: float [N, K], any strides, K a multiple of 32; converted to float32 slab by slab.
        bits: 4 (scale and minimum, unsigned codes) or 8 (scale, signed codes).

    Returns:
        Blocks, uint8 [block_count(N, K), BLOCK_BYTES[bits]].

    Raises:
        ValueError: a weight is NaN or infinite, a group's range does not fit bfloat16, bad shape, bad `bits`.
    """
    if bits not in BLOCK_BYTES:
        raise ValueError(f"q4nx: bits is {bits}; it must be one of {sorted(BLOCK_BYTES)}")
    check_matrix(w_NK)
    N, K = w_NK.shape
    blocks = np.empty((block_count(N, K), BLOCK_BYTES[bits]), np.uint8)
    for rows, slab in _slabs(N, K):
        w_BbgcR = _to_block_order(w_NK[rows], np.float32)
        with np.errstate(invalid="ignore", over="ignore"):
            scale, minimum, codes = (_quantize4 if bits == 4 else _quantize8)(w_BbgcR)
        check_grids(w_NK[rows], from_bfloat16(scale), from_bfloat16(minimum), rows.start)
        _write_blocks(blocks[slab], scale, minimum, codes)
    return blocks


def pack(scale_NG: Bfloat16Bits, min_NG: Bfloat16Bits | None, q_NK: npt.NDArray[np.integer]) -> ByteArray:
    """Lays scales, minima and codes out as Q4NX blocks.

    Args:
        scale_NG: bfloat16 bits, uint16 [N, ceil(K / 32)].
        min_NG: the same for the minima; None means the 8-bit form.
        q_NK: codes [N, K]: 0..15, or int8 in the 8-bit form.

    Returns:
        Blocks, uint8 [block_count(N, K), 5120 | 8704]; the padding has zero scale, minimum and code.
    """
    N, K = q_NK.shape
    bits = 8 if min_NG is None else 4
    blocks = np.empty((block_count(N, K), BLOCK_BYTES[bits]), np.uint8)
    for rows, slab in _slabs(N, K):
        scale = _groups_to_block_order(scale_NG[rows], K)
        minimum = _groups_to_block_order(min_NG[rows], K) if min_NG is not None else scale
        codes = _to_block_order(q_NK[rows], np.uint8 if bits == 4 else np.int8)
        _write_blocks(blocks[slab], scale, minimum, codes)
    return blocks


def unpack(blocks: ByteArray, N: int, K: int) -> tuple[Bfloat16Bits, Bfloat16Bits | None, npt.NDArray[np.integer]]:
    """The inverse of `pack`: (scale_NG, min_NG or None, q_NK), the padding removed."""
    bits = _bits_of(blocks, N, K)
    groups = -(-K // GROUP_SIZE)
    scale_NG = np.empty((N, groups), np.uint16)
    min_NG = np.empty((N, groups), np.uint16) if bits == 4 else None
    q_NK = np.empty((N, K), np.uint8 if bits == 4 else np.int8)
    for rows, slab in _slabs(N, K):
        scale, minimum, codes = _read_blocks(blocks[slab], K)
        scale_NG[rows] = _groups_from_block_order(scale)[: len(scale_NG[rows]), :groups]
        if min_NG is not None:
            min_NG[rows] = _groups_from_block_order(minimum)[: len(min_NG[rows]), :groups]
        q_NK[rows] = _from_block_order(codes)[: len(q_NK[rows]), :K]
    return scale_NG, min_NG, q_NK


def dequantize(blocks: ByteArray, N: int, K: int) -> FloatArray:
    """The weights that the blocks stand for.

    Args:
        blocks: uint8 [block_count(N, K), 5120 | 8704]; the width tells the number of bits.
        N: rows of the matrix, without padding.
        K: columns of the matrix, without padding.

    Returns:
        w_NK, float32 [N, K].

    Raises:
        ValueError: the blocks do not have that shape.
    """
    bits = _bits_of(blocks, N, K)
    w_NK = np.empty((N, K), np.float32)
    for rows, slab in _slabs(N, K):
        scale, minimum, codes = _read_blocks(blocks[slab], K)
        w_BbgcR = codes.astype(np.float32)
        w_BbgcR *= from_bfloat16(scale)[:, :, :, None]
        if bits == 4:
            w_BbgcR += from_bfloat16(minimum)[:, :, :, None]
        w_NK[rows] = _from_block_order(w_BbgcR)[: len(w_NK[rows]), :K]
    return w_NK


# ---------------------------------------------------------------------------------------------------------------- codes


def _quantize4(w_BbgcR: FloatArray) -> tuple[Bfloat16Bits, Bfloat16Bits, ByteArray]:
    low, high = w_BbgcR.min(axis=3), w_BbgcR.max(axis=3)
    scale, minimum = to_bfloat16((high - low) / np.float32(15)), to_bfloat16(low)
    w_BbgcR -= from_bfloat16(minimum)[:, :, :, None]
    w_BbgcR /= _divisor(scale)
    np.rint(w_BbgcR, out=w_BbgcR)
    np.clip(w_BbgcR, 0, 15, out=w_BbgcR)
    return scale, minimum, w_BbgcR.astype(np.uint8)


def _quantize8(w_BbgcR: FloatArray) -> tuple[Bfloat16Bits, Bfloat16Bits, npt.NDArray[np.int8]]:
    scale = to_bfloat16(np.abs(w_BbgcR).max(axis=3) / np.float32(127))
    w_BbgcR /= _divisor(scale)
    np.rint(w_BbgcR, out=w_BbgcR)
    np.clip(w_BbgcR, -127, 127, out=w_BbgcR)
    return scale, scale, w_BbgcR.astype(np.int8)


def _divisor(scale: Bfloat16Bits) -> FloatArray:
    """The scales, broadcast over a group's columns; 1 where the scale is zero (all its codes are zero then)."""
    divisor = from_bfloat16(scale)[:, :, :, None]
    return np.where(divisor == 0, np.float32(1), divisor)


# --------------------------------------------------------------------------------------------------------------- layout


def _slabs(N: int, K: int) -> Iterator[tuple[slice, slice]]:
    """Row ranges that bound the memory, and the blocks each makes: (rows of w, rows of blocks)."""
    block_cols = -(-K // BLOCK_COLS)
    step = max(1, _SLAB_ELEMENTS // (BLOCK_ROWS * BLOCK_COLS * block_cols))
    for first in range(0, -(-N // BLOCK_ROWS), step):
        last = first + step
        yield slice(first * BLOCK_ROWS, last * BLOCK_ROWS), slice(first * block_cols, last * block_cols)


def _to_block_order(x_NK: AnyArray, dtype: npt.DTypeLike) -> AnyArray:
    """[N, K] -> [B, b, 8 groups, 32 columns, 32 rows], zero-padded, contiguous: the order of the file's codes."""
    N, K = x_NK.shape
    row_blocks, col_blocks = -(-N // BLOCK_ROWS), -(-K // BLOCK_COLS)
    padded = x_NK
    padded_shape = (row_blocks * BLOCK_ROWS, col_blocks * BLOCK_COLS)
    if x_NK.shape != padded_shape:
        padded = np.zeros(padded_shape, dtype)
        padded[:N, :K] = x_NK
    tiles = padded.reshape(row_blocks, BLOCK_ROWS, col_blocks, GROUPS_PER_BLOCK, GROUP_SIZE)
    return tiles.transpose(0, 2, 3, 4, 1).astype(dtype, order="C")


def _from_block_order(x_BbgcR: AnyArray) -> AnyArray:
    row_blocks, col_blocks = x_BbgcR.shape[:2]
    return x_BbgcR.transpose(0, 4, 1, 2, 3).reshape(row_blocks * BLOCK_ROWS, col_blocks * BLOCK_COLS)


def _groups_to_block_order(x_NG: Bfloat16Bits, K: int) -> Bfloat16Bits:
    """[N, G] -> [B, b, 8 groups, 32 rows], zero-padded: the order of the file's scales."""
    row_blocks, col_blocks = -(-len(x_NG) // BLOCK_ROWS), -(-K // BLOCK_COLS)
    padded = np.zeros((row_blocks * BLOCK_ROWS, col_blocks * GROUPS_PER_BLOCK), np.uint16)
    padded[: len(x_NG), : x_NG.shape[1]] = x_NG
    return padded.reshape(row_blocks, BLOCK_ROWS, col_blocks, GROUPS_PER_BLOCK).transpose(0, 2, 3, 1)


def _groups_from_block_order(x_BbgR: Bfloat16Bits) -> Bfloat16Bits:
    row_blocks, col_blocks = x_BbgR.shape[:2]
    return x_BbgR.transpose(0, 3, 1, 2).reshape(row_blocks * BLOCK_ROWS, col_blocks * GROUPS_PER_BLOCK)


def _write_blocks(blocks: ByteArray, scale: Bfloat16Bits, minimum: Bfloat16Bits, codes: AnyArray) -> None:
    """Fills blocks [n, 5120 | 8704] from scale, minimum [B, b, g, r] and codes [B, b, g, c, r]."""
    n = len(blocks)
    blocks[:, SCALE_OFFSET : SCALE_OFFSET + 512] = np.ascontiguousarray(scale).view(np.uint8).reshape(n, 512)
    halves = codes.view(np.uint8).reshape(n, BLOCK_COLS, 2, 16)
    if blocks.shape[1] == BLOCK_BYTES[8]:
        blocks[:, CODE_OFFSET:].reshape(n, 2, BLOCK_COLS, 16)[:] = halves.transpose(0, 2, 1, 3)
        return
    blocks[:, MIN_OFFSET : MIN_OFFSET + 512] = np.ascontiguousarray(minimum).view(np.uint8).reshape(n, 512)
    pairs = halves.view("<u2")  # low byte = even row, high byte = odd row
    nibbles = (pairs | (pairs >> 4)).astype(np.uint8)
    blocks[:, NIBBLE_OFFSET:].reshape(n, 2, BLOCK_COLS, 8)[:] = nibbles.transpose(0, 2, 1, 3)


def _read_blocks(blocks: ByteArray, K: int) -> tuple[Bfloat16Bits, Bfloat16Bits, AnyArray]:
    """The inverse of `_write_blocks`."""
    n = len(blocks)
    col_blocks = -(-K // BLOCK_COLS)
    groups = (n // col_blocks, col_blocks, GROUPS_PER_BLOCK, BLOCK_ROWS)
    columns = (n // col_blocks, col_blocks, GROUPS_PER_BLOCK, GROUP_SIZE, BLOCK_ROWS)
    scale = blocks[:, SCALE_OFFSET : SCALE_OFFSET + 512].copy().view(np.uint16).reshape(groups)
    if blocks.shape[1] == BLOCK_BYTES[8]:
        halves = blocks[:, CODE_OFFSET:].reshape(n, 2, BLOCK_COLS, 16)
        return scale, scale, halves.transpose(0, 2, 1, 3).copy().view(np.int8).reshape(columns)
    minimum = blocks[:, MIN_OFFSET : MIN_OFFSET + 512].copy().view(np.uint16).reshape(groups)
    nibbles = blocks[:, NIBBLE_OFFSET:].reshape(n, 2, BLOCK_COLS, 8).transpose(0, 2, 1, 3)
    codes = np.empty((*nibbles.shape, 2), np.uint8)
    np.bitwise_and(nibbles, 15, out=codes[..., 0])
    np.right_shift(nibbles, 4, out=codes[..., 1])
    return scale, minimum, codes.reshape(columns)


# --------------------------------------------------------------------------------------------------------------- checks


def check_matrix(w_NK: AnyArray) -> None:
    """Raises ValueError for weights of a shape that cannot be quantised."""
    if w_NK.ndim != 2 or 0 in w_NK.shape:
        raise ValueError(f"q4nx: weights of shape {w_NK.shape}; a non-empty matrix [N, K] is needed")
    if w_NK.shape[1] % GROUP_SIZE:
        raise ValueError(f"q4nx: K is {w_NK.shape[1]}; it must be a multiple of {GROUP_SIZE}, the group size")


def check_grids(w_NK: AnyArray, scale: FloatArray, minimum: FloatArray, first_row: int) -> None:
    """Raises ValueError if scales or minima that were chosen for these rows of a matrix are not finite."""
    if np.isfinite(scale).all() and np.isfinite(minimum).all():
        return
    raise ValueError(
        f"q4nx: weights of rows {first_row}..{first_row + len(w_NK) - 1} cannot be quantised: "
        f"{_worst(w_NK, first_row)}; check the source model"
    )


def _bits_of(blocks: ByteArray, N: int, K: int) -> int:
    for bits, width in BLOCK_BYTES.items():
        if blocks.dtype == np.uint8 and blocks.shape == (block_count(N, K), width):
            return bits
    raise ValueError(
        f"q4nx: blocks are {blocks.dtype} {blocks.shape}; a matrix [{N}, {K}] has uint8 "
        f"[{block_count(N, K)}, 5120] in 4 bits and [{block_count(N, K)}, 8704] in 8"
    )


def _worst(w_NK: AnyArray, first_row: int) -> str:
    bad = np.argwhere(~np.isfinite(w_NK))
    if len(bad):
        row, column = bad[0]
        return f"w[{first_row + row}, {column}] is {w_NK[row, column]}"
    return f"values reach {float(np.abs(w_NK).max()):g}, too large for a bfloat16 scale"
