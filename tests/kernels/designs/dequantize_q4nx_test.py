"""The dequantisation engine's design: bytes for bytes what the prefill matmul reads."""

from __future__ import annotations

import numpy as np
import pytest

from kernels import bfp16
from kernels.dequantize_q4nx.contract import blocks_n_k, weights
from kernels.dequantize_q4nx.design import dequantize, pack_units, plan_dequantize
from kernels.gemma3_shapes import SHAPES
from kernels.matmul_bf16.design import BLOCK_M, pack_weights, plan_matmul
from kernels.matmul_nbits.packing import quantize_units
from kernels.predict.costs import kernel_costs
from kernels.sim import hardware, time_design
from tests.kernels.designs.matmul_bf16_test import projections
from tests.kernels.designs.running import execute


@pytest.mark.parametrize(
    ("inner", "columns"),
    [
        pytest.param(256, 1200, id="padded"),
        *(
            pytest.param(inner, columns, id=f"{name}, {inner} x {columns}")
            for name in SHAPES
            for inner, columns in projections(name)
        ),
    ],
)
def test_the_weights_are_those_that_the_matmul_reads(inner: int, columns: int) -> None:
    rng = np.random.default_rng(inner)
    matmul = plan_matmul(BLOCK_M, inner, columns)
    plan = plan_dequantize(matmul)
    units = quantize_units(rng.standard_normal((columns, inner)).astype(np.float32))
    out = np.full(matmul.weight_bytes, 0xAA, np.uint8)
    result = execute(dequantize(plan), pack_units(plan, units), out)
    exact = weights(units, columns // 16, inner // 32)
    assert np.array_equal(out, pack_weights(matmul, bfp16.encode(blocks_n_k(exact))))
    assert result.ddr_read + result.ddr_written == plan.ddr_bytes
    assert plan.ddr_bytes <= 1.75 * inner * matmul.padded_columns


@pytest.mark.parametrize("name", SHAPES)
def test_it_keeps_up_with_ddr(name: str) -> None:
    shape = SHAPES[name]
    plan = plan_dequantize(plan_matmul(BLOCK_M, shape.hidden, shape.inter))
    timed = time_design(dequantize(plan), kernels=kernel_costs())
    assert timed.seconds is not None
    roofline = plan.ddr_bytes / (hardware.TIMES.ddr * hardware.CLOCK)
    share = roofline / timed.seconds
    rate = plan.ddr_bytes / timed.seconds / 1e9
    print(f"{name} gate: {1e6 * timed.seconds:.0f} us, {rate:.1f} GB/s, {share:.0%} of DDR")
    assert share > 0.7  # what is missing: the start of 16 channels, and the last tiles
