"""Heads as [1, heads, S, Dh], whichever way a graph holds them."""

from __future__ import annotations

__all__ = ["SWAP_HEADS", "merge_heads", "split_heads"]

import onnx_ir as ir

from .fusion_pass import attribute, integers

SWAP_HEADS = (0, 2, 1, 3)


def split_heads(graph: ir.Graph, tape: ir.tape.Tape, x: ir.Value, heads: int) -> ir.Value:
    """x_BHSD of x [1, S, heads * Dh] whose last size is known.

    Heads that were merged just before are taken from there: no split is written where one can be undone.
    """
    assert x.shape is not None
    rows, width = x.shape[1], x.shape[2]
    assert isinstance(width, int)
    head_dim = width // heads
    merge = x.producer()
    x_BSHD = merge.inputs[0] if merge is not None and (merge.domain, merge.op_type) == ("", "Reshape") else None
    if x_BSHD is not None and x_BSHD.shape == ir.Shape([1, rows, heads, head_dim]):
        swap = x_BSHD.producer()
        if swap is not None and swap.op_type == "Transpose" and tuple(attribute(swap, "perm", ())) == SWAP_HEADS:
            assert swap.inputs[0] is not None
            return swap.inputs[0]
    else:
        shape = integers(graph, [1, -1, heads, head_dim])
        x_BSHD = tape.op("Reshape", [x, shape], output=ir.val(None, x.dtype, ir.Shape([1, rows, heads, head_dim])))
    output = ir.val(None, x.dtype, ir.Shape([1, heads, rows, head_dim]))
    return tape.op("Transpose", [x_BSHD], {"perm": SWAP_HEADS}, output=output)


def merge_heads(graph: ir.Graph, tape: ir.tape.Tape, x_BHSD: ir.Value) -> ir.Value:
    """[1, S, heads * Dh] of x_BHSD, whose sizes are known."""
    assert x_BHSD.shape is not None
    _, heads, rows, head_dim = x_BHSD.shape
    assert isinstance(heads, int) and isinstance(head_dim, int)
    swapped = ir.val(None, x_BHSD.dtype, ir.Shape([1, rows, heads, head_dim]))
    x_BSHD = tape.op("Transpose", [x_BHSD], {"perm": SWAP_HEADS}, output=swapped)
    output = ir.val(None, x_BHSD.dtype, ir.Shape([1, rows, heads * head_dim]))
    return tape.op("Reshape", [x_BSHD, integers(graph, [1, -1, heads * head_dim])], output=output)
