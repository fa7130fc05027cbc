"""Block-wise round-to-nearest into MatMulNBits' three tensors, byte for byte as onnxruntime's quantiser does it.

Letters: N rows and K columns of a weight, B blocks in a row; K is a multiple of the block size.
"""

from __future__ import annotations

import dataclasses

import numpy as np

__all__ = ["Format", "dequantize", "quantize"]


@dataclasses.dataclass(frozen=True)
class Format:
    """How a weight is quantised; without zero points the zero is in the middle of the codes."""

    bits: int
    block_size: int
    zero_points: bool


def quantize(w_NK: np.ndarray, how: Format, scale_dtype: np.dtype) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Codes u8 [N, B, block_size * bits / 8], scales [N, B] and zero points u8 [N, ceil(B * bits / 8)]."""
    N, K = w_NK.shape
    w_NBk = w_NK.astype(np.float32).reshape(N, K // how.block_size, how.block_size)
    low, high = w_NBk.min(-1), w_NBk.max(-1)
    middle, last = 1 << (how.bits - 1), (1 << how.bits) - 1
    if how.zero_points:
        low, high = np.minimum(low, 0), np.maximum(high, 0)
        scales_NB = ((high - low) / np.float32(last)).astype(scale_dtype)
        zeros_NB = _round(-low / scales_NB.astype(np.float32), last)
    else:
        extreme = np.where(np.abs(high) > np.abs(low), high, low)
        scales_NB = (extreme / np.float32(-middle)).astype(scale_dtype)
        zeros_NB = np.full(scales_NB.shape, middle, np.uint8)
    reciprocal_NB = np.float32(1) / scales_NB.astype(np.float32)
    codes_NBk = _round(w_NBk * reciprocal_NB[..., None] + zeros_NB[..., None].astype(np.float32), last)
    return _pack(codes_NBk, how.bits), scales_NB, _pack(zeros_NB, how.bits)


def dequantize(codes: np.ndarray, scales_NB: np.ndarray, zeros: np.ndarray | None, how: Format) -> np.ndarray:
    """The weight f32 [N, K] that the tensors stand for; `zeros` None is the middle of the codes."""
    N, B = scales_NB.shape
    q_NBk = _unpack(codes.reshape(N, B, -1), how.bits).astype(np.float32)
    zeros_NB = _unpack(zeros.reshape(N, -1), how.bits)[:, :B] if zeros is not None else 1 << (how.bits - 1)
    zero_NB = np.broadcast_to(np.asarray(zeros_NB, np.float32), (N, B))
    w_NBk = (q_NBk - zero_NB[..., None]) * scales_NB.astype(np.float32)[..., None]
    return w_NBk.reshape(N, -1)


def _round(x: np.ndarray, last: int) -> np.ndarray:
    """Halves away from zero, as C's roundf."""
    return np.clip(np.trunc(x + np.copysign(np.float32(0.5), x)), 0, last).astype(np.uint8)


def _pack(codes: np.ndarray, bits: int) -> np.ndarray:
    """Two 4-bit codes to a byte along the last axis, the first one low."""
    if bits == 8:
        return codes
    padded = np.pad(codes, [(0, 0)] * (codes.ndim - 1) + [(0, codes.shape[-1] % 2)])
    return padded[..., ::2] | padded[..., 1::2] << 4


def _unpack(packed: np.ndarray, bits: int) -> np.ndarray:
    if bits == 8:
        return packed
    return np.stack([packed & 15, packed >> 4], -1).reshape(*packed.shape[:-1], -1)
