"""Bfloat16Table() -> float32 [65536]: the value of every bfloat16 bit pattern.

Opset 23 has no bit cast: the scales of a weight block, which lie there as bytes, are looked up here by byte0 + 256 * byte1.

    word = sign 1 bit | exponent 8 bits | mantissa 7 bits
    value = (-1)^sign * (mantissa + 128 * (exponent > 0)) / 128 * 2^(max(exponent, 1) - 127)

which is exact for every finite value, zero and subnormals included: a zero exponent has no hidden one. A runtime folds the
table to a constant when it loads a model.
"""

from __future__ import annotations

__all__ = ["Bfloat16Table"]

from onnxscript import FLOAT, opset23 as op, script

from ..opset import DOMAIN_OPSET

# Power of two of each exponent byte; the last stands for infinities and NaN, which the writer refuses.
_POWERS = [2.0 ** (max(exponent, 1) - 127) for exponent in range(255)] + [float("inf")]


@script(DOMAIN_OPSET, default_opset=op)
def Bfloat16Table():
    """The float32 value of each of the 65536 bfloat16 bit patterns."""
    word = op.Range(0, 65536, 1)
    exponent = word / 128 % 256
    mantissa = word % 128 + op.Where(exponent > 0, 128, 0)
    sign = 1 - word / 32768 * 2
    power = op.Gather(op.Constant(value_floats=_POWERS), exponent)
    return op.Cast(sign * mantissa, to=FLOAT.dtype) / 128.0 * power
