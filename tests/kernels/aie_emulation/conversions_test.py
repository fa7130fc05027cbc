"""Conversions between the core's number formats, in every rounding and saturation mode."""

from __future__ import annotations

import numpy as np
import pytest

from kernels.aie_emulation.host_library import bfloat16_bits, bfloat16_values

from .probing import NONE, ROUNDING, SATURATE, SYMMETRIC, Array, Core, flush, round_integer, to_bf16

MODES = tuple(ROUNDING)


def _floats(seed: int = 0) -> Array:
    """64 numbers: random ones over the range, ties between neighbours of bf16, both ends, what is not a number."""
    rng = np.random.default_rng(seed)
    random = (rng.standard_normal(40) * np.exp2(rng.integers(-60, 60, 40))).astype(np.float32)
    ties = np.array([1 + 2**-8, 1 + 3 * 2**-8, 1.5 + 2**-8, 255.5, 2.0**-100 * (1 + 2**-8)], np.float32)
    ends = np.array([0.0, 3.4e38, 3.38e38, 1e-40, 1.2e-38, np.inf, np.nan], np.float32)
    return np.concatenate([random, ties, -ties, ends, -ends])


@pytest.mark.parametrize("mode", MODES)
def test_fp32_to_bf16(mode: str) -> None:
    x = _floats()
    y = bfloat16_values(Core(mode)("float_to_bf16", x, out=(64, np.uint16)))
    assert np.array_equal(y, to_bf16(x, mode), equal_nan=True)
    assert np.array_equal(np.signbit(y), np.signbit(x))


def test_power_up_is_floor() -> None:
    core = Core()
    core.library.reset_core()
    y = bfloat16_values(core("float_to_bf16", _floats(), out=(64, np.uint16)))
    assert np.array_equal(y, to_bf16(_floats(), "floor"), equal_nan=True)


def test_scalar_conversion_is_the_compilers() -> None:
    y = bfloat16_values(Core("floor")("scalar_to_bf16", _floats(), out=(64, np.uint16)))
    assert np.array_equal(y, to_bf16(_floats(), "conv_even"), equal_nan=True)


def test_bf16_to_fp32_is_exact() -> None:
    x = bfloat16_bits(_floats())
    assert np.array_equal(Core()("bf16_to_float", x, out=(64, np.float32)), bfloat16_values(x), equal_nan=True)


@pytest.mark.parametrize("mode", MODES)
def test_fp32_to_bfp16(mode: str) -> None:
    """The largest exponent is shared; mantissas of 8 bits round by the mode and stop at 127."""
    rng = np.random.default_rng(1)
    x = (rng.standard_normal((8, 8)) * np.exp2(rng.integers(-12, 12, (8, 8)))).astype(np.float32)
    x[0] = [1, -1, 1.984375, 1.9921875, -1.9921875, 1.9999999, -1.9999999, 1 / 128]  # the carry past 127, ties
    x[1] = [64.5, 0.5, -0.5, 1.5, -1.5, 2.5, -2.5, 1e-9]
    x[2] = 0
    x[3, :4] = [1e-40, 1e-38 * 1.2, 0, -1e-40]
    raw = Core(mode)("float_to_bfp16", x.reshape(64), out=(72, np.uint8)).reshape(8, 9)
    exponent = np.frexp(np.abs(flush(x)).max(-1).astype(np.float64))[1] - 1
    exponent = np.where(flush(x).any(-1), exponent, -127)
    assert np.array_equal(raw[:, 0], exponent + 127)
    scaled = np.ldexp(flush(x).astype(np.float64), 6 - exponent[:, None])
    assert np.array_equal(raw[:, 1:].view(np.int8), np.minimum(round_integer(scaled, mode), 127))


def test_bfp16_to_fp32_is_exact() -> None:
    rng = np.random.default_rng(2)
    raw = rng.integers(0, 256, (8, 9)).astype(np.uint8)
    raw[:, 0] = rng.integers(20, 230, 8)
    expected = np.ldexp(raw[:, 1:].view(np.int8).astype(np.float64), raw[:, :1].astype(int) - 133)
    assert np.array_equal(Core()("bfp16_to_float", raw.reshape(72), out=(64, np.float32)), expected.reshape(64))


def test_a_bfp16_block_with_infinity_is_not_a_number() -> None:
    x = np.ones(64, np.float32)
    x[3] = np.inf
    raw = Core()("float_to_bfp16", x, out=(72, np.uint8))
    y = Core()("bfp16_to_float", raw, out=(64, np.float32))
    assert np.isnan(y[[0, 1, 2, 4]]).all()
    assert np.array_equal(y[8:], np.ones(56))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("saturation", [NONE, SATURATE, SYMMETRIC])
