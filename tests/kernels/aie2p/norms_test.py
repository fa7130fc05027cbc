"""RMSNorm, the residual addition and the cache store on the emulated core, at the widths of the three models."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from kernels import bf16
from kernels.kv_store.contract import KV_STORE
from kernels.residual_add.contract import RESIDUAL_ADD_BF16, RESIDUAL_ADD_F32
from kernels.rms_norm.contract import RMS_NORM

from .running import judge, run

Array = np.ndarray[Any, Any]
HIDDEN = [640, 1152, 2560]


def _residual_stream(rng: np.random.Generator, rows: int, n: int) -> Array:
    """Like Gemma3's: ordinary values, and one channel a thousand times larger."""
    x = rng.standard_normal((rows, n)) * np.exp(rng.standard_normal((rows, n)))
    x[:, 5] = 1e5
    return x.astype(np.float32)


def _weight(rng: np.random.Generator, n: int) -> Array:
    return bf16.rounded(3 * rng.standard_normal(n))


@pytest.mark.parametrize("rows, n", [(1, 64), *((1, n) for n in HIDDEN), (3, 640)])
def test_rms_norm(rows: int, n: int) -> None:
    rng = np.random.default_rng(n)
    shape = {"rows": rows, "n": n, "weights": n}
    call = {"rows": rows, "n": n, "weight_offset": 0}
    x, weight = _residual_stream(rng, rows, n), _weight(rng, n)
    y = judge(RMS_NORM, shape, x=x, weight=weight, y=np.zeros((rows, n)), **call).outputs["y"]
    correct = np.mean(y == bf16.rounded(RMS_NORM.reference(x=x, weight=weight, y=None, **call)["y"]))
    print(f"{rows} x {n}: {correct:.2%} correctly rounded")
    assert correct >= (0.99 if n >= 640 else 0.98)


def test_weights_are_found_at_their_offset() -> None:
    rng = np.random.default_rng(1)
    x, weights = _residual_stream(rng, 1, 640), _weight(rng, 4 * 640)
    for offset in (0, 640, 1920):
        call = {"rows": 1, "n": 640, "weight_offset": offset}
        whole = run(RMS_NORM, x=x, weight=weights, y=np.zeros(640), **call).outputs["y"]
        part = weights[offset : offset + 640]
        assert np.array_equal(
            whole, run(RMS_NORM, x=x, weight=part, y=np.zeros(640), rows=1, n=640, weight_offset=0).outputs["y"]
        )


@pytest.mark.parametrize("n", HIDDEN)
@pytest.mark.parametrize("contract", [RESIDUAL_ADD_F32, RESIDUAL_ADD_BF16], ids=["f32", "bf16"])
def test_residual_add(contract: Any, n: int) -> None:
    rng = np.random.default_rng(n)
    delta = 30 * _residual_stream(rng, 2, n)
    if contract is RESIDUAL_ADD_BF16:
        delta = bf16.rounded(delta)
    shape = {"rows": 2, "n": n, "weights": n}
    arrays = {"delta": delta, "weight": _weight(rng, n), "h": _residual_stream(rng, 2, n)}
    judge(contract, shape, **arrays, rows=2, n=n, weight_offset=0)


def test_a_sublayer_that_adds_a_millionth_is_not_lost() -> None:
    """What bf16 would do to the stream: 1e5 + 1 is 1e5."""
    h = np.full((1, 640), 1e5, np.float32)
    arrays = {"delta": np.ones((1, 640)), "weight": np.zeros(640), "h": h}
    out = run(RESIDUAL_ADD_F32, **arrays, rows=1, n=640, weight_offset=0).outputs["h"]
    assert np.allclose(out - h, 1.0, atol=0.01)
    assert np.array_equal(bf16.rounded(out), bf16.rounded(h))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_spoils_its_row_and_no_other(bad: float) -> None:
    rng = np.random.default_rng(2)
    x = _residual_stream(rng, 3, 640)
    x[1, 100] = bad
    y = run(RMS_NORM, x=x, weight=_weight(rng, 640), y=np.zeros((3, 640)), rows=3, n=640, weight_offset=0).outputs["y"]
    assert np.isnan(y[1]).all()
    assert np.isfinite(y[[0, 2]]).all()


def test_a_row_of_zeros_stays_zero() -> None:
    y = run(RMS_NORM, x=np.zeros(640), weight=np.ones(640), y=np.ones(640), rows=1, n=640, weight_offset=0).outputs["y"]
    assert not y.any()


@pytest.mark.parametrize("n, y_offset", [(256, 0), (1024, 512), (32, 32)])
def test_kv_store(n: int, y_offset: int) -> None:
    x = np.random.default_rng(n).standard_normal(n).astype(np.float32)
    shape = {"n": n, "y_offset": y_offset, "width": 2048}
    y = bf16.rounded(np.arange(2048.0))
    result = judge(KV_STORE, shape, x=x, y=y, n=n, y_offset=y_offset).outputs["y"]
    assert np.array_equal(result[y_offset : y_offset + n], bf16.rounded(x))
    outside = np.r_[0:y_offset, y_offset + n : 2048]
    assert np.array_equal(result[outside], y[outside])


def test_wide_rows_fit_a_core() -> None:
    for n in HIDDEN:
        RMS_NORM.check({"weight": 2}, rows=1, n=n, weights=2560)
        RESIDUAL_ADD_F32.check({"weight": 2}, rows=1, n=n, weights=2560)
    with pytest.raises(ValueError, match="a vector is 64 lanes: needs n % 64 == 0"):
        RMS_NORM.check(rows=1, n=96, weights=96)
