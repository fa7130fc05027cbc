# mypy: ignore-errors
# The bodies are ONNX Script, a language of its own in Python syntax.
"""Bfloat16(bytes) -> float32: bfloat16 values that lie as bytes inside a weight block.

Opset 23 has no bit cast, so the two bytes of a value are taken apart:

    high = sign 1 bit | exponent 7 upper bits        low = exponent 1 bit | mantissa 7 bits
    value = (-1)^sign * (mantissa + 128 * (exponent > 0)) / 128 * 2^(max(exponent, 1) - 127)

which is exact for every finite value, zero and subnormals included: a zero exponent has no hidden one.
"""

from __future__ import annotations

__all__ = ["Bfloat16"]

from onnxscript import INT32, opset23 as op, script

from ..opset import DOMAIN_OPSET

# Power of two of each exponent byte; the last stands for infinities and NaN, which the writer refuses.
_POWERS = [2.0 ** (max(exponent, 1) - 127) for exponent in range(255)] + [float("inf")]


@script(DOMAIN_OPSET, default_opset=op)
def Bfloat16(bytes):
    """uint8 [..., 2 n], low byte first -> float32 [..., n]."""
    pairs = op.Cast(op.Reshape(bytes, op.Concat(op.Shape(bytes, end=-1), [-1, 2], axis=0)), to=INT32.dtype)
    low, high = op.Split(pairs, axis=-1, num_outputs=2)
    exponent = high % 128 * 2 + low / 128
    hidden_one = op.Where(exponent > 0, 128, 0)
    mantissa = op.Cast(low % 128 + op.CastLike(hidden_one, low), to=1) / 128.0
    sign = op.Cast(1 - high / 128 * 2, to=1)
    value = sign * mantissa * op.Gather(op.Constant(value_floats=_POWERS), exponent)
    return op.Squeeze(value, [-1])
