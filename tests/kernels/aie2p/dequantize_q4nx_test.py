"""The dequantisation engine on the emulated core: every weight is the exact one, rounded once, in its block."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from kernels import bfp16
from kernels.aie_emulation.host_library import bfloat16_bits, bfloat16_round
from kernels.contract import KernelContract
from kernels.dequantize_q4nx.contract import BF16, BFP16, weights
from kernels.matmul_nbits.packing import quantize_units

from .running import judge, run

# (strips, groups) of weight tiles for 270M, 1B and 4B: n = 80, 96, 128 by k = 64, and a single unit.
TILES = ((1, 1), (5, 2), (6, 2), (8, 2), (2, 20))


def _args(units: np.ndarray[Any, Any], form: str) -> dict[str, Any]:
    strips, groups = units.shape[:2]
    values = strips * 4 * groups * 2 * 64
    b = np.zeros(values) if form == "bf16" else np.zeros(values // 8 * 9, np.uint8)
    return {"units": units, "b": b.reshape(strips, 4 * groups, 2, 8, -1), "strips": strips, "groups": groups}


@pytest.mark.parametrize("strips, groups", TILES)
@pytest.mark.parametrize("contract", [BF16, BFP16], ids=["bf16", "bfp16"])
def test_a_tile_of_weights(contract: KernelContract, strips: int, groups: int) -> None:
    rng = np.random.default_rng(strips * groups)
    units = quantize_units(rng.standard_normal((16 * strips, 32 * groups)).astype(np.float32))
    form = "bf16" if contract is BF16 else "bfp16"
    args = _args(units, form)
    result = judge(contract, {"strips": strips, "groups": groups}, **args).outputs["b"]
    assert contract.ideal is not None
    assert np.array_equal(result, contract.ideal(**args)["b"])


def test_where_a_weight_lies() -> None:
    """Row 16 + 9, column 32 + 13 of a matrix: strip 1, block 5, half 1, row 1, column 5."""
    w = np.zeros((32, 64), np.float32)
    w[25, 45] = 1.5
    units = quantize_units(w)
    in_bf16 = run(BF16, **_args(units, "bf16")).outputs["b"].reshape(2, 8, 2, 8, 8)
    in_bfp16 = run(BFP16, **_args(units, "bfp16")).outputs["b"].reshape(2, 8, 2, 8, 8)
    assert [*map(int, np.argwhere(in_bf16)[0])] == [1, 5, 1, 5, 1]  # [8 k][8 n]
    assert [*map(int, np.argwhere(in_bfp16)[0])] == [1, 5, 1, 1, 5]  # [8 n][8 k]


def _unit(scale: float, minimum: float) -> np.ndarray[Any, Any]:
    """All sixteen codes in every row."""
    codes = np.repeat(np.arange(32, dtype=np.uint8) % 16, 8)
    head = bfloat16_bits(np.repeat([scale, minimum], 16)).view(np.uint8)
    return np.concatenate([head, codes | codes << 4])[None, None]


@pytest.mark.parametrize("scale, minimum", [(0.0, 0.0), (0.0, -1.0), (1e-30, 1e-30), (1e30, -8e30), (0.0117, -0.0938)])
def test_zero_and_extreme_scales(scale: float, minimum: float) -> None:
    units = _unit(scale, minimum)
    exact = weights(units, 1, 1)
    assert np.array_equal(np.unique(run(BF16, **_args(units, "bf16")).outputs["b"]), np.unique(bfloat16_round(exact)))


def test_nan_scale() -> None:
    assert np.isnan(run(BF16, **_args(_unit(np.nan, 0.0), "bf16")).outputs["b"]).all()


def test_cancellation_near_zero_is_within_the_documented_error() -> None:
    """w = 8 scale + min with min close to -8 scale: the sum keeps an error of 2^-17 scale."""
    scale, minimum = 1.0, float(bfloat16_round(np.array([-7.96875]))[0])
    result = run(BF16, **_args(_unit(scale, minimum), "bf16")).outputs["b"]
    exact = np.unique(weights(_unit(scale, minimum), 1, 1))
    assert np.abs(np.unique(result) - exact).max() <= 2.0**-9 * np.abs(exact).max()
    assert np.abs(np.unique(result)[np.abs(exact).argmin()] - exact[np.abs(exact).argmin()]) <= 2.0**-17


def test_l1_bytes() -> None:
    assert BFP16.l1_bytes(strips=6, groups=2) == 12 * 320 + 96 * 64 * 9 // 8 + BFP16.stack_bytes
    assert BF16.l1_bytes(strips=6, groups=2) == 12 * 320 + 96 * 64 * 2 + BF16.stack_bytes


def test_bfp16_in_numpy_holds_what_the_format_holds() -> None:
    values = np.array([1.0, -1.0, 0.5, 127 / 64, 1 / 64, 1 / 128, 3 / 128, 0.0])
    raw = bfp16.encode(values)
    assert raw.tolist() == [127, 64, 192, 32, 127, 1, 0, 2, 0]  # 1/128 is half a unit and goes to even, as does 3/128
    assert bfp16.decode(raw).tolist() == [1.0, -1.0, 0.5, 127 / 64, 1 / 64, 0.0, 2 / 64, 0.0]
