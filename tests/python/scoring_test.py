"""Perplexity and divergence against a slow float64 reading of their definitions."""

from __future__ import annotations

import math

import numpy as np
import pytest

from onnxruntime_ep_ryzen_npu_gemma.scoring import Scores, compare_logits, score_logits, summary, windows


def log_softmax(logits: np.ndarray) -> np.ndarray:
    x = logits.astype(np.float64)
    return (
        x - np.log(np.exp(x - x.max(axis=1, keepdims=True)).sum(axis=1, keepdims=True)) - x.max(axis=1, keepdims=True)
    )


@pytest.fixture
def logits() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    reference = (rng.standard_normal((21, 300)) * 5 + 100).astype(np.float32)
    return reference + 4 * rng.standard_normal((21, 300)).astype(np.float32), reference, rng.integers(0, 300, 21)


def test_windows_are_llama_cpps() -> None:
    ids = list(range(10, 19))  # with <bos> ten tokens
    assert windows(ids, 2, 4) == [[2, 10, 11, 12], [2, 14, 15, 16]]  # 13 starts a window, 17 and 18 fill none
    assert windows(ids, 2, 5) == [[2, 10, 11, 12, 13], [2, 15, 16, 17, 18]]
    assert windows(ids, 2, 64) == [[2, *ids]]


def test_figures_are_those_of_the_definitions(logits: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    ours, reference, targets = logits
    half = np.arange(21) >= 11
    scores = compare_logits(ours, reference, targets, half)
    log_q, log_p = log_softmax(ours), log_softmax(reference)
    rows = np.arange(21)
    kl = (np.exp(log_p) * (log_p - log_q)).sum(axis=1)
    result = summary(scores)
    nll = -log_q[rows, targets]
    assert result["perplexity"] == pytest.approx(math.exp(nll.mean()), rel=1e-5)
    assert result["ppl_second_half"] == pytest.approx(math.exp(nll[11:].mean()), rel=1e-5)
    assert result["reference_perplexity"] == pytest.approx(math.exp(-log_p[rows, targets].mean()), rel=1e-5)
    assert result["ln_increase"] == pytest.approx((nll + log_p[rows, targets]).mean(), abs=1e-5)
    assert result["ln_increase_se"] == pytest.approx((nll + log_p[rows, targets]).std(ddof=1) / 21**0.5, rel=1e-4)
    np.testing.assert_allclose(scores.kl, kl, atol=2e-5)  # float32 logits of 100: 8e-6 each
    assert result["kl_p999"] == pytest.approx(np.quantile(kl, 0.999), abs=2e-5)
    assert result["top1"] == (ours.argmax(axis=1) == reference.argmax(axis=1)).mean()
    best_five = np.argsort(-ours, axis=1)[:, :5]
    assert result["top5"] == (best_five == reference.argmax(axis=1)[:, None]).any(axis=1).mean()
    assert 0 < result["top1"] < result["top5"] < 1  # the data tell them apart
    np.testing.assert_array_equal(score_logits(ours, targets, half).nll, scores.nll)


def test_a_model_is_no_distance_from_itself(logits: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    _, reference, targets = logits
    result = summary(compare_logits(reference, reference, targets, np.ones(21, bool)))
    assert result["kl_mean"] == pytest.approx(0, abs=1e-12)
    assert (result["top1"], result["top5"], result["ln_increase"]) == (1, 1, 0)


def test_pieces_join_in_order(logits: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    ours, reference, targets = logits
    half = np.arange(21) >= 11
    parts = [compare_logits(ours[s], reference[s], targets[s], half[s]) for s in (slice(0, 9), slice(9, 21))]
    assert summary(Scores.concatenate(parts)) == summary(compare_logits(ours, reference, targets, half))


def test_too_few_positions_have_no_error() -> None:
    result = summary(score_logits(np.zeros((1, 4), np.float32), np.array([1]), np.array([False])))
    assert result["perplexity"] == pytest.approx(4)
    assert result["perplexity_se"] is None
    assert result["ppl_second_half"] is None
