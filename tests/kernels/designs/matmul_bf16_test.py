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
from kernels.predict.costs import kernel_costs
from kernels.sim import time_design
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
    x = np.zeros((plan.rows, inner), bfloat16)
    x[:rows] = rng.standard_normal((rows, inner))
    w = rng.standard_normal((columns, inner)) / np.sqrt(inner)
    encoded = bfp16.encode(blocks_n_k(w))
    y = np.full((plan.rows, plan.padded_columns), np.nan, bfloat16)
    result = execute(matmul(plan), x, pack_weights(plan, encoded), y)
    w_bfp16 = bfp16.rounded(w)
    exact = x.astype(np.float64) @ w_bfp16.T
    ideal = (bfp16.rounded(x.astype(np.float64)) @ w_bfp16.T).astype(bfloat16)
    assert not y[:, columns:].astype(np.float32).any(), "padding is not zero"
    return y[:, :columns], exact, ideal, result


@pytest.mark.parametrize(
    ("tokens", "inner", "columns"),
    [
        pytest.param(BLOCK_M, 640, 640, id="270m o, short"),
        pytest.param(BLOCK_M, 1024, 640, id="270m o"),
        pytest.param(64, 640, 1536, id="270m qkv, 64 tokens"),
        pytest.param(200, 640, 1200, id="200 tokens, padded"),
        pytest.param(700, 1024, 640, id="270m o, 700 tokens"),
    ],
)
def test_a_projection_equals_the_reference(tokens: int, inner: int, columns: int) -> None:
    y, exact, ideal, result = run_matmul(tokens, inner, columns)
    error, allowed = relative_error(y, exact), 2 * relative_error(ideal, exact)
    print(f"relative error {error:.2e}, allowed {allowed:.2e}")
    assert error <= allowed
    plan = plan_matmul(tokens, inner, columns)
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


@pytest.mark.parametrize(
    ("tokens", "rows", "tile_m"),
    [(1, 128, 16), (64, 128, 16), (129, 256, 32), (384, 384, 48), (512, 512, 64), (513, 768, 48), (2000, 2048, 64)],
)
def test_a_short_prompt_has_low_blocks(tokens: int, rows: int, tile_m: int) -> None:
    plan = plan_matmul(tokens, 640, 640)
    assert (plan.rows, plan.tile_m) == (rows, tile_m)


@pytest.mark.parametrize("name", SHAPES)
def test_sixty_four_tokens_do_not_pay_for_more(name: str) -> None:
    shape = SHAPES[name]

    def seconds(tokens: int) -> float:
        timed = time_design(matmul(plan_matmul(tokens, shape.hidden, shape.inter)), kernels=kernel_costs())
        assert timed.seconds is not None
        return timed.seconds

    short, full = seconds(64), seconds(BLOCK_M)
    print(f"{name} gate: 64 tokens {1e6 * short:.0f} us, {BLOCK_M} tokens {1e6 * full:.0f} us")
    assert short < 0.75 * full  # 109 of 159, 362 of 675, 1203 of 2408: the weights still cross DDR


@pytest.mark.parametrize(("tokens", "inner"), [(0, 640), (64, 100)])
def test_what_is_no_whole_block_is_refused(tokens: int, inner: int) -> None:
    with pytest.raises(ValueError, match=f"{tokens}x{inner}x640: needs a token, whole 64 of K"):
        plan_matmul(tokens, inner, 640)
