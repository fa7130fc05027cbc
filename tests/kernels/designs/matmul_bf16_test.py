"""The prefill projection in functional simulation, on the projections of the three models."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from ml_dtypes import bfloat16

from kernels import bfp16
from kernels.dequantize_q4nx.contract import blocks_n_k
from kernels.gemma3_shapes import SHAPES
from kernels.matmul_bf16.design import BLOCK_M, matmul, pack_weights, plan_matmul
from tests.kernels.designs.running import execute, relative_error


def projections(name: str) -> list[tuple[int, int]]:
    """(K, N) of a layer's projections."""
    shape = SHAPES[name]
    return [
        (shape.hidden, shape.qkv),
        (shape.attention, shape.hidden),
        (shape.hidden, shape.inter),
        (shape.inter, shape.hidden),
    ]


def run_matmul(rows: int, inner: int, columns: int) -> tuple[Any, Any, Any, Any]:
    """(y, exact, in ideal arithmetic, the simulator's result)."""
    rng = np.random.default_rng(rows + inner + columns)
    plan = plan_matmul(rows, inner, columns)
    x = rng.standard_normal((rows, inner)).astype(bfloat16)
    w = rng.standard_normal((columns, inner)) / np.sqrt(inner)
    encoded = bfp16.encode(blocks_n_k(w))
    y = np.zeros((rows, plan.padded_columns), bfloat16)
    result = execute(matmul(plan), x, pack_weights(plan, encoded), y)
    w_bfp16 = bfp16.rounded(w)
    exact = x.astype(np.float64) @ w_bfp16.T
    ideal = (bfp16.rounded(x.astype(np.float64)) @ w_bfp16.T).astype(bfloat16)
    assert not y[:, columns:].any(), "padding is not zero"
    return y[:, :columns], exact, ideal, result


@pytest.mark.parametrize(("inner", "columns"), [(640, 640), (1024, 640)], ids=["270m o, short", "270m o"])
def test_a_projection_equals_the_reference(inner: int, columns: int) -> None:
    y, exact, ideal, result = run_matmul(BLOCK_M, inner, columns)
    error, allowed = relative_error(y, exact), 2 * relative_error(ideal, exact)
    print(f"relative error {error:.2e}, allowed {allowed:.2e}")
    assert error <= allowed
    plan = plan_matmul(BLOCK_M, inner, columns)
    assert result.ddr_read + result.ddr_written == plan.ddr_bytes


@pytest.mark.slow
@pytest.mark.parametrize("name", SHAPES)
def test_every_projection_of_a_model(name: str) -> None:
    for inner, columns in projections(name):
        y, exact, ideal, _ = run_matmul(BLOCK_M, inner, min(columns, 1152))
        assert relative_error(y, exact) <= 2 * relative_error(ideal, exact), (inner, columns)


@pytest.mark.parametrize("name", SHAPES)
def test_the_plan_wastes_little(name: str) -> None:
    for inner, columns in projections(name):
        plan = plan_matmul(BLOCK_M, inner, columns)
        assert plan.padded_columns <= 1.05 * columns, (inner, columns, plan)


def test_what_is_no_whole_block_is_refused() -> None:
    with pytest.raises(ValueError, match="100x640x640 is not whole blocks of 512 rows"):
        plan_matmul(100, 640, 640)
