"""Sampling: which tokens may be chosen, in what order, and what is refused."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, strategies as st
from hypothesis.extra import numpy as hnp

from onnxruntime_ep_ryzen_npu_gemma.errors import Problem
from onnxruntime_ep_ryzen_npu_gemma.sampling import GREEDY, Sampler, Sampling, candidates

LOGITS = hnp.arrays(np.float32, st.integers(1, 300), elements=st.floats(-40, 40, width=32))
SAMPLINGS = st.builds(
    Sampling,
    temperature=st.floats(0, 1e308),
    top_k=st.integers(0, 400),
    top_p=st.floats(0, 1, exclude_min=True),
    min_p=st.floats(0, 1),
    seed=st.integers(0, 2**64),
)
UNFILTERED = Sampling(temperature=1, top_k=0, top_p=1, min_p=0)


def softmax(logits: np.ndarray) -> np.ndarray:
    p = np.exp(logits.astype(np.float64) - logits.max())
    return p / p.sum()


@given(LOGITS, SAMPLINGS)
def test_candidates_are_the_likeliest_tokens_with_a_distribution_that_falls(logits, sampling):
    ids, p = candidates(logits, sampling)
    assert 1 <= ids.size == np.unique(ids).size == p.size
    assert p.sum() == pytest.approx(1)
    assert np.all(np.diff(p) <= 0)
    rest = np.delete(logits, ids)
    assert rest.size == 0 or rest.max() <= logits[ids].min()
    assert ids[0] == np.argmax(logits)


@given(LOGITS, SAMPLINGS)
def test_the_drawn_token_is_a_candidate_and_the_seed_repeats_it(logits, sampling):
    draws = [[sampler(logits) for _ in range(3)] for sampler in (Sampler(sampling), Sampler(sampling))]
    assert draws[0] == draws[1]
    assert set(draws[0]) <= set(candidates(logits, sampling)[0].tolist())


@given(LOGITS, st.integers(1, 400))
def test_top_k_keeps_the_first_of_a_stable_sort(logits, k):
    ids, _ = candidates(logits, Sampling(temperature=1, top_k=k, top_p=1, min_p=0))
    assert ids.tolist() == np.argsort(-logits, kind="stable")[:k].tolist()


@given(LOGITS, st.floats(0.01, 1))
def test_min_p_keeps_what_reaches_its_share_of_the_likeliest(logits, min_p):
    ids, _ = candidates(logits, Sampling(temperature=1, top_k=0, top_p=1, min_p=min_p))
    p = softmax(logits)
    clear = np.abs(p / p.max() - min_p) > 1e-9
    assert np.array_equal(np.isin(np.arange(p.size), ids)[clear], (p >= min_p * p.max())[clear])


@given(LOGITS, st.floats(0.01, 0.999))
def test_top_p_keeps_the_smallest_set_that_reaches_it(logits, top_p):
    ids, _ = candidates(logits, Sampling(temperature=1, top_k=0, top_p=top_p, min_p=0))
    p = softmax(logits)[ids]
    assert p.sum() >= top_p - 1e-9
    assert p[:-1].sum() < top_p + 1e-9


@given(LOGITS)
def test_without_filters_the_distribution_is_the_softmax(logits):
    ids, p = candidates(logits, UNFILTERED)
    np.testing.assert_allclose(p, softmax(logits)[ids], rtol=1e-12)
    assert ids.size == logits.size


@given(LOGITS)
def test_temperature_scales_the_logits(logits):
    ids, p = candidates(logits, Sampling(temperature=2, top_k=0, top_p=1, min_p=0))
    np.testing.assert_allclose(p, softmax(logits / 2)[ids], rtol=1e-5)


@given(LOGITS)
def test_temperature_zero_is_the_first_maximum(logits):
    assert Sampler(GREEDY)(logits) == int(np.argmax(logits))


def test_a_vanishing_temperature_is_greedy():
    assert candidates(np.array([1.0, 3.0, 2.0], np.float32), Sampling(temperature=5e-324))[1][0] == 1


def test_draws_follow_the_probabilities():
    logits = np.log(np.array([0.1, 0.6, 0.3], np.float32))
    sampler = Sampler(Sampling(temperature=1, top_k=0, top_p=1, min_p=0, seed=1))
    counts = np.bincount([sampler(logits) for _ in range(4000)], minlength=3)
    # 5 standard deviations of a binomial count: 5 * sqrt(4000 * 0.6 * 0.4) = 155
    np.testing.assert_allclose(counts, [400, 2400, 1200], atol=155)


def test_tokens_ruled_out_by_minus_infinity_are_never_drawn():
    logits = np.array([-math.inf, 0.0, -math.inf, 0.0], np.float32)
    sampler = Sampler(Sampling(temperature=10, top_k=0, top_p=1, min_p=0, seed=0))
    assert {sampler(logits) for _ in range(50)} == {1, 3}


@pytest.mark.parametrize("bad", [[1.0, math.nan, 2.0], [math.inf, 0.0], [-math.inf, -math.inf]])
@pytest.mark.parametrize("sampling", [GREEDY, Sampling()])
def test_logits_that_mean_nothing_are_refused(bad, sampling):
    with pytest.raises(Problem, match="no usable prediction"):
        Sampler(sampling)(np.array(bad, np.float32))


@pytest.mark.parametrize(
    "value",
    [
        {"temperature": -0.1},
        {"temperature": math.nan},
        {"temperature": math.inf},
        {"top_k": -1},
        {"top_p": 0.0},
        {"top_p": 1.01},
        {"top_p": math.nan},
        {"min_p": -0.01},
        {"min_p": 1.01},
        {"min_p": math.nan},
        {"seed": -1},
    ],
)
def test_values_out_of_range_are_refused_by_name(value):
    with pytest.raises(Problem) as problem:
        Sampling(**value)
    assert problem.value.where in value
