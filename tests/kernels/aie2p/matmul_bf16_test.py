"""The tiled matrix multiplication on the emulated core."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from kernels import bfp16
from kernels.aie_emulation.host_library import bfloat16_round
from kernels.dequantize_q4nx.contract import blocks_n_k
from kernels.matmul_bf16.contract import MATMUL, STORE, blocks, unblocked

from .running import judge, run

Array = np.ndarray[Any, Any]


def _operands(rng: np.random.Generator, m: int, k: int, n: int) -> tuple[Array, Array]:
    a = bfloat16_round(rng.standard_normal((m, k)) * np.exp(rng.standard_normal((m, k))))
    return blocks(a), bfp16.encode(blocks_n_k(0.05 * rng.standard_normal((n, k))))


# Tiles for 270M, 1B and 4B: n = 80, 96, 128; the smallest; a whole K of 270M.
@pytest.mark.parametrize("m, k, n", [(16, 32, 16), (64, 64, 80), (64, 64, 96), (64, 64, 128), (128, 640, 128)])
def test_a_tile(m: int, k: int, n: int) -> None:
    a, b = _operands(np.random.default_rng(m + k + n), m, k, n)
    shape = {"m": m, "k": k, "n": n, "first": 1}
    if k == 640:  # more than one core's memory: only the arithmetic is judged
        args = {"a": a, "b": b, "c": np.full((m // 8, n // 8, 8, 8), np.nan), **shape}
        result = run(MATMUL, **args)
        assert result.counters.cycles == MATMUL.cycles(**shape)
    else:
        args = {"a": a, "b": b, "c": np.full((m // 8, n // 8, 8, 8), np.nan), **shape}
        result = judge(MATMUL, shape, **args)
    assert MATMUL.ideal is not None
    truth, ideal = MATMUL.reference(**args)["c"], MATMUL.ideal(**args)["c"]
    error = np.sqrt(np.mean((result.outputs["c"] - truth) ** 2)) / np.sqrt(np.mean((ideal - truth) ** 2))
    print(f"{m} x {k} x {n}: rms error {error:.3f} of the ideal's")
    assert error < 1.02


def test_sums_stay_over_the_tiles_of_k() -> None:
    """Four tiles of K one after the other are one multiplication."""
    rng = np.random.default_rng(3)
    m, k, n = 32, 64, 48
    a = bfloat16_round(rng.standard_normal((m, 4 * k)))
    w = 0.05 * rng.standard_normal((n, 4 * k))
    c: Array = np.full((m // 8, n // 8, 8, 8), np.nan)
    for tile in range(4):
        columns = slice(k * tile, k * (tile + 1))
        call = {"m": m, "k": k, "n": n, "first": int(tile == 0)}
        args = {"a": blocks(a[:, columns]), "b": bfp16.encode(blocks_n_k(w[:, columns])), "c": c, **call}
        c = judge(MATMUL, call, **args).outputs["c"]
    expected = bfp16.rounded(a) @ bfp16.rounded(w).T
    assert np.allclose(unblocked(c, m, n), expected, rtol=0, atol=2.0**-21 * np.abs(expected).max())


def test_nan_and_infinity_spoil_their_row_and_no_other() -> None:
    a, b = _operands(np.random.default_rng(4), 16, 32, 16)
    row = unblocked(a, 16, 32)
    row[3, 5], row[9, 0] = np.nan, np.inf
    call = {"m": 16, "k": 32, "n": 16, "first": 1}
    c = unblocked(run(MATMUL, a=blocks(row), b=b, c=np.zeros((2, 2, 8, 8)), **call).outputs["c"], 16, 16)
    bad = np.isnan(c)
    assert bad[[3, 9]].all()
    assert not np.delete(bad, [3, 9], axis=0).any()


def test_the_multiplier_is_busy_in_every_cycle() -> None:
    """512 products a cycle; at k = 64 loading and storing c takes as long."""
    for k in (128, 256):
        assert MATMUL.cycles(m=64, k=k, n=96, first=0) == 64 * k * 96 // 512
    assert MATMUL.cycles(m=64, k=64, n=96, first=0) == 64 * 64 * 96 // 512 + 2


def test_results_are_stored_as_bf16() -> None:
    rng = np.random.default_rng(5)
    c = rng.standard_normal((4, 6, 8, 8)).astype(np.float32)
    c[0, 0, 0, :3] = np.inf, -0.0, 1.00390625  # the last is a tie, and goes to even
    call = {"m": 32, "n": 48, "first_row": 0}
    y = judge(STORE, {"rows": 32, **call}, c=c, y=np.zeros(c.shape), **call).outputs["y"]
    assert np.array_equal(y, bfloat16_round(c))
    assert y[0, 0, 0, 2] == 1.0

    call = {"m": 16, "n": 48, "first_row": 16}
    y = judge(STORE, {"rows": 32, **call}, c=c, y=np.zeros((2, 6, 8, 8)), **call).outputs["y"]
    assert np.array_equal(y, bfloat16_round(c[2:]))


def test_l1_bytes_of_a_tile() -> None:
    """a and b twice in flight: 1B's 64 x 64 x 96 fits; 4B's n = 128 leaves room for k = 32."""
    bytes_ = MATMUL.l1_bytes({"a": 2, "b": 2}, m=64, k=64, n=96)
    assert bytes_ == 2 * 64 * 64 * 2 + 2 * 64 * 96 * 9 // 8 + 64 * 96 * 4 + MATMUL.stack_bytes
    MATMUL.check({"a": 2, "b": 2}, m=64, k=64, n=96)
    MATMUL.check({"a": 2, "b": 2}, m=64, k=32, n=128)
    with pytest.raises(ValueError, match="68608 bytes of L1"):
        MATMUL.check({"a": 2, "b": 2}, m=64, k=64, n=128)
