"""The bytes and operations that no design can do without, and the times that they take at the hardware's rates.

Decoding reads every weight of the plan once a token, the visible keys and values, and nothing else of note.
Prefill multiplies: 2 operations a weight and token, plus attention's two products over the visible pairs.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..gemma3_shapes import Gemma3Shape

WEIGHT_BYTES = {4: 320 / 512, 8: 544 / 512}  # of one weight: a unit is 16 rows x 32 columns
KV_ELEMENT_BYTES = 2  # bf16


@dataclass(frozen=True)
class DecodeBytes:
    """DDR reads of one token, in bytes."""

    layers: float
    head: float
    kv: float

    @property
    def total(self) -> float:
        """All of them."""
        return self.layers + self.head + self.kv


def visible(shape: Gemma3Shape, layer: int, context: int) -> int:
    """Positions that the token after `context` others reads from a layer's cache."""
    return context if shape.is_global(layer) else min(context, shape.window - 1)


def decode_bytes(shape: Gemma3Shape, context: int, head_bits: int = 4) -> DecodeBytes:
    """What one token has to read; padding is not read (kernels/matmul_nbits/packing.py)."""
    row = 2 * shape.kv_heads * shape.head_dim * KV_ELEMENT_BYTES
    return DecodeBytes(
        layers=shape.layers * shape.layer_weights * WEIGHT_BYTES[4],
        head=shape.vocab * shape.hidden * WEIGHT_BYTES[head_bits],
        kv=row * sum(visible(shape, layer, context) for layer in range(shape.layers)),
    )


def visible_pairs(shape: Gemma3Shape, layer: int, tokens: int) -> int:
    """(query, key) pairs of a prompt in a layer, a token seeing itself."""
    reach = tokens if shape.is_global(layer) else min(shape.window, tokens)
    return reach * (reach + 1) // 2 + (tokens - reach) * reach


def prefill_operations(shape: Gemma3Shape, tokens: int) -> float:
    """Multiplications and additions of a prompt; the head is asked once."""
    pairs = sum(visible_pairs(shape, layer, tokens) for layer in range(shape.layers))
    projections = 2.0 * shape.layers * shape.layer_weights * tokens
    return projections + 4.0 * pairs * shape.attention + 2.0 * shape.vocab * shape.hidden
