"""Prefill's keys and values become the cache that the decode design reads."""

from __future__ import annotations

import numpy as np
import pytest

from kernels.decode_layer.plan import BLOCK_ROWS
from kernels.gemma3_shapes import GEMMA3_1B, GEMMA3_4B, GEMMA3_270M, Gemma3Shape
from kernels.kv_handover.design import kv_handover, plan_handover
from kernels.predict.costs import kernel_costs
from kernels.sim import hardware, time_design
from tests.kernels.designs.decode_token import cache_of
from tests.kernels.designs.running import execute


@pytest.mark.parametrize(
    ("shape", "past"),
    [
        pytest.param(GEMMA3_270M, 64, id="270m, 64"),
        pytest.param(GEMMA3_270M, 512, id="270m, the whole window"),
        pytest.param(GEMMA3_270M, 620, id="270m, past the window"),
        pytest.param(GEMMA3_270M, 1024, id="270m, twice the window"),
        pytest.param(GEMMA3_4B, 1100, id="4b, past the window"),
    ],
)
def test_decode_finds_every_position(shape: Gemma3Shape, past: int) -> None:
    rng, rows, capacity = np.random.default_rng(past), past + BLOCK_ROWS, past + 77
    size = (2, shape.layers, shape.kv_heads, rows, 256)
    keys, values = rng.integers(1, 1 << 14, size, np.uint16)  # small positive bf16
    plan = plan_handover(shape, past, rows, capacity)
    cache = np.zeros(plan.cache_elements, np.uint16)
    result = execute(kv_handover(plan), keys, values, cache)
    assert result.ddr_read + result.ddr_written == plan.ddr_bytes

    first = 0
    for layer in range(shape.layers):
        truth = cache_of(shape, layer, keys[layer][:, :past], values[layer][:, :past], capacity)
        mine = cache[first : first + truth.size]
        first += truth.size
        filled = truth != 0
        assert np.array_equal(mine[filled], truth[filled]), layer
    assert first == cache.size


@pytest.mark.parametrize(("shape", "past"), [(GEMMA3_1B, 1024), (GEMMA3_1B, 32768), (GEMMA3_4B, 32768)])
def test_it_moves_at_ddrs_pace(shape: Gemma3Shape, past: int) -> None:
    plan = plan_handover(shape, past, past + BLOCK_ROWS, past + 1024)
    timed = time_design(kv_handover(plan), kernels=kernel_costs())
    assert timed.seconds is not None
    bound = plan.ddr_bytes / (hardware.TIMES.ddr * hardware.CLOCK)
    print(f"{shape.name} after {past}: {1e6 * timed.seconds:.0f} us, {bound / timed.seconds:.0%} of DDR")
    assert bound / timed.seconds > 0.9


def test_rows_that_are_not_there_are_refused() -> None:
    with pytest.raises(ValueError, match="512 positions: needs 1 up to capacity 1024 and rows 512 less 20"):
        plan_handover(GEMMA3_270M, 512, 512, 1024)
