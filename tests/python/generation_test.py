"""The loop of generation, over a model that counts: after token t it predicts t + 1."""

from __future__ import annotations

import numpy as np
import pytest

from onnxruntime_ep_ryzen_npu_gemma.generation import Generation
from onnxruntime_ep_ryzen_npu_gemma.sampling import GREEDY, Sampler


class Counting:
    def __init__(self, context: int) -> None:
        self.context = context
        self.length = 0

    def prefill(self, ids):
        self.length += len(ids)
        return np.eye(100, dtype=np.float32)[ids[-1] + 1]

    def step(self, token_id):
        return self.prefill([token_id])


@pytest.mark.parametrize(
    ("context", "max_tokens", "stop", "tokens", "finish", "steps"),
    [
        (50, 3, 60, [6, 7, 8], "length", 2),
        (50, 1, 60, [6], "length", 0),
        (50, 9, 8, [6, 7], "stop", 2),
        (50, 9, 6, [], "stop", 0),
        (2, 9, 60, [6], "context", 0),  # the last token needs no row of the cache
        (4, 9, 60, [6, 7, 8], "context", 2),
        (4, 3, 60, [6, 7, 8], "length", 2),
    ],
)
def test_what_ends_a_text(context, max_tokens, stop, tokens, finish, steps):
    generation = Generation(Counting(context), Sampler(GREEDY), max_tokens, {stop})
    assert list(generation.run([2, 5])) == tokens == generation.tokens
    assert (generation.finish, generation.decode_steps) == (finish, steps)
    assert generation.prefill_seconds > 0
    assert (generation.decode_seconds > 0) == (steps > 0)


def test_a_token_is_given_before_the_next_is_made():
    decoder = Counting(50)
    tokens = Generation(decoder, Sampler(GREEDY), 5, ()).run([2, 5])
    assert decoder.length == 0
    assert next(tokens) == 6
    assert decoder.length == 2
    assert next(tokens) == 7
    assert decoder.length == 3
