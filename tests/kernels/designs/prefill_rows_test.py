"""The row-wise steps of prefill against float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from ml_dtypes import bfloat16

from kernels.gemma3_shapes import GEMMA3_4B, GEMMA3_270M, SHAPES, Gemma3Shape
from kernels.prefill_rows.design import STEPS, plan_rows, rows
from kernels.sim import lower
from tests.kernels.designs.gemma3_reference import rms_norm
from tests.kernels.designs.running import execute, relative_error

BF16 = 2.5e-3  # rounding a result to bf16: 1.7e-3 of its root mean square


def floats(*sizes: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed).standard_normal(sizes).astype(np.float32)


def words(x: Any) -> Any:
    return np.ascontiguousarray(x).astype(bfloat16).view(np.uint16).ravel()


def values(x: Any) -> Any:
    return x.view(bfloat16).astype(np.float64)


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_norm(shape: Gemma3Shape) -> None:
    h, w = 30 * floats(64, shape.hidden), words(0.3 * floats(shape.hidden, seed=1))
    x = np.zeros(h.size, np.uint16)
    execute(rows(plan_rows(shape, "norm", 64)), h.ravel(), w, x)
    assert relative_error(values(x), rms_norm(h.astype(np.float64), w.view(bfloat16))) < BF16


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("step", ["attention_residual", "mlp_residual"])
def test_residual_and_the_next_norm(shape: Gemma3Shape, step: str) -> None:
    n = shape.hidden
    before, delta = 30 * floats(64, n), words(floats(64, n, seed=1))
    weights = words(0.3 * floats(2, n, seed=2))
    h, x = before.copy().ravel(), np.zeros(64 * n, np.uint16)
    execute(rows(plan_rows(shape, step, 64)), delta, h, weights, x)
    post, following = weights.view(bfloat16).reshape(2, n)
    truth = before.astype(np.float64) + rms_norm(values(delta).reshape(64, n), post)
    assert relative_error(h, truth) < 1e-6
    assert relative_error(values(x), rms_norm(truth, following)) < BF16


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_gelu_mul(shape: Gemma3Shape) -> None:
    gate_up = words(floats(64, 2, shape.inter) * np.array([[2], [1]]))
    y = np.zeros(gate_up.size // 2, np.uint16)
    execute(rows(plan_rows(shape, "gelu_mul", 64)), gate_up, y)
    a, b = values(gate_up).reshape(64, 2, -1).swapaxes(0, 1).reshape(2, -1)
    truth = 0.5 * a * (1 + np.tanh(np.sqrt(2 / np.pi) * (a + 0.044715 * a**3))) * b
    assert relative_error(values(y), truth) < 2 * BF16


@pytest.mark.parametrize(
    ("shape", "count"), [(GEMMA3_270M, 128), (GEMMA3_4B, 64), (GEMMA3_270M, 8192)], ids=["270m", "4b", "270m, parts"]
)
def test_qk_norm_rope_fills_q_and_the_cache(shape: Gemma3Shape, count: int) -> None:
    heads, kv, start, capacity = shape.heads, shape.kv_heads, 16, count + 128
    qkv = words(floats(count, heads + 2 * kv, 256))
    angle = np.arange(start, start + count)[:, None] * 1e4 ** (-np.arange(128) / 128)
    tables = np.concatenate([np.cos(angle), np.sin(angle)], -1).astype(np.float32)
    norms = np.zeros((16, 256), np.float32)
    norms[0], norms[8] = 0.3 * floats(256, seed=1), 0.3 * floats(256, seed=2)
    norms = words(norms).reshape(16, 256)
    q, k, v = (np.zeros(n * 256, np.uint16) for n in (count * heads, kv * capacity, kv * capacity))
    execute(rows(plan_rows(shape, "qk_norm_rope", count, capacity, start)), qkv, tables.ravel(), norms.ravel(), q, k, v)

    given = values(qkv).reshape(count, -1, 256)
    cos, sin = (t[:, None].astype(np.float64) for t in np.split(tables, 2, -1))

    def rotated(x: Any, norm: Any) -> Any:
        a, b = np.split(rms_norm(x, norm.view(bfloat16)), 2, -1)
        return np.concatenate([a * cos - b * sin, b * cos + a * sin], -1)

    truth_q = rotated(given[:, :heads], norms[0]) * np.log2(np.e) / 16
    truth_k = rotated(given[:, heads : heads + kv], norms[8]).transpose(1, 0, 2)
    assert relative_error(values(q).reshape(truth_q.shape), truth_q) < BF16
    for cache, truth in ((k, truth_k), (v, given[:, heads + kv :].transpose(1, 0, 2))):
        cached = values(cache).reshape(kv, capacity, 256)
        assert relative_error(cached[:, start : start + count], truth) < BF16
        assert not cached[:, :start].any()
        assert not cached[:, start + count :].any()


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("count", [512, 32768])
def test_every_step_fits_the_array(shape: Gemma3Shape, step: str, count: int) -> None:
    lower(rows(plan_rows(shape, step, count, capacity=32768)))


def test_rows_that_do_not_divide_are_refused() -> None:
    with pytest.raises(ValueError, match="100 rows; norm takes multiples of 64"):
        plan_rows(GEMMA3_270M, "norm", 100)
