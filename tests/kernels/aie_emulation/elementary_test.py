"""Non-linear functions and matrix multiplication, against numpy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from kernels import bfp16
from kernels.aie_emulation.host_library import bfloat16_bits, bfloat16_values

from .probing import Core, to_bf16


@pytest.mark.parametrize("mode", ["floor", "conv_even"])
def test_exp2_is_exact_but_for_the_last_rounding(mode: str) -> None:
    x = np.concatenate([np.linspace(-20, 5, 56), [0, -126, -127, -150, 127, 128, np.inf, -np.inf]]).astype(np.float32)
    y = bfloat16_values(Core(mode)("exp2_float", x, out=(64, np.uint16)))
    with np.errstate(over="ignore"):
        assert np.array_equal(y, to_bf16(np.exp2(x), mode))


def test_tanh_is_off_by_as_much_as_was_published() -> None:
    """0.038, at x = 0.5; odd, saturated at one."""
    grid = np.linspace(-4, 4, 64 * 64, dtype=np.float32).reshape(-1, 64)
    y = np.concatenate([bfloat16_values(Core()("tanh_float", row, out=(64, np.uint16))) for row in grid])
    error = np.abs(y - np.tanh(grid.reshape(-1)))
    assert 0.037 < error.max() < 0.0395  # bf16 adds up to 0.002
    assert abs(abs(grid.reshape(-1)[error.argmax()]) - 0.5) < 0.01
    assert np.array_equal(y, -y[::-1])
    assert y[-1] == 1
    ends = np.array([np.inf, -np.inf, np.nan, 0.0] * 16, np.float32)
    y = bfloat16_values(Core()("tanh_float", ends, out=(64, np.uint16)))
    assert np.array_equal(y[:4], [1, -1, np.nan, 0], equal_nan=True)


def test_inverses() -> None:
    x = np.abs(np.random.default_rng(0).standard_normal(64).astype(np.float32)) + np.float32(1e-3)
    assert np.array_equal(Core()("inv_float", x, out=(64, np.float32)), 1 / x)
    assert np.array_equal(Core()("invsqrt_float", x, out=(64, np.float32)), 1 / np.sqrt(x))
    b = to_bf16(np.concatenate([x[:32] * 100, -x[:32]]))
    y = bfloat16_values(Core()("inv_bf16", bfloat16_bits(b), out=(64, np.uint16))).astype(np.float64)
    assert np.abs(y * b - 1).max() < 2.0**-6  # two steps in bf16: a unit and a half of 2^-7


def _matrices(m: int, k: int, n: int, low: int, high: int, seed: int = 1) -> tuple[Any, Any, Any]:
    rng = np.random.default_rng(seed)
    return rng.integers(low, high, (m, k)), rng.integers(low, high, (k, n)), rng.integers(-1000, 1000, (m, n))


@pytest.mark.parametrize(
    "name, shape, dtypes",
    [("mmul_8x8x8_int8", (8, 8, 8), (np.int8, np.int8)), ("mmul_4x8x8_uint8_int8", (4, 8, 8), (np.uint8, np.int8))],
)
def test_int8_matrices(name: str, shape: tuple[int, int, int], dtypes: tuple[type, type]) -> None:
    m, k, n = shape
    a, b, c = _matrices(m, k, n, -128, 128)
    a, b = a.astype(dtypes[0]), b.astype(dtypes[1])
    result = _in_place(name, a, b, c.astype(np.int32))
    assert np.array_equal(result, c + a.astype(np.int32) @ b.astype(np.int32))


@pytest.mark.parametrize("name, signed", [("mmul_4x16x16_int8_uint4", False), ("mmul_4x16x16_int8_int4", True)])
def test_int4_matrices(name: str, signed: bool) -> None:
    """B is row-major [16 k][16 n], low nibble first."""
    a, b, c = _matrices(4, 16, 16, 0, 16)
    a = (a * 17 - 128).astype(np.int8)
    packed = (b[:, 0::2] | b[:, 1::2] << 4).astype(np.uint8)
    values = (b ^ 8) - 8 if signed else b
    result = _in_place(name, a, packed, c.astype(np.int32))
    assert np.array_equal(result, c + a.astype(np.int32) @ values)


def _in_place(name: str, a: Any, b: Any, c: Any) -> Any:
    from kernels.aie_emulation.host_library import aligned_copy

    core, result = Core(), aligned_copy(c)
    core.library.call(name, aligned_copy(a), aligned_copy(b), result)
    return result


@pytest.mark.parametrize("mode", ["floor", "conv_even"])
@pytest.mark.parametrize("m, name", [(8, "mmul_8x8x8_bf16"), (4, "mmul_4x8x8_bf16")])
def test_bf16_matrices_go_through_bfp16(m: int, name: str, mode: str) -> None:
    rng = np.random.default_rng(2)
    a, b = to_bf16(rng.standard_normal((m, 8))), to_bf16(rng.standard_normal((8, 8)) * 3)
    c = rng.standard_normal((m, 8)).astype(np.float32)
    result = _run_in_mode(mode, name, bfloat16_bits(a), bfloat16_bits(b), c)

    def blocks(x: Any) -> Any:
        from .probing import round_integer

        exponent = np.frexp(np.abs(x).max(-1, keepdims=True))[1] - 1
        return np.ldexp(np.minimum(round_integer(np.ldexp(x.astype(float), 6 - exponent), mode), 127), exponent - 6)

    assert np.array_equal(result, (c + blocks(a) @ blocks(b.T).T).astype(np.float32))


def _run_in_mode(mode: str, name: str, a: Any, b: Any, c: Any) -> Any:
    from kernels.aie_emulation.host_library import aligned_copy

    core, result = Core(mode), aligned_copy(c)
    core.library.call(name, aligned_copy(a), aligned_copy(b), result)
    return result


def test_bfp16_matrices() -> None:
    """B is [8 n][8 k]; products of integers, one rounding to fp32."""
    rng = np.random.default_rng(3)
    a, b = bfp16.encode(rng.standard_normal((8, 8))), bfp16.encode(rng.standard_normal((8, 8)) * 1e-3)
    c = rng.standard_normal((8, 8)).astype(np.float32)
    exact = bfp16.decode(a) @ bfp16.decode(b).T
    assert np.array_equal(_in_place("mmul_8x8x8_bfp16", a, b, c), (c + exact).astype(np.float32))
    x = to_bf16(rng.standard_normal((8, 8)))
    mixed = _in_place("mmul_8x8x8_bf16_bfp16", bfloat16_bits(x), b, np.zeros((8, 8), np.float32))
    assert np.array_equal(mixed, (bfp16.rounded(x) @ bfp16.decode(b).T).astype(np.float32))
