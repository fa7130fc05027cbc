"""Multiplication, addition, reduction, comparison and bits, against numpy."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from kernels.aie_emulation.host_library import bfloat16_bits, bfloat16_values

from .probing import Array, Core, flush, to_bf16


def _bf16(seed: int, specials: bool = True) -> Array:
    rng = np.random.default_rng(seed)
    x = rng.standard_normal(64) * np.exp2(rng.integers(-20, 20, 64))
    if specials:
        x[:8] = [0, -0.0, np.inf, -np.inf, np.nan, 1e-39, 3e38, -3e38]
        rng.shuffle(x)
    return to_bf16(x)


def _fp32(seed: int) -> Array:
    rng = np.random.default_rng(seed)
    return (rng.standard_normal(64) * np.exp2(rng.integers(-20, 20, 64))).astype(np.float32)


@pytest.mark.filterwarnings("ignore:.*encountered:RuntimeWarning")
@pytest.mark.parametrize(
    "name, expected",
    [
        ("mul_bf16", lambda a, b: flush(flush(a) * flush(b))),
        ("negmul_bf16", lambda a, b: flush(-flush(a) * flush(b))),
        ("mul_bf16_scalar", lambda a, b: flush(flush(a) * flush(b)[3])),
        ("add_accum_bf16", lambda a, b: flush(flush(flush(a) * flush(a)) + flush(b))),
        ("sub_accum_bf16", lambda a, b: flush(flush(flush(a) * flush(a)) - flush(b))),
    ],
)
def test_bf16_products_are_exact_and_sums_round_once(name: str, expected: Callable[[Array, Array], Array]) -> None:
    a, b = _bf16(0), _bf16(1)
    y = Core("floor")(name, bfloat16_bits(a), bfloat16_bits(b), out=(64, np.float32))
    assert np.array_equal(y, expected(a, b), equal_nan=True)


@pytest.mark.filterwarnings("ignore:.*encountered:RuntimeWarning")
@pytest.mark.parametrize("name, sign", [("mac_bf16", 1), ("msc_bf16", -1)])
def test_multiply_accumulate(name: str, sign: int) -> None:
    a, b, c = _bf16(2), _bf16(3), _fp32(4)
    y = Core()(name, c, bfloat16_bits(a), bfloat16_bits(b), out=(64, np.float32))
    assert np.array_equal(y, flush(c + np.float32(sign) * flush(flush(a) * flush(b))), equal_nan=True)


@pytest.mark.parametrize("mode", ["floor", "conv_even"])
@pytest.mark.parametrize("name, sign", [("add_bf16", 1), ("sub_bf16", -1)])
def test_bf16_sums_round_by_the_register(name: str, sign: int, mode: str) -> None:
    a, b = _bf16(5, specials=False), _bf16(6, specials=False)
    y = bfloat16_values(Core(mode)(name, bfloat16_bits(a), bfloat16_bits(b), out=(64, np.uint16)))
    assert np.array_equal(y, to_bf16(a + np.float32(sign) * b, mode))


def test_fp32_sums() -> None:
    a, b = _fp32(7), _fp32(8)
    assert np.array_equal(Core()("add_float", a, b, out=(64, np.float32)), a + b)
    assert np.array_equal(Core()("sub_float", a, b, out=(64, np.float32)), a - b)
    assert np.array_equal(Core()("neg_accum", a, out=(64, np.float32)), -a)


def test_fp32_products_are_good_to_two_units() -> None:
    """Nine bf16 products: 24 bits of each operand, a few roundings."""
    a, b = _fp32(9), _fp32(10)
    y = Core()("mul_float", a, b, out=(64, np.float32)).astype(np.float64)
    exact = a.astype(np.float64) * b
    error = np.abs(y - exact) / np.abs(exact)
    assert error.max() < 2 * 2.0**-23
    assert np.array_equal(Core()("mul_float", np.full(64, np.inf, np.float32), a, out=(64, np.float32)), np.inf * a)


def test_integers_wrap() -> None:
    rng = np.random.default_rng(11)
    a8, b8 = (rng.integers(-128, 128, 64).astype(np.int8) for _ in range(2))
    a16, b16 = (rng.integers(-(2**15), 2**15, 64).astype(np.int16) for _ in range(2))
    a32, b32 = (rng.integers(-(2**31), 2**31, 64).astype(np.int32) for _ in range(2))
    assert np.array_equal(Core()("mul_int8", a8, b8, out=(64, np.int32)), a8.astype(np.int32) * b8)
    assert np.array_equal(Core()("mul_int16", a16, b16, out=(64, np.int32)), a16.astype(np.int32) * b16)
    with np.errstate(over="ignore"):
        assert np.array_equal(Core()("mac_int8", a32, a8, b8, out=(64, np.int32)), a32 + a8.astype(np.int32) * b8)
        assert np.array_equal(Core()("add_int8", a8, b8, out=(64, np.int8)), a8 + b8)
        assert np.array_equal(Core()("sub_int16", a16, b16, out=(64, np.int16)), a16 - b16)
        assert np.array_equal(Core()("add_int32", a32, b32, out=(64, np.int32)), a32 + b32)
    a16[0] = -(2**15)
    assert np.array_equal(Core()("abs_int16", a16, out=(64, np.int16)), np.abs(a16))  # numpy's -32768 wraps too
    assert np.array_equal(Core()("neg_int8", a8, out=(64, np.int8)), -a8)
    for name in ("neg_uint8", "abs_uint8"):  # unsigned: the vector itself
        assert np.array_equal(Core()(name, a8.view(np.uint8), out=(64, np.uint8)), a8.view(np.uint8))


def test_signs() -> None:
    x = _bf16(12)
    assert np.array_equal(
        bfloat16_values(Core()("neg_bf16", bfloat16_bits(x), out=(64, np.uint16))), -x, equal_nan=True
    )
    assert np.array_equal(
        bfloat16_values(Core()("abs_bf16", bfloat16_bits(x), out=(64, np.uint16))), np.abs(x), equal_nan=True
    )


def _folded(x: Array) -> np.float32:
    """Parts of 32 lanes in order, then halves; fp32 all the way."""
    width = min(len(x), 32)
    total = x[:width].astype(np.float32)
    for part in range(width, len(x), width):
        total = total + x[part : part + width]
    while len(total) > 1:
        total = total[: len(total) // 2] + total[len(total) // 2 :]
    return np.float32(total[0])


def test_reductions() -> None:
    x, b = _fp32(13), _bf16(14, specials=False)
    assert Core()("reduce_add_float64", x, out=(1, np.float32))[0] == _folded(x)
    assert Core()("reduce_add_float16", x[:16], out=(1, np.float32))[0] == _folded(x[:16])
    total = bfloat16_values(Core()("reduce_add_bf16", bfloat16_bits(b), out=(1, np.uint16)))
    assert total[0] == to_bf16(_folded(b))
    four = Core()("reduce_add_v", x, out=(16, np.float32))
    assert np.array_equal(four[:4], [_folded(x[16 * i : 16 * i + 16]) for i in range(4)])
    integers = np.random.default_rng(15).integers(-(2**31), 2**31, 64).astype(np.int32)
    assert Core()("reduce_add_int32", integers, out=(1, np.int32))[0] == integers.sum(dtype=np.int32)
    assert bfloat16_values(Core()("reduce_max_bf16", bfloat16_bits(b), out=(1, np.uint16)))[0] == b.max()
    assert Core()("reduce_min_float", x, out=(1, np.float32))[0] == x.min()


def test_comparisons_and_selection() -> None:
    a, b = _bf16(16), _bf16(17)
    b[:20] = a[:20]
    bits_a, bits_b = bfloat16_bits(a), bfloat16_bits(b)
    with np.errstate(invalid="ignore"):
        assert np.array_equal(Core()("lt_bf16", bits_a, bits_b, out=(64, np.uint8)), a < b)
        assert np.array_equal(Core()("ge_bf16", bits_a, bits_b, out=(64, np.uint8)), a >= b)
        larger = bfloat16_values(Core()("max_bf16", bits_a, bits_b, out=(64, np.uint16)))
        assert np.array_equal(larger, np.where(a < b, b, a), equal_nan=True)
        smaller = bfloat16_values(Core()("min_bf16", bits_a, bits_b, out=(64, np.uint16)))
        assert np.array_equal(smaller, np.where(a >= b, b, a), equal_nan=True)
        assert np.array_equal(Core()("eq_float", a, b, out=(64, np.uint8)), a == b)
    rng = np.random.default_rng(18)
    i16, j16 = (rng.integers(-5, 5, 64).astype(np.int16) for _ in range(2))
    assert np.array_equal(Core()("le_int16", i16, j16, out=(64, np.uint8)), i16 <= j16)
    assert np.array_equal(Core()("gt_int8", i16.astype(np.int8), j16.astype(np.int8), out=(64, np.uint8)), i16 > j16)
    u, v = (rng.integers(0, 256, 64).astype(np.uint8) for _ in range(2))
    assert np.array_equal(Core()("neq_uint8", u, v, out=(64, np.uint8)), u != v)
    assert np.array_equal(
        Core()("max_int8", u.view(np.int8), v.view(np.int8), out=(64, np.int8)),
        np.maximum(u.view(np.int8), v.view(np.int8)),
    )
    assert np.array_equal(Core()("min_uint8", u, v, out=(64, np.uint8)), np.minimum(u, v))


def test_bits_and_shifts() -> None:
    rng = np.random.default_rng(19)
    u, v = (rng.integers(0, 256, 64).astype(np.uint8) for _ in range(2))
    for name, expected in (("bit_and_uint8", u & v), ("bit_or_uint8", u | v), ("bit_xor_uint8", u ^ v)):
        assert np.array_equal(Core()(name, u, v, out=(64, np.uint8)), expected)
    assert np.array_equal(Core()("bit_not_uint8", u, out=(64, np.uint8)), ~u)
    x = rng.integers(-(2**15), 2**15, 64).astype(np.int16)
    assert np.array_equal(Core("floor", 0)("upshift_int16", x, 3, out=(64, np.int16)), x << 3)
    assert np.array_equal(Core("floor", 0)("downshift_int16", x, 3, out=(64, np.int16)), x >> 3)
    rounded = np.floor(x / 8 + 0.5).astype(np.int16)
    assert np.array_equal(Core("positive_inf", 0)("downshift_int16", x, 3, out=(64, np.int16)), rounded)
