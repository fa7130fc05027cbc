"""The order in which the NPU reads quantised weights: units of 16 rows x 32 columns, whole bursts, no padding.

A block of model.q4nx (32 rows x 256 columns) splits into 2 x 8 units without touching a byte inside of them:

    4 bits, 320 B:  [16 bf16 scale][16 bf16 min][32 columns x 8 B: 16 nibbles, low = even row]
    8 bits, 544 B:  [16 bf16 scale]             [32 columns x 16 int8]

Rows come in *strips* of 16, columns in *groups* of 32; a matrix is `units[strip, group, bytes]`. The columns that a
file adds to reach a multiple of 256 are dropped here (1B: 1152 of 1280 are real), so they cost no bandwidth.
An *object*, what one FIFO slot holds, is 16 units: as many bytes as a block.
"""

from __future__ import annotations

from typing import Any

import numpy as np

Bytes = np.ndarray[Any, np.dtype[np.uint8]]
Floats = np.ndarray[Any, np.dtype[np.float32]]

STRIP_ROWS = 16
GROUP_COLUMNS = 32
UNIT_BYTES = {4: 320, 8: 544}
UNITS_PER_OBJECT = 16
OBJECT_BYTES = {bits: UNITS_PER_OBJECT * size for bits, size in UNIT_BYTES.items()}  # 5120, 8704

_BLOCK_BYTES = {4: 5120, 8: 8704}
_BLOCK_ROWS, _BLOCK_COLUMNS = 32, 256
_HALVES, _GROUPS = _BLOCK_ROWS // STRIP_ROWS, _BLOCK_COLUMNS // GROUP_COLUMNS


def units_of_blocks(blocks: Bytes, rows: int, columns: int, bits: int = 4) -> Bytes:
    """The blocks of a file, `[rows/32 · ceil(columns/256), bytes]`, as `units[rows/16, columns/32, bytes]`."""
    block_rows, block_columns = rows // _BLOCK_ROWS, -(-columns // _BLOCK_COLUMNS)
    expected = (block_rows * block_columns, _BLOCK_BYTES[bits])
    if rows % _BLOCK_ROWS or columns % GROUP_COLUMNS or blocks.shape != expected:
        raise ValueError(
            f"a {rows}x{columns} matrix of {bits} bits is {expected} bytes of blocks; found {blocks.shape}"
        )
    head = 2 if bits == 4 else 1  # scale and min, or scale
    scales = blocks[:, : 512 * head].reshape(-1, head, _GROUPS, _HALVES, 2 * STRIP_ROWS)
    codes = blocks[:, 512 * head :].reshape(-1, _HALVES, _GROUPS, UNIT_BYTES[bits] - 32 * head)
    units = np.concatenate([*(scales[:, i].transpose(0, 2, 1, 3) for i in range(head)), codes], axis=-1)
    units = units.reshape(block_rows, block_columns, _HALVES, _GROUPS, -1).transpose(0, 2, 1, 3, 4)
    units = units.reshape(rows // STRIP_ROWS, block_columns * _GROUPS, -1)
    return np.ascontiguousarray(units[:, : columns // GROUP_COLUMNS])


def quantize_units(weights: Floats, bits: int = 4) -> Bytes:
    """Units of a float matrix `[rows, columns]`: bf16 scale and min first, then codes rounded against them.

    For tests and benches; `convert` quantises models with more care.
    """
    rows, columns = weights.shape
    w = weights.reshape(rows // STRIP_ROWS, STRIP_ROWS, columns // GROUP_COLUMNS, GROUP_COLUMNS).transpose(0, 2, 1, 3)
    if bits == 8:
        scale = _bf16(np.abs(w).max(-1) / 127)
        signed = np.rint(w / np.where(scale, scale, 1)[..., None]).clip(-127, 127).astype(np.int8)
        packed = signed.transpose(0, 1, 3, 2).reshape(*w.shape[:2], -1).view(np.uint8)
        return np.concatenate([_bf16_bytes(scale), packed], axis=-1)
    low, high = w.min(-1), w.max(-1)
    scale, minimum = _bf16((high - low) / 15), _bf16(low)
    safe = np.where(scale, scale, 1)
    codes = np.rint((w - minimum[..., None]) / safe[..., None]).clip(0, 15).astype(np.uint8)
    columns_first = codes.transpose(0, 1, 3, 2)  # rows are the fastest axis
    nibbles = np.asarray(columns_first[..., 0::2] | columns_first[..., 1::2] << 4, np.uint8).reshape(*w.shape[:2], -1)
    return np.concatenate([_bf16_bytes(scale), _bf16_bytes(minimum), nibbles], axis=-1)


def dequantize_units(units: Bytes, bits: int = 4) -> Floats:
    """The float matrix `[rows, columns]` that units stand for."""
    strips, groups, _ = units.shape
    scale = _from_bf16(units[..., :32])
    if bits == 8:
        codes = units[..., 32:].reshape(strips, groups, GROUP_COLUMNS, STRIP_ROWS).view(np.int8).astype(np.float32)
        w = codes * scale[..., None, :]
    else:
        minimum = _from_bf16(units[..., 32:64])
        packed = units[..., 64:].reshape(strips, groups, GROUP_COLUMNS, STRIP_ROWS // 2)
        codes = np.stack([packed & 15, packed >> 4], axis=-1).reshape(strips, groups, GROUP_COLUMNS, STRIP_ROWS)
        w = codes.astype(np.float32) * scale[..., None, :] + minimum[..., None, :]
    return np.ascontiguousarray(w.transpose(0, 3, 1, 2).reshape(strips * STRIP_ROWS, groups * GROUP_COLUMNS))


def whole_objects(units: Bytes, bits: int = 4) -> Bytes:
    """Units in the order given, filled up with zero units (which add nothing) to whole objects: `[objects, bytes]`."""
    flat = units.reshape(-1, UNIT_BYTES[bits])
    missing = -len(flat) % UNITS_PER_OBJECT
    if missing:
        flat = np.concatenate([flat, np.zeros((missing, UNIT_BYTES[bits]), np.uint8)])
    return flat.reshape(-1, OBJECT_BYTES[bits])


def _bf16(x: Floats) -> Floats:
    return _from_bf16(_bf16_bytes(x))


def _bf16_bytes(x: Floats) -> Bytes:
    """Round to nearest even; two bytes a value along the last axis."""
    word = np.ascontiguousarray(x, dtype=np.float32).view(np.uint32)
    return ((word + 0x7FFF + ((word >> 16) & 1)) >> 16).astype(np.uint16).view(np.uint8)


def _from_bf16(raw: Bytes) -> Floats:
    words = np.ascontiguousarray(raw).view(np.uint16).astype(np.uint32) << 16
    return words.view(np.float32)
