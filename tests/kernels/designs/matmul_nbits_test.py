"""The lone projection and its packing."""

from __future__ import annotations

import numpy as np
import pytest
from ml_dtypes import bfloat16

from graph_passes import q4nx
from kernels.matmul_nbits.design import pack_activation, pack_projection, plan_projection, projection
from kernels.matmul_nbits.packing import dequantize_units, quantize_units, units_of_blocks
from tests.kernels.designs.running import execute, relative_error


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize(("rows", "columns"), [(64, 256), (640, 1152), (32, 640)])
def test_units_are_the_bytes_of_a_file(rows: int, columns: int, bits: int) -> None:
    rng = np.random.default_rng(rows)
    weights = rng.standard_normal((rows, columns)).astype(np.float32)
    blocks = q4nx.quantize_rtn(weights, bits)
    units = units_of_blocks(blocks, rows, columns, bits)
    assert np.array_equal(dequantize_units(units, bits), q4nx.dequantize(blocks, rows, columns))


@pytest.mark.parametrize(
    ("rows", "columns", "bits"),
    [
        pytest.param(1536, 640, 4, id="270m qkv"),
        pytest.param(640, 2048, 4, id="270m down"),
        pytest.param(1152, 6912, 4, id="1b down"),
        pytest.param(4096, 2560, 4, id="4b qkv"),
        pytest.param(1536, 1152, 8, id="1b, 8 bits"),
    ],
)
def test_a_projection_equals_the_reference(rows: int, columns: int, bits: int) -> None:
    rng = np.random.default_rng(rows)
    units = quantize_units(rng.standard_normal((rows, columns)).astype(np.float32), bits)
    x = rng.standard_normal(columns).astype(bfloat16)
    plan = plan_projection(rows, columns, bits)
    weights, activation = pack_projection(plan, units), pack_activation(plan, x)
    y = np.full(plan.padded_rows, np.nan, np.float32)
    result = execute(projection(plan), weights, activation, y)
    truth = dequantize_units(units, bits).astype(np.float64) @ x.astype(np.float64)
    assert relative_error(y[:rows], truth) < 2e-6  # fp32 accumulation of exact products; measured 4e-7 to 8e-7
    assert not y[rows:].any()
    assert result.ddr_read == weights.nbytes + 2 * activation.nbytes
