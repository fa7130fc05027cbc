"""FusedDQP on the emulated core: exact products, any order of strips, every projection of the three models."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from kernels.aie_emulation.host_library import bfloat16_bits, bfloat16_round
from kernels.contract import KernelContract
from kernels.matmul_nbits.contract import ACTIVATION, FUSED_DQP, FUSED_DQP_8BIT
from kernels.matmul_nbits.packing import UNIT_BYTES, UNITS_PER_OBJECT, dequantize_units, quantize_units

from .running import judge, run

Array = np.ndarray[Any, Any]

# Widths that projections of 270M, 1B and 4B read: hidden, attention and MLP.
WIDTHS = (640, 1024, 2048, 1152, 6912, 2560, 10240)


def _activations(rng: np.random.Generator, columns: int, spread: float = 1.5) -> Array:
    """Values of very different size, as behind Gemma's norms."""
    return bfloat16_round(rng.standard_normal(columns) * np.exp(spread * rng.standard_normal(columns)))


def _prepare(x: Array) -> tuple[Array, Array]:
    n = len(x)
    done = run(ACTIVATION, src=x, x=np.zeros(n), x_groups=np.zeros((n // 32, 4)), src_offset=0, n=n, x_group0=0)
    return done.outputs["x"], done.outputs["x_groups"]


def _units(rng: np.random.Generator, rows: int, columns: int, bits: int) -> Array:
    return quantize_units(rng.standard_normal((rows, columns)).astype(np.float32) * 0.05, bits)


@pytest.mark.parametrize("columns", WIDTHS)
@pytest.mark.parametrize("contract", [FUSED_DQP, FUSED_DQP_8BIT], ids=["4bit", "8bit"])
def test_a_projection_object_by_object(contract: KernelContract, columns: int) -> None:
    """32 rows of a matrix come as objects of 16 units; strips change inside of objects."""
    rng, bits = np.random.default_rng(columns), 4 if contract is FUSED_DQP else 8
    rows, groups = 32, columns // 32
    units = _units(rng, rows, columns, bits).reshape(-1, UNIT_BYTES[bits])
    src = _activations(rng, columns)
    x, x_groups = _prepare(src)
    acc = np.zeros(rows, np.float32)
    for first in range(0, len(units), UNITS_PER_OBJECT):
        some = np.zeros((UNITS_PER_OBJECT, UNIT_BYTES[bits]), np.uint8)
        count = min(UNITS_PER_OBJECT, len(units) - first)
        some[:count] = units[first : first + count]
        strip, group = divmod(first, groups)
        call = {"n_units": count, "strip": strip, "group": group, "groups": groups, "x_group0": 0}
        shape = {"units": UNITS_PER_OBJECT, "columns": columns, "rows": rows} | call
        args = {"units": some, "x": x, "x_groups": x_groups, "acc": acc} | call
        acc = judge(contract, shape, **args).outputs["acc"].astype(np.float32)

    # Against the matrix itself, with the activations as they were before any preparation.
    weights = dequantize_units(units.reshape(rows // 16, groups, -1), bits)
    truth = weights.astype(np.float64) @ src.astype(np.float64)
    ideal = weights @ src
    error, allowed = np.sqrt(np.mean((acc - truth) ** 2)), np.sqrt(np.mean((ideal - truth) ** 2))
    print(f"{bits} bits, {columns} columns: rms error {error / allowed:.2f} of float32 numpy's")
    assert error <= 2 * allowed + 2.0**-24 * np.abs(truth).max()


@pytest.mark.parametrize("contract", [FUSED_DQP, FUSED_DQP_8BIT], ids=["4bit", "8bit"])
def test_a_part_of_x_and_a_part_of_y(contract: KernelContract) -> None:
    rng, bits = np.random.default_rng(0), 4 if contract is FUSED_DQP else 8
    x, x_groups = _prepare(_activations(rng, 256))
    units = _units(rng, 16 * 3, 96, bits).reshape(-1, UNIT_BYTES[bits])
    acc = rng.standard_normal(96).astype(np.float32)
    call = {"n_units": 7, "strip": 2, "group": 1, "groups": 3, "x_group0": 4}
    shape = {"units": 9, "columns": 256, "rows": 96} | call
    result = judge(contract, shape, units=units, x=x, x_groups=x_groups, acc=acc, **call).outputs["acc"]
    assert np.array_equal(result[:32], acc[:32])
    assert np.array_equal(result[80:], acc[80:])
    assert (result[32:80] != acc[32:80]).all()


def _one_unit(x: Array, scale: float, minimum: float, code: int) -> Array:
    """16 equal rows of 32 equal codes, times x."""
    head = bfloat16_bits(np.repeat([scale, minimum], 16)).view(np.uint8)
    units = np.concatenate([head, np.full(256, code | code << 4, np.uint8)])[None]
    prepared, records = _prepare(x)
    call = {"n_units": 1, "strip": 0, "group": 0, "groups": 1, "x_group0": 0}
    result: Array = run(FUSED_DQP, units=units, x=prepared, x_groups=records, acc=np.zeros(16), **call).outputs["acc"]
    return result


def test_zero_groups() -> None:
    assert not _one_unit(np.zeros(32), 0.01, -0.08, 7).any()
    assert not _one_unit(np.ones(32), 0.0, 0.0, 0).any()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_nan_and_infinity_reach_every_row_that_reads_them(bad: float) -> None:
    x = np.ones(32)
    x[5] = bad
    assert np.isnan(_one_unit(x, 0.01, -0.08, 7)).all()


@pytest.mark.parametrize(
    "scale, size", [(1e-30, 1.0), (1e-30, 1e15), (1e-4, 1e-20), (1e-4, 1e15), (1e20, 1e-20), (1e20, 1e15)]
)
def test_extreme_scales_and_activations(scale: float, size: float) -> None:
    x = bfloat16_round(size * np.linspace(-1, 2, 32))
    s = float(bfloat16_round(np.array([scale]))[0])
    assert np.allclose(_one_unit(x, s, 0.0, 15), s * 15 * x.astype(np.float64).sum(), rtol=1e-6, atol=0)


def test_small_activations_beside_a_large_one_are_not_lost() -> None:
    """What a block format with 8-bit mantissas would drop."""
    x = np.full(32, 2.0**-18)
    x[0] = 4.0
    weights_only_on_small = np.zeros((32, 16), np.uint8)
    weights_only_on_small[1:] = 15
    nibbles = (weights_only_on_small[:, 0::2] | weights_only_on_small[:, 1::2] << 4).reshape(-1)
    units = np.concatenate([bfloat16_bits(np.repeat([1.0, 0.0], 16)).view(np.uint8), nibbles])[None]
    prepared, records = _prepare(x)
    call = {"n_units": 1, "strip": 0, "group": 0, "groups": 1, "x_group0": 0}
    result = run(FUSED_DQP, units=units, x=prepared, x_groups=records, acc=np.zeros(16), **call).outputs["acc"]
    assert np.array_equal(result, np.full(16, 31 * 15 * 2.0**-18))


@pytest.mark.parametrize("n", [32, 640, 2560])
def test_activations_are_prepared_exactly(n: int) -> None:
    rng = np.random.default_rng(n)
    src = np.concatenate([np.zeros(64), _activations(rng, n)])
    src[64 + 5] = 0.0
    args = {
        "src": src,
        "x": np.ones(n + 64),
        "x_groups": np.ones((n // 32 + 2, 4)),
        "src_offset": 64,
        "n": n,
        "x_group0": 1,
    }
    shape = {"src_columns": n + 64, "columns": n + 64, "src_offset": 64, "n": n, "x_group0": 1}
    out = judge(ACTIVATION, shape, **args).outputs
    x, records = out["x"][32 : 32 + n].reshape(-1, 32), out["x_groups"][1 : 1 + n // 32]
    assert np.array_equal(x * records[:, :1], src[64:].reshape(-1, 32))
    assert (np.abs(x).max(-1) < 2).all()
    assert np.array_equal(out["x"][:32], np.ones(32))
    assert np.array_equal(out["x_groups"][0], np.ones(4))


def test_l1_bytes_of_the_widest_projection() -> None:
    """4B's down projection on a tile: three objects in flight, the whole activation, 80 rows."""
    shape = {"units": 16, "columns": 10240, "rows": 80}
    assert FUSED_DQP.l1_bytes({"units": 3}, **shape) == 3 * 5120 + 2 * 10240 + 8 * 320 + 4 * 80 + FUSED_DQP.stack_bytes
    assert FUSED_DQP.l1_bytes({"units": 3}, **shape) < 40 * 1024


def test_a_block_takes_a_quarter_of_the_cycles_that_were_aimed_at() -> None:
    """1200 cycles a block of 5120 bytes; at 1.8 GHz its share of DDR needs about 5000."""
    assert FUSED_DQP.cycles(n_units=16) == 295
    assert FUSED_DQP_8BIT.cycles(n_units=16) == 438
