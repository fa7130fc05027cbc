"""The LM head on real vocabularies."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from ml_dtypes import bfloat16

from kernels.gemma3_shapes import GEMMA3_1B, GEMMA3_4B, GEMMA3_270M, SHAPES, Gemma3Shape
from kernels.lm_head.design import lm_head, pack_lm_head, plan_lm_head
from kernels.matmul_nbits.design import pack_activation
from kernels.matmul_nbits.packing import UNIT_BYTES, dequantize_units, quantize_units
from tests.kernels.designs.running import execute, relative_error


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_no_row_is_padded_by_more_than_a_column_of_tiles(shape: Gemma3Shape, bits: int) -> None:
    plan = plan_lm_head(shape, bits)
    assert 0 <= plan.padded_rows - shape.vocab < plan.round_rows
    moved = sum(plan.channel_bytes(channel) for channel in range(16))
    needed = shape.vocab * shape.hidden // 512 * UNIT_BYTES[bits]
    assert needed <= moved <= 1.001 * needed


@pytest.mark.parametrize(
    ("shape", "bits", "vocab"),
    [
        pytest.param(GEMMA3_270M, 4, 16384, id="270m, a sixteenth of the rows"),
        pytest.param(GEMMA3_270M, 8, 8192, id="270m in 8 bits"),
        pytest.param(GEMMA3_4B, 4, 4160, id="4b: rows that are no multiple of 256"),
        pytest.param(GEMMA3_270M, 4, 262144, id="270m: all rows", marks=pytest.mark.slow),
        pytest.param(GEMMA3_1B, 4, 262144, id="1b: all rows", marks=pytest.mark.slow),
        pytest.param(GEMMA3_4B, 4, 262208, id="4b: all rows", marks=pytest.mark.slow),
    ],
)
def test_logits_equal_the_reference(shape: Gemma3Shape, bits: int, vocab: int) -> None:
    rng = np.random.default_rng(vocab)
    part = rng.standard_normal((min(vocab, 16384), shape.hidden), dtype=np.float32)
    units = quantize_units(part, bits)
    units = np.concatenate([units] * -(-vocab // len(part)))[: vocab // 16]
    x = rng.standard_normal(shape.hidden).astype(bfloat16)
    plan = plan_lm_head(replace(shape, vocab=vocab), bits)
    logits = np.full(plan.padded_rows, np.nan, np.float32)
    execute(lm_head(plan), pack_lm_head(plan, units), pack_activation(plan, x), logits)
    truth = dequantize_units(units, bits) @ x.astype(np.float32)
    assert relative_error(logits[:vocab], truth) < 2e-6  # both sum in fp32; measured 4e-7
    assert np.argmax(logits[:vocab]) == np.argmax(truth)