@pytest.mark.parametrize(
    "name, dtype",
    [
        ("srs_acc32_int8", np.int8),
        ("srs_acc32_uint8", np.uint8),
        ("srs_acc32_int16", np.int16),
        ("srs_acc32_uint16", np.uint16),
        ("srs_acc64_int16", np.int16),
        ("srs_acc64_int32", np.int32),
    ],
)
def test_shift_round_saturate(name: str, dtype: type, saturation: int, mode: str) -> None:
    rng = np.random.default_rng(3)
    ties = np.array([8, -8, 24, -24, 40, -40, 7, -7, 9, -9, 0, 2**31 - 1, -(2**31), 2040, -2056, 2048])  # /16: halves
    x = np.concatenate([rng.integers(-(2**31), 2**31, 16), rng.integers(-3000, 3000, 32), ties]).astype(np.int32)
    for shift in (0, 4, 12):
        exact = round_integer(x.astype(np.float64) / 2**shift, mode).astype(np.int64)
        info = np.iinfo(dtype)
        low = -info.max if saturation == SYMMETRIC and info.min < 0 else info.min
        expected = exact if saturation == NONE else exact.clip(low, info.max)
        y = Core(mode, saturation)(name, x, shift, out=(64, dtype))
        assert np.array_equal(y, expected.astype(dtype)), f"shift {shift}"


def test_ups() -> None:
    rng = np.random.default_rng(4)
    x16, x8 = rng.integers(-(2**15), 2**15, 64).astype(np.int16), rng.integers(0, 256, 64).astype(np.uint8)
    assert np.array_equal(Core()("ups_int16", x16, 6, out=(64, np.int32)), x16.astype(np.int32) << 6)
    assert np.array_equal(Core()("ups_uint8", x8, 3, out=(64, np.int32)), x8.astype(np.int32) << 3)
    nibbles = rng.integers(0, 256, 32).astype(np.uint8)
    signed = (np.stack([nibbles & 15, nibbles >> 4], -1).reshape(64).astype(int) ^ 8) - 8
    assert np.array_equal(Core()("ups_int4", nibbles, out=(64, np.int32)), signed)


def test_fp32_lanes_pass_through_integer_accumulators() -> None:
    x = _floats()
    y = Core("floor")("float_bits_through_acc32", x, out=(64, np.float32))
    assert np.array_equal(y.view(np.uint32), x.view(np.uint32))


def test_integers_to_fp32() -> None:
    rng = np.random.default_rng(5)
    x = rng.integers(-(2**15), 2**15, 64).astype(np.int16)
    for shift in (0, 5, -3):
        assert np.array_equal(
            Core()("to_float_int16", x, shift, out=(64, np.float32)), np.ldexp(x.astype(float), -shift)
        )
    u = rng.integers(0, 256, 64).astype(np.uint8)
    assert np.array_equal(Core()("to_float_uint8", u, 0, out=(64, np.float32)), u)
    expected = np.stack([u[:32] & 15, u[:32] >> 4], -1).reshape(64)
    assert np.array_equal(Core()("to_float_uint4", u[:32], 0, out=(64, np.float32)), expected)


def test_bf16_to_integers_is_floor_whatever_the_mode() -> None:
    x = bfloat16_bits(_floats(6))
    values = bfloat16_values(x).astype(np.float64)
    for shift in (0, 4, 28):
        exact = np.floor(np.ldexp(np.where(np.isnan(values), 0, flush(values)).astype(np.float64), shift)).clip(
            -(2**31), 2**31 - 1
        )
        y = Core("ceil")("to_fixed_int32", x, shift, out=(64, np.int32))
        assert np.array_equal(y, exact.astype(np.int64).astype(np.int32))
        low = Core("ceil")("to_fixed_int16", x, shift, out=(64, np.int16))
        assert np.array_equal(low, exact.astype(np.int64).astype(np.int32).astype(np.int16))


def test_packing() -> None:
    rng = np.random.default_rng(7)
    raw = rng.integers(0, 256, 64).astype(np.uint8)
    nibbles = np.stack([raw & 15, raw >> 4], -1).reshape(128)
    assert np.array_equal(Core()("unpack_uint4", raw, out=(128, np.uint8)), nibbles)
    assert np.array_equal(Core()("unpack_int4", raw, out=(128, np.int8)), (nibbles.astype(int) ^ 8) - 8)
    assert np.array_equal(Core()("unpack_int8", raw.view(np.int8), out=(64, np.int16)), raw.view(np.int8))
    assert np.array_equal(Core()("unpack_uint8_signed", raw, out=(64, np.int16)), raw.view(np.int8))
    assert np.array_equal(Core()("cast_uint8_to_uint4", raw, out=(128, np.uint8)), nibbles)
    wide = rng.integers(-400, 400, 64).astype(np.int16)
    assert np.array_equal(Core(saturation=NONE)("pack_int16", wide, out=(64, np.int8)), wide.astype(np.int8))
    assert np.array_equal(Core(saturation=SATURATE)("pack_int16", wide, out=(64, np.int8)), wide.clip(-128, 127))
    packed = Core(saturation=NONE)("pack_uint8", nibbles, out=(64, np.uint8))
    assert np.array_equal(packed, raw)
    floats = _floats()[:32]
    assert np.array_equal(Core()("cast_float_to_int16", floats, out=(64, np.int16)), floats.view(np.int16))
