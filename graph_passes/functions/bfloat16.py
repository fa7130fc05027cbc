"""Bfloat16(bytes): bfloat16 values that lie as bytes inside a weight block.

Opset 23 has no bit cast, so a value is taken apart. With the low byte first,

    byte0 / 128 + 2 * byte1 = (sign and exponent, 9 bits) + (mantissa, 7 bits) / 128
    value                   = (-1)^sign * 2^(max(exponent, 1) - 127) * ((exponent > 0) + mantissa / 128)

which is exact for every finite value, zero and subnormals included: a zero exponent has no hidden one.
"""

from __future__ import annotations

__all__ = ["Bfloat16"]

from onnxscript import FLOAT, INT32, opset23 as op, script

from ..opset import DOMAIN_OPSET

# The last exponent stands for infinities and NaN, which the writer refuses.
_MAGNITUDES = [2.0 ** (max(exponent, 1) - 127) for exponent in range(255)] + [float("inf")]
_POWERS = [sign * magnitude for sign in (1.0, -1.0) for magnitude in _MAGNITUDES]  # by sign and exponent


@script(DOMAIN_OPSET, default_opset=op)
def Bfloat16(bytes):
    """Widens: uint8 [n, 2], low byte first -> float32 [n]."""
    weights = op.Reshape(op.Constant(value_floats=[0.0078125, 2.0]), [2, 1])
    x = op.Squeeze(op.MatMul(op.Cast(bytes, to=FLOAT.dtype), weights), [1])
    upper = op.Floor(x)
    exponent = upper - 256.0 * op.Floor(upper / 256.0)
    power = op.Gather(op.Constant(value_floats=_POWERS), op.Cast(upper, to=INT32.dtype))
    return power * (x - upper + op.Min(exponent, 1.0))
