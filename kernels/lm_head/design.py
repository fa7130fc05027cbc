"""The LM head: logits of one position, a projection on `vocab` rows in 4 or 8 bits.

    tiles     32; column c of the array has a run of rows, each of its tiles 16 to 64 of them in a round
    L1, L2, channels, BDs    those of matmul_nbits/design.py, whose program this is
    DDR       vocab · hidden · 0.625 B (8 bits: 1.0625) and 4 vocab: 105 MB (270M), 189 MB (1B), 420 MB (4B)
    roofline  DDR: 4.0 ms (1B) and 8.9 ms (4B) at 47 GB/s

`x` is what the decode design leaves: the hidden state after the final norm, bf16, in a buffer of whole objects. The
logits are fp32 in the order of the vocabulary; the head's rows are dealt so that they need no other order.
"""

from __future__ import annotations

from typing import Any

from ..gemma3_shapes import Gemma3Shape
from ..matmul_nbits.design import Projection, pack_projection, plan_projection, projection

__all__ = ["lm_head", "pack_lm_head", "plan_lm_head"]


def plan_lm_head(shape: Gemma3Shape, bits: int = 4) -> Projection:
    """How the rows of the vocabulary are dealt to the tiles."""
    return plan_projection(shape.vocab, shape.hidden, bits)


def pack_lm_head(plan: Projection, units: Any) -> Any:
    """The head's weights as the design reads them, from units `[vocab/16, hidden/32, bytes]`."""
    return pack_projection(plan, units)


def lm_head(plan: Projection) -> Any:
    """The program: sequence(weights, x, logits)."""
    return projection(plan)
