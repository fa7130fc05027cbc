"""Chooses the next token from one row of logits: greedy, or temperature sampling after top-k, top-p and min-p.

The three filters see the model's own distribution (temperature 1) and each keeps the likeliest token, so one always is
left; the temperature then only decides how boldly to choose among what is left. Greedy is temperature 0.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from .errors import Problem

__all__ = ["GREEDY", "Sampler", "Sampling", "candidates"]


def _require(ok: bool, name: str, found: object, wanted: str) -> None:
    if not ok:
        raise Problem("this sampling value is out of range", name, found, f"give {wanted}")


@dataclass(frozen=True)
class Sampling:
    """How to sample; the defaults are FastFlowLM's for Gemma3.

    Attributes:
        temperature: 0 is greedy; below 1 is more careful than the model, above 1 bolder.
        top_k: keep this many of the likeliest tokens; 0 keeps all.
        top_p: keep the likeliest tokens whose probabilities together reach this; 1 keeps all.
        min_p: drop tokens less likely than this share of the likeliest; 0 drops none.
        seed: the same seed gives the same tokens; None takes one from the system.

    Raises:
        Problem: a value is outside its range, or not a number.
    """

    temperature: float = 0.8
    top_k: int = 40
    top_p: float = 0.95
    min_p: float = 0.1
    seed: int | None = None

    def __post_init__(self) -> None:
        _require(0 <= self.temperature < math.inf, "temperature", self.temperature, "0 or more")
        _require(self.top_k >= 0, "top_k", self.top_k, "0 (all tokens) or more")
        _require(0 < self.top_p <= 1, "top_p", self.top_p, "above 0 and at most 1")
        _require(0 <= self.min_p <= 1, "min_p", self.min_p, "between 0 and 1")
        _require(self.seed is None or self.seed >= 0, "seed", self.seed, "0 or more")


GREEDY = Sampling(temperature=0.0)


def candidates(logits_V: np.ndarray, sampling: Sampling) -> tuple[np.ndarray, np.ndarray]:
    """The tokens that may be chosen, likeliest first (lower id first among equals), and their probabilities.

    Args:
        logits_V: floating point [V].
        sampling: the filters and the temperature.

    Returns:
        ids i64[C] and probabilities f64[C] that sum to 1, 1 <= C <= V.

    Raises:
        Problem: the logits hold NaN or infinity at the top, so no choice would mean anything.
    """
    best = int(np.argmax(logits_V))  # argmax stops at the first NaN
    if not math.isfinite(logits_V[best]):
        raise Problem("the model gave no usable prediction", f"logit of token {best}", logits_V[best],
                      "check the model file: its weights or its cache hold NaN or infinity")  # fmt: skip
    if sampling.temperature == 0:
        return np.array([best]), np.ones(1)
    ids = _likeliest(logits_V, sampling.top_k)
    below_best = logits_V[ids].astype(np.float64) - float(logits_V[best])  # <= 0, so exp cannot overflow
    p = np.exp(below_best)
    keep = p >= sampling.min_p  # p of the likeliest is 1
    if sampling.top_p < 1:
        mass_before = np.cumsum(p) - p
        keep &= mass_before < sampling.top_p * p.sum()
    keep[0] = True
    ids, below_best = ids[keep], below_best[keep]
    with np.errstate(over="ignore"):  # a tiny temperature sends all but the likeliest to exp(-inf) = 0
        p = np.exp(np.where(below_best < 0, below_best / sampling.temperature, 0.0))
    return ids, p / p.sum()


def _likeliest(logits_V: np.ndarray, count: int) -> np.ndarray:
    """Ids of the `count` largest logits (0 = all), largest first, lower id first among equals."""
    ids = np.arange(logits_V.size)
    if 0 < count < logits_V.size:
        # `count` rows have a maximum at or above the count-th largest maximum, so `count` logits are: a bound that
        # leaves few ids to sort (0.3 ms instead of 2 ms for selecting among all of V = 262144).
        rows = max(math.isqrt(logits_V.size), count)
        row_maxima = logits_V[: logits_V.size // rows * rows].reshape(rows, -1).max(axis=1)
        ids = np.flatnonzero(logits_V >= np.partition(row_maxima, -count)[-count])
    order = np.argsort(-logits_V[ids], kind="stable")
    return ids[order][: count or None]


class Sampler:
    """Draws tokens one after the other; holds the random generator that a seed makes repeatable."""

    def __init__(self, sampling: Sampling) -> None:
        self.sampling = sampling
        self._random = np.random.default_rng(sampling.seed)

    def __call__(self, logits_V: np.ndarray) -> int:
        """The next token for logits [V]; see `candidates` for what is refused."""
        ids, p = candidates(logits_V, self.sampling)
        return int(ids[0]) if ids.size == 1 else int(self._random.choice(ids, p=p))
