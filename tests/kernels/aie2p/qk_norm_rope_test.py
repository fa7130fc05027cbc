"""QK-RMSNorm and RoPE on the emulated core, from the first position to the last of 32k."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from kernels import bf16
from kernels.qk_norm_rope.contract import HEAD_DIM, QK_NORM_ROPE_BF16, QK_NORM_ROPE_F32, rope_table

from .running import judge, run

Array = np.ndarray[Any, Any]
POSITIONS = [0, 1, 511, 4096, 32767]
ROPE = {"global": (1e6, 1.0), "local": (1e4, 1.0), "global of 4B": (1e6, 8.0)}


def _weight(rng: np.random.Generator) -> Array:
    return bf16.rounded(np.abs(rng.standard_normal(HEAD_DIM)))


@pytest.mark.parametrize("rope", ROPE)
@pytest.mark.parametrize("query_scalar", [256, 0], ids=["q", "k"])
def test_one_head(rope: str, query_scalar: int) -> None:
    rng = np.random.default_rng(7)
    theta, factor = ROPE[rope]
    weights = np.concatenate([_weight(rng), _weight(rng)])
    for position in POSITIONS:
        table = np.concatenate([np.zeros(HEAD_DIM), rope_table([position], theta, factor)[0]])
        call = {"query_scalar": query_scalar, "weight_offset": 256, "table_offset": 256, "y_offset": 512}
        arrays = {"x": (20 * rng.standard_normal(HEAD_DIM)).astype(np.float32), "weight": weights, "table": table}
        shape = {**call, "weights": 512, "table_size": 512, "width": 1024}
        judge(QK_NORM_ROPE_F32, shape, **arrays, y=bf16.rounded(np.arange(1024.0)), **call)


# q and k of 270M and 1B (4 heads, 1), of 4B (8 heads, 4).
@pytest.mark.parametrize("heads, query_scalar", [(4, 256), (1, 0), (8, 256), (4, 0)])
def test_many_positions(heads: int, query_scalar: int) -> None:
    rng = np.random.default_rng(heads)
    positions = len(POSITIONS)
    x = bf16.rounded(rng.standard_normal((positions, heads, HEAD_DIM)) * np.exp(rng.standard_normal(HEAD_DIM)))
    call = {"positions": positions, "heads": heads, "query_scalar": query_scalar}
    arrays = {"x": x, "weight": _weight(rng), "table": rope_table(POSITIONS, 1e6)}
    judge(QK_NORM_ROPE_BF16, call, **arrays, y=np.zeros_like(x), **call)


def test_a_table_in_bf16_would_cost_accuracy() -> None:
    """Why cos and sin are fp32: the error of a bf16 table, over that of rounding the result, at each position."""
    rng = np.random.default_rng(3)
    x, weight = rng.standard_normal((len(POSITIONS), 64, HEAD_DIM)), _weight(rng)
    table = rope_table(POSITIONS, 1e6)
    truth = QK_NORM_ROPE_BF16.reference(x=x, weight=weight, table=table, query_scalar=256)["y"]
    coarse = bf16.rounded(
        QK_NORM_ROPE_BF16.reference(x=x, weight=weight, table=bf16.rounded(table), query_scalar=256)["y"]
    )
    ratio = np.sqrt(
        np.mean((coarse - truth) ** 2, axis=(1, 2)) / np.mean((bf16.rounded(truth) - truth) ** 2, axis=(1, 2))
    )
    print(
        "rms error with a bf16 table, of correct rounding's:",
        dict(zip(POSITIONS, ratio.round(2).tolist(), strict=True)),
    )
    assert ratio[0] < 1.01
    assert (ratio[1:] > 1.05).all()


def test_scores_come_in_powers_of_two() -> None:
    """q.k of the outputs is log2(e) q.k / sqrt(256)."""
    rng = np.random.default_rng(4)
    x, weight, table = rng.standard_normal((1, 1, HEAD_DIM)), np.zeros(HEAD_DIM), rope_table([9], 1e4)
    q, k = (
        run(
            QK_NORM_ROPE_BF16, x=x, weight=weight, table=table, y=np.zeros_like(x), positions=1, heads=1, query_scalar=s
        )
        for s in (256, 0)
    )
    score = float(np.sum(q.outputs["y"] * k.outputs["y"]))
    assert abs(score - 16 * np.log2(np.e)) < 0.1  # a normed vector of 256 has the square 256


def test_nan_spoils_its_head_and_no_other() -> None:
    rng = np.random.default_rng(5)
    x = bf16.rounded(rng.standard_normal((2, 2, HEAD_DIM)))
    x[1, 0, 17] = np.nan
    arrays = {"x": x, "weight": _weight(rng), "table": rope_table([3, 4], 1e4), "y": np.zeros_like(x)}
    y = run(QK_NORM_ROPE_BF16, **arrays, positions=2, heads=2, query_scalar=256).outputs["y"]
    assert np.isnan(y[1, 0]).all()
    assert np.isfinite(y[0]).all() and np.isfinite(y[1, 1]).all()
