"""The loop of text generation: run the prompt, then choose a token and run it, until something ends it."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field

from .decoder import Decoder
from .sampling import Sampler

__all__ = ["Generation"]


@dataclass
class Generation:
    """One continuation of a prompt: iterate over `run` to make it; what it was and how long it took is left here.

    Attributes:
        max_tokens: end after so many; 0 only runs the prompt.
        stop_ids: tokens that end the text and are not part of it.
        tokens: the text's tokens so far.
        finish: why it ended: "stop" (a stop token), "length" (max_tokens), "context" (the cache is full); "" before.
        prefill_seconds: the prompt, and the choice of the first token.
        decode_seconds: `decode_steps` further tokens, a stop token among them; not what the caller did in between.
    """

    decoder: Decoder
    sampler: Sampler
    max_tokens: int
    stop_ids: Collection[int]
    tokens: list[int] = field(default_factory=list)
    finish: str = ""
    prefill_seconds: float = 0.0
    decode_seconds: float = 0.0
    decode_steps: int = 0

    def run(self, prompt_ids: Sequence[int]) -> Iterator[int]:
        """Gives each token as soon as it is chosen.

        Raises:
            Problem: the prompt does not fit the cache, or the model's predictions are not numbers.
        """
        start = time.perf_counter()
        logits = self.decoder.prefill(prompt_ids)
        if self.max_tokens == 0:
            self.prefill_seconds = time.perf_counter() - start
            self.finish = "length"
            return
        token = self.sampler(logits)
        self.prefill_seconds = time.perf_counter() - start
        while token not in self.stop_ids:
            self.tokens.append(token)
            yield token
            if len(self.tokens) >= self.max_tokens:
                self.finish = "length"
                return
            if self.decoder.length >= self.decoder.context:
                self.finish = "context"
                return
            start = time.perf_counter()
            token = self.sampler(self.decoder.step(token))
            self.decode_seconds += time.perf_counter() - start
            self.decode_steps += 1
        self.finish = "stop"
