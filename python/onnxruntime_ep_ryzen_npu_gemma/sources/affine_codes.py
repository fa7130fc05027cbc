"""4-bit codes that a file already holds, in the form of Q4NX: w = scale * q + min, q in 0..15, groups of 32 columns.

GGUF's Q4_0, Q4_1 and Q4_K have that form, so their codes are kept when a model is converted: a second quantisation
would lose more than rounding scale and minimum to bfloat16 does. Layouts of a row's blocks (llama.cpp, ggml-common.h):

    Q4_0   18 bytes for 32 weights: f16 d; 16 bytes, low nibbles are weights 0..15, high ones 16..31; w = d (q - 8)
    Q4_1   20 bytes for 32 weights: f16 d, f16 m; nibbles as above; w = d q + m
    Q4_K  144 bytes for 256 weights: f16 d, f16 dmin; 12 bytes with a 6-bit scale and minimum for each of 8 groups; 128
          bytes, 32 for each pair of groups, low nibbles the first of the pair; w = d scale q - dmin minimum
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from gguf.constants import GGMLQuantizationType

__all__ = ["DECODERS", "AffineCodes"]


class AffineCodes(NamedTuple):
    """A matrix of codes; G = K / 32.

    Attributes:
        scale_NG, min_NG: float32, not yet rounded to bfloat16.
        q_NK: uint8, 0..15.
    """

    scale_NG: np.ndarray
    min_NG: np.ndarray
    q_NK: np.ndarray


def _q4_0(rows: np.ndarray) -> AffineCodes:
    blocks_NGb = rows.reshape(len(rows), -1, 18)
    scale_NG = _f16(blocks_NGb, 0)
    return AffineCodes(scale_NG, -8 * scale_NG, _nibbles(blocks_NGb[..., 2:]))


def _q4_1(rows: np.ndarray) -> AffineCodes:
    blocks_NGb = rows.reshape(len(rows), -1, 20)
    return AffineCodes(_f16(blocks_NGb, 0), _f16(blocks_NGb, 2), _nibbles(blocks_NGb[..., 4:]))


def _q4_k(rows: np.ndarray) -> AffineCodes:
    N = len(rows)
    blocks_NBb = rows.reshape(N, -1, 144)
    packed = blocks_NBb[..., 4:16]
    low, middle, high = packed[..., :4], packed[..., 4:8], packed[..., 8:]
    scales = np.concatenate([low & 63, (high & 15) | (low >> 6 << 4)], axis=-1)
    minima = np.concatenate([middle & 63, (high >> 4) | (middle >> 6 << 4)], axis=-1)
    scale_NG = (_f16(blocks_NBb, 0)[..., None] * scales).reshape(N, -1)
    min_NG = -(_f16(blocks_NBb, 2)[..., None] * minima).reshape(N, -1)
    return AffineCodes(scale_NG, min_NG, _nibbles(blocks_NBb[..., 16:].reshape(N, -1, 32)))


def _f16(blocks: np.ndarray, offset: int) -> np.ndarray:
    """The half at `offset` of each block, as float32."""
    return np.ascontiguousarray(blocks[..., offset : offset + 2]).view("<f2")[..., 0].astype(np.float32)


def _nibbles(pairs: np.ndarray) -> np.ndarray:
    """Bytes [N, blocks, n] to codes [N, K]: the low nibbles of a block, then its high ones."""
    return np.concatenate([pairs & 15, pairs >> 4], axis=-1).reshape(len(pairs), -1)


DECODERS: dict[GGMLQuantizationType, Callable[[np.ndarray], AffineCodes]] = {
    GGMLQuantizationType.Q4_0: _q4_0,
    GGMLQuantizationType.Q4_1: _q4_1,
    GGMLQuantizationType.Q4_K: _q4_k,
}
