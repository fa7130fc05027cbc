"""The searched grid against every other one that is near, and what it must survive."""

from __future__ import annotations

import numpy as np
import pytest

from onnxruntime_ep_ryzen_npu_gemma.graph_passes import q4nx
from onnxruntime_ep_ryzen_npu_gemma.graph_passes.quantizers import quantize_by_search


def nmse(blocks: np.ndarray, w: np.ndarray) -> float:
    return float(((q4nx.dequantize(blocks, *w.shape) - w) ** 2).sum() / (w**2).sum())


@pytest.mark.parametrize("shape", [(64, 512), (33, 32), (5, 288)])
def test_loses_less_than_round_to_nearest(shape: tuple[int, int]) -> None:
    w = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    assert nmse(quantize_by_search(w), w) < 0.85 * nmse(q4nx.quantize_rtn(w), w)  # measured: 0.81 to 0.84


def test_an_outlier_does_not_take_the_whole_range() -> None:
    w = np.random.default_rng(1).standard_normal((32, 32)).astype(np.float32)
    w[:, 7] = 4.5
    assert nmse(quantize_by_search(w), w) < 0.9 * nmse(q4nx.quantize_rtn(w), w)  # measured: 0.86


def test_weights_on_a_grid_are_kept_exactly() -> None:
    rng = np.random.default_rng(2)
    q = rng.integers(0, 16, (32, 64))
    q[:, 0::32], q[:, 1::32] = 0, 15  # the whole range is used
    w = (q * 0.125 - 1.0).astype(np.float32)
    np.testing.assert_array_equal(q4nx.dequantize(quantize_by_search(w), 32, 64), w)


@pytest.mark.parametrize("value", [0.0, 1.5, -3.0, 1e-42])
def test_constant_groups(value: float) -> None:
    w = np.full((2, 64), value, np.float32)
    np.testing.assert_allclose(q4nx.dequantize(quantize_by_search(w), 2, 64), w, rtol=2**-8, atol=1e-38)


def test_threads_do_not_show_and_strides_do_not_matter() -> None:
    w = np.random.default_rng(3).standard_normal((640, 1024)).astype(np.float32)
    whole = quantize_by_search(w)
    np.testing.assert_array_equal(quantize_by_search(np.asfortranarray(w)), whole)
    rows = [quantize_by_search(w[first : first + 32]) for first in range(0, 640, 32)]
    np.testing.assert_array_equal(np.concatenate(rows), whole)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_refuses_what_is_not_a_number(bad: float) -> None:
    w = np.zeros((700, 1024), np.float32)
    w[650, 33] = bad
    with pytest.raises(ValueError, match=rf"cannot be quantised: w\[650, 33\] is {bad}"):
        quantize_by_search(w)


def test_refuses_weights_beyond_bfloat16() -> None:
    w = np.zeros((1, 32), np.float32)
    w[0, :2] = -3e38, 3e38
    with pytest.raises(ValueError, match=r"values reach 3e\+38, too large"):
        quantize_by_search(w)


def test_refuses_a_width_without_groups() -> None:
    with pytest.raises(ValueError, match="K is 40"):
        quantize_by_search(np.zeros((1, 40), np.float32))
