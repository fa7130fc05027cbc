"""A conversation with a chat model that keeps its KV cache: each turn runs only what the cache does not hold.

`tokens` are all tokens so far, exactly as they were run: an answer is never tokenised again. The next turn's tokens are
those of the template's text behind the answer. Where that cannot be told, because the template rewrites old answers, or
where the first turn does not start with what was run ahead, the cache goes back to what is common to both, or starts
anew; `rerun` then counts the tokens that were run again.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from typing import TYPE_CHECKING

from .chat_template import ChatTemplate, Message
from .decoder import PREFILL_CHUNK
from .errors import Problem
from .streaming import TextStream

if TYPE_CHECKING:
    import numpy as np
    from tokenizers import Tokenizer

    from .decoder import Decoder

__all__ = ["Conversation"]

# What a user may say first, for what they have in common: the tokens before it.
_FIRST_WORDS = ("a", "Z", "7", "(", "\u00e9")


class Conversation:
    """Messages, their tokens, and the decoder that holds the tokens' keys and values.

    Attributes:
        messages: the turns so far.
        tokens: their ids, the answer's stop token not among them.
        finish: how the last answer ended: "stop", "length", "context" or "interrupted".
        rerun: tokens that the last turn ran though they had been run before.
        prompt_tokens: tokens that the last turn ran before its answer.
        answer_tokens: of the last answer.
    """

    def __init__(
        self, decoder: Decoder, tokenizer: Tokenizer, template: ChatTemplate, stop_ids: Collection[int]
    ) -> None:
        self.messages: list[Message] = []
        self.tokens: list[int] = []
        self.finish = ""
        self.rerun = self.prompt_tokens = self.answer_tokens = 0
        self._decoder = decoder
        self._tokenizer = tokenizer
        self._template = template
        self._stop_ids = {*stop_ids} | ({template.turn_end} if template.turn_end is not None else set())

    def set_system(self, text: str) -> None:
        """Puts a system message in front, before the first turn, and runs what is sure to stand before a user's text.

        Raises:
            Problem: the template takes none, or it does not fit the cache.
        """
        system: list[Message] = [{"role": "system", "content": text}]
        starts = [self._template.encode([*system, {"role": "user", "content": word}]) for word in _FIRST_WORDS]
        self._check_room(starts[0])
        self.messages = system
        self.tokens = starts[0][: min(_common(starts[0], start) for start in starts)]
        self._catch_up(lambda: False)

    def resume(self, messages: Sequence[Message], tokens: Sequence[int]) -> None:
        """Takes over a conversation whose keys and values the decoder has been given."""
        self.messages, self.tokens = [*messages], [*tokens]

    def say(
        self,
        text: str,
        choose: Callable[[np.ndarray], int],
        max_tokens: int,
        stopped: Callable[[], bool] = lambda: False,
    ) -> Iterator[str]:
        """Says something to the model; gives its answer in pieces as they come.

        Args:
            text: the user's message.
            choose: the next token for logits [V].
            max_tokens: of the answer, 1 or more.
            stopped: asked between tokens and between parts of the prompt; True ends the answer where it is.

        Raises:
            Problem: the message does not fit the cache, or cannot be encoded; the conversation is as before.
        """
        turn: Message = {"role": "user", "content": text}
        tokens = self._tokens_with(turn)
        self._check_room(tokens)
        self.messages.append(turn)
        common = _common(self.tokens[: self._decoder.length], tokens[:-1])  # the last one's logits are wanted
        self.tokens = tokens
        if not self._decoder.rewind(common):
            self._decoder.reset()
        self.rerun = common - self._decoder.length
        self.prompt_tokens = len(tokens) - self._decoder.length
        self.answer_tokens = 0
        return self._answer(choose, max_tokens, stopped)

    def _answer(
        self, choose: Callable[[np.ndarray], int], max_tokens: int, stopped: Callable[[], bool]
    ) -> Iterator[str]:
        stream = TextStream(self._tokenizer)
        pieces: list[str] = []
        try:
            while (logits := self._catch_up(stopped)) is not None:
                token = choose(logits)
                if token in self._stop_ids:
                    self.finish = "stop"
                    break
                self.tokens.append(token)
                self.answer_tokens += 1
                pieces.append(stream.add(token))
                yield pieces[-1]
                if self.answer_tokens >= max_tokens or len(self.tokens) > self._decoder.context:
                    self.finish = "length" if self.answer_tokens >= max_tokens else "context"
                    break
            else:
                self.finish = "interrupted"
            pieces.append(stream.finish())
            yield pieces[-1]
        finally:
            self.messages.append({"role": "assistant", "content": "".join(pieces)})

    def _catch_up(self, stopped: Callable[[], bool]) -> np.ndarray | None:
        """Runs the tokens that the cache does not hold yet; None if stopped."""
        logits = None
        while not stopped():
            todo = self.tokens[self._decoder.length :][:PREFILL_CHUNK]
            if not todo:
                return logits
            logits = self._decoder.forward(todo)[-1]
        return None

    def _tokens_with(self, turn: Message) -> list[int]:
        """All tokens up to the answer to a new turn."""
        messages = [*self.messages, turn]
        if not self.messages or self.messages[-1]["role"] != "assistant":
            return self._template.encode(messages)
        answer = self.messages[-1]["content"]
        before = self._template.render(self.messages[:-1])
        text = self._template.render(messages)
        for kept in (answer, answer.strip()):
            if text.startswith(before + kept):
                return self.tokens + self._template.encode_after(before + kept, messages)
        return self._template.encode(messages)

    def _check_room(self, tokens: Sequence[int]) -> None:
        context = self._decoder.context
        if len(tokens) > context:
            raise Problem("the conversation no longer fits the context", f"context of {context} tokens",
                          f"{len(tokens)} tokens with this message",
                          "start a new chat, say it in fewer words, or give a larger --context")  # fmt: skip


def _common(a: Sequence[int], b: Sequence[int]) -> int:
    """The length of the start that two sequences share."""
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
