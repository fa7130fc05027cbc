"""How well logits predict a text, and how far they are from another model's.

A text is cut as llama.cpp's perplexity tool cuts it, so that figures compare: the token sequence, <bos> in front, in
windows that do not overlap; each window's first token is replaced by <bos>; a last window that is not full is left out
unless it is the only one. Every position of a window predicts the next token of it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

__all__ = ["Scores", "compare_logits", "score_logits", "summary", "windows"]

_ROWS = 8  # positions a task: 8 MB of logits, near enough to the cache
_TOP = 5


@dataclass(frozen=True)
class Scores:
    """One value for each predicted position, in the order of the text.

    Attributes:
        nll: -ln p(next token), float64 [T].
        second_half: the position is in the second half of its window, bool [T].
        reference_nll: the same of the reference, or None without one; so are the following.
        kl: sum p_ref ln(p_ref / p) over the vocabulary, float64 [T].
        top1: both models have the same best token, bool [T].
        top5: the reference's best token is among the model's five best, bool [T].
    """

    nll: np.ndarray
    second_half: np.ndarray
    reference_nll: np.ndarray | None = None
    kl: np.ndarray | None = None
    top1: np.ndarray | None = None
    top5: np.ndarray | None = None

    @staticmethod
    def concatenate(parts: Sequence[Scores]) -> Scores:
        """The scores of consecutive pieces of a text as one; there must be a piece."""
        columns: dict[str, Any] = {}
        for field in fields(Scores):
            values = [getattr(part, field.name) for part in parts]
            columns[field.name] = None if values[0] is None else np.concatenate(values)
        return Scores(**columns)


def windows(ids: Sequence[int], bos_id: int, size: int) -> list[list[int]]:
    """Cuts a text into windows of `size` tokens that start with <bos>; see above.

    Args:
        ids: the text's tokens without <bos>.
        bos_id: the token that starts every window.
        size: 2 or more.
    """
    sequence = [bos_id, *ids]
    starts = range(0, len(sequence) - size + 1, size) or range(1)
    return [[bos_id, *sequence[start + 1 : start + size]] for start in starts]


def score_logits(logits_TV: np.ndarray, targets_T: np.ndarray, second_half_T: np.ndarray) -> Scores:
    """Scores float32 logits [T, V] against the tokens that really follow, int [T]."""

    def rows(block: slice) -> tuple[np.ndarray]:
        logits = logits_TV[block]
        return (_log_sum_exp(logits)[1] - _pick(logits, targets_T[block]),)

    (nll,) = _by_blocks(rows, len(logits_TV))
    return Scores(nll, second_half_T)


def compare_logits(
    logits_TV: np.ndarray, reference_TV: np.ndarray, targets_T: np.ndarray, second_half_T: np.ndarray
) -> Scores:
    """Scores logits as `score_logits` does, and against the reference's logits, float32 [T, V]."""

    def rows(block: slice) -> tuple[np.ndarray, ...]:
        logits, reference, targets = logits_TV[block], reference_TV[block], targets_T[block]
        _, norm = _log_sum_exp(logits)
        weights, reference_norm = _log_sum_exp(reference)
        mean_difference = np.einsum("tv,tv->t", weights, reference - logits) / weights.sum(axis=1, dtype=np.float64)
        best = reference.argmax(axis=1)
        rank = (logits > _pick(logits, best)[:, None]).sum(axis=1)
        kl = mean_difference - reference_norm + norm
        return norm - _pick(logits, targets), reference_norm - _pick(reference, targets), kl, rank == 0, rank < _TOP

    nll, reference_nll, kl, top1, top5 = _by_blocks(rows, len(logits_TV))
    return Scores(nll, second_half_T, reference_nll, np.maximum(kl, 0), top1, top5)  # rounding: a KL is not negative


def summary(scores: Scores) -> dict[str, Any]:
    """The figures of a text, each mean with its standard error ("_se"), positions taken as independent.

    Returns:
        perplexity, perplexity_se, ppl_second_half, tokens; with a reference also reference_perplexity, ln_increase
        (of the perplexity, with the error of the paired difference), kl_mean, kl_p999, top1, top5. None for what a
        few positions cannot tell.
    """
    figures = _figures(scores)
    return {name: None if math.isnan(value) else value for name, value in figures.items()}


def _figures(scores: Scores) -> dict[str, Any]:
    nll, error = _mean(scores.nll)
    result: dict[str, Any] = {
        "tokens": len(scores.nll),
        "perplexity": math.exp(nll),
        "perplexity_se": math.exp(nll) * error,
        "ppl_second_half": math.exp(_mean(scores.nll[scores.second_half])[0]),
    }
    if scores.reference_nll is None or scores.kl is None or scores.top1 is None or scores.top5 is None:
        return result
    result["reference_perplexity"] = math.exp(_mean(scores.reference_nll)[0])
    result["ln_increase"], result["ln_increase_se"] = _mean(scores.nll - scores.reference_nll)
    result["kl_mean"], result["kl_mean_se"] = _mean(scores.kl)
    result["kl_p999"] = float(np.quantile(scores.kl, 0.999))
    result["top1"], result["top1_se"] = _mean(scores.top1)
    result["top5"], result["top5_se"] = _mean(scores.top5)
    return result


def _by_blocks(rows: Callable[[slice], tuple[np.ndarray, ...]], count: int) -> list[np.ndarray]:
    """Runs blocks of rows in threads (numpy releases the lock); joins each of the results."""
    blocks = [slice(start, start + _ROWS) for start in range(0, count, _ROWS)]
    with ThreadPoolExecutor() as pool:
        return [np.concatenate(column) for column in zip(*pool.map(rows, blocks), strict=True)]


def _log_sum_exp(logits_TV: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """exp(logits - their maximum) [T, V], and ln of the sum of exp(logits), float64 [T]."""
    top_T1 = logits_TV.max(axis=1, keepdims=True)
    weights_TV = np.exp(logits_TV - top_T1)
    return weights_TV, np.log(weights_TV.sum(axis=1, dtype=np.float64)) + top_T1[:, 0]


def _pick(values_TV: np.ndarray, columns_T: np.ndarray) -> np.ndarray:
    picked_T: np.ndarray = values_TV[np.arange(len(values_TV)), columns_T]
    return picked_T


def _mean(values_T: np.ndarray) -> tuple[float, float]:
    """The mean and its standard error; NaN for what too few values cannot tell."""
    if len(values_T) == 0:
        return math.nan, math.nan
    values = values_T.astype(np.float64)
    error = values.std(ddof=1) / math.sqrt(len(values)) if len(values) > 1 else math.nan
    return float(values.mean()), float(error)
