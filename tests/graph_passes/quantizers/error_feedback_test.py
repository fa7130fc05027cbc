"""Error feedback and descent on the error that they are meant to lower."""

from __future__ import annotations

import numpy as np
import pytest

from onnxruntime_ep_ryzen_npu_gemma.graph_passes import q4nx
from onnxruntime_ep_ryzen_npu_gemma.graph_passes.quantizers.error_feedback import (
    Quantized,
    descend,
    error_feedback,
    quadratic_error,
)


@pytest.fixture
def problem() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Weights [N, K], second moments of correlated inputs [K, K], and the factor of their inverse."""
    rng = np.random.default_rng(0)
    N, K = 48, 128
    w = rng.standard_normal((N, K)).astype(np.float32)
    x = rng.standard_normal((400, 24)) @ rng.standard_normal((24, K)) + 0.3 * rng.standard_normal((400, K))
    H = x.T @ x
    H += np.eye(K) * 0.01 * np.trace(H) / K
    U = np.linalg.cholesky(np.linalg.inv(H)).T
    return w, H.astype(np.float32), U.astype(np.float32)


def nearest(w: np.ndarray) -> Quantized:
    scale, minimum, q = q4nx.unpack(q4nx.quantize_rtn(w), *w.shape)
    assert minimum is not None
    return Quantized(q4nx.from_bfloat16(scale), q4nx.from_bfloat16(minimum), q.astype(np.float32))


def test_each_step_lowers_the_error(problem: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    w, H, U = problem

    def error(quantized: Quantized) -> float:
        return float(quadratic_error(quantized.values(), w, H).sum())

    fed_back = error_feedback(w, U)
    # Measured: 0.134 of what rounding to nearest gives; after 1, 2, 4 sweeps 0.085, 0.073, 0.070.
    assert error(fed_back) < 0.2 * error(nearest(w))
    errors = [error(descend(fed_back, w, H, sweeps)) for sweeps in (0, 1, 2, 4)]
    assert errors[0] == pytest.approx(error(fed_back))
    assert errors == sorted(errors, reverse=True)
    assert errors[2] < 0.65 * errors[0]


def test_descent_alone_never_raises_the_error_of_a_row(problem: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    w, H, _ = problem
    start = nearest(w)
    before, after = (quadratic_error(q.values(), w, H) for q in (start, descend(start, w, H, 3)))
    assert (after <= before * (1 + 1e-5)).all()


def test_results_are_q4nx(problem: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    w, H, U = problem
    for quantized in (error_feedback(w, U), descend(nearest(w), w, H, 2)):
        for grid in (quantized.scale_NG, quantized.min_NG):
            np.testing.assert_array_equal(q4nx.from_bfloat16(q4nx.to_bfloat16(grid)), grid)
        assert np.isin(quantized.q_NK, np.arange(16)).all()


def test_without_correlation_feedback_is_the_searched_grid() -> None:
    w = np.random.default_rng(4).standard_normal((32, 64)).astype(np.float32)
    identity = np.eye(64, dtype=np.float32)
    from onnxruntime_ep_ryzen_npu_gemma.graph_passes.quantizers import quantize_by_search

    np.testing.assert_array_equal(error_feedback(w, identity).values(), q4nx.dequantize(quantize_by_search(w), 32, 64))


@pytest.mark.parametrize("w", [np.zeros((2, 32)), np.full((2, 32), 0.75), np.eye(2, 32) * 1e30])
def test_degenerate_groups_stay_finite(w: np.ndarray) -> None:
    w = w.astype(np.float32)
    identity = np.eye(32, dtype=np.float32)
    values = descend(error_feedback(w, identity), w, identity, 2).values()
    assert np.isfinite(values).all()
    np.testing.assert_allclose(values, w, atol=abs(w).max() * 2**-8)
