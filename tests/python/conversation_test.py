"""A conversation against a decoder that plays a script: which tokens are run, and when they are run again."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from tokenizers import Tokenizer

from onnxruntime_ep_ryzen_npu_gemma.chat_template import ChatTemplate
from onnxruntime_ep_ryzen_npu_gemma.conversation import Conversation
from onnxruntime_ep_ryzen_npu_gemma.errors import Problem
from tests.python.chat_script import TEMPLATE


class ScriptedDecoder:
    """Answers with the next token of a script; remembers what it was given."""

    def __init__(self, script: Sequence[int], context: int, rewinds: bool) -> None:
        self.context = context
        self.ids: list[int] = []
        self.run_tokens = 0
        self._rewinds = rewinds
        self._script = iter(script)

    @property
    def length(self) -> int:
        return len(self.ids)

    def forward(self, ids: Sequence[int]) -> np.ndarray:
        assert len(ids) > 0 and len(self.ids) + len(ids) <= self.context
        self.ids += ids
        self.run_tokens += len(ids)
        return np.array([[len(self.ids)]])

    def rewind(self, length: int) -> bool:
        if length == len(self.ids):
            return True
        if not self._rewinds and length:
            return False
        del self.ids[length:]
        return True

    def reset(self) -> None:
        self.ids.clear()

    def choose(self, logits: np.ndarray) -> int:
        assert logits.tolist() == [len(self.ids)]  # those of the last token that was run
        return next(self._script)


class Talk:
    """A conversation, its decoder and its tokenizer."""

    def __init__(
        self, tokenizer: Tokenizer, answers: Sequence[str], *, context: int = 200, rewinds: bool = True,
        template: str = TEMPLATE,
    ) -> None:  # fmt: skip
        self.tokenizer = tokenizer
        script = [token for answer in answers for token in self.ids(answer)]
        self.decoder = ScriptedDecoder(script, context, rewinds)
        self.template = ChatTemplate(template, "here", tokenizer, {"bos_token": "<bos>"})
        self.conversation = Conversation(self.decoder, tokenizer, self.template, {1})  # type: ignore[arg-type]

    def ids(self, text: str) -> list[int]:
        self.tokenizer.encode_special_tokens = False
        return self.tokenizer.encode(text, add_special_tokens=False).ids

    def say(self, text: str, count: int = 99, stopped=lambda: False) -> str:
        return "".join(self.conversation.say(text, self.decoder.choose, count, stopped))

    def text(self) -> str:
        return (
            "".join(self.tokenizer.id_to_token(i) for i in self.decoder.ids).replace("▁", " ").replace("<0x0A>", "\n")
        )


@pytest.mark.parametrize("stop", ["<end_of_turn>", "<eos>"])
def test_each_turn_runs_only_what_is_new(tokenizer: Tokenizer, stop: str) -> None:
    talk = Talk(tokenizer, ["the in" + stop, " in " + stop])
    assert (talk.say("in the"), talk.conversation.finish) == ("the in", "stop")
    assert talk.text() == "<bos><start_of_turn>user\nin the<end_of_turn>\n<start_of_turn>model\nthe in"
    before = talk.decoder.run_tokens
    assert talk.say("the") == " in "
    assert talk.text() == (
        "<bos><start_of_turn>user\nin the<end_of_turn>\n<start_of_turn>model\nthe in"
        "<end_of_turn>\n<start_of_turn>user\nthe<end_of_turn>\n<start_of_turn>model\n in "
    )
    assert talk.decoder.run_tokens == len(talk.decoder.ids)
    assert talk.decoder.run_tokens - before == talk.conversation.prompt_tokens + talk.conversation.answer_tokens
    assert talk.conversation.rerun == 0
    assert talk.conversation.tokens == talk.decoder.ids
    assert [message["role"] for message in talk.conversation.messages] == ["user", "assistant"] * 2


def test_an_interrupted_answer_is_part_of_the_conversation(tokenizer: Tokenizer) -> None:
    talk = Talk(tokenizer, [" the the the<eos>"])  # a token each
    asked = iter([False, False, True])
    assert talk.say("the", stopped=lambda: next(asked)) == " the"
    assert (talk.conversation.finish, talk.conversation.answer_tokens) == ("interrupted", 1)
    assert talk.say("in") == " the the"  # the script goes on where it was
    assert talk.text().startswith(
        "<bos><start_of_turn>user\nthe<end_of_turn>\n<start_of_turn>model\n the<end_of_turn>\n<start_of_turn>user\nin<"
    )


def test_an_interrupted_prompt_is_run_with_the_next(tokenizer: Tokenizer) -> None:
    talk = Talk(tokenizer, ["the<eos>"])
    assert talk.say("in", stopped=lambda: True) == ""
    assert (talk.decoder.ids, talk.conversation.finish) == ([], "interrupted")
    assert talk.say("the") == "the"
    assert talk.text() == (
        "<bos><start_of_turn>user\nin<end_of_turn>\n<start_of_turn>model\n<end_of_turn>\n<start_of_turn>user\nthe"
        "<end_of_turn>\n<start_of_turn>model\nthe"
    )


def test_an_answer_ends_at_its_length_and_goes_on_after_it(tokenizer: Tokenizer) -> None:
    talk = Talk(tokenizer, [" the the the<eos>"])
    assert (talk.say("in", 2), talk.conversation.finish, talk.conversation.answer_tokens) == (" the the", "length", 2)
    assert len(talk.conversation.tokens) == talk.decoder.length + 1  # the last one is not run yet
    assert talk.say("in", 2) == " the"
    assert talk.conversation.tokens == talk.decoder.ids


def test_a_full_context_ends_the_answer_and_refuses_the_next_message(tokenizer: Tokenizer) -> None:
    talk = Talk(tokenizer, ["in" * 300], context=60)
    talk.say("the", 999)
    assert (talk.conversation.finish, talk.decoder.length) == ("context", 60)
    messages = [*talk.conversation.messages]
    with pytest.raises(Problem, match=r"no longer fits the context: context of 60 tokens: found .*start a new chat"):
        talk.say("the")
    assert talk.conversation.messages == messages


def test_a_message_that_does_not_fit_changes_nothing(tokenizer: Tokenizer) -> None:
    talk = Talk(tokenizer, ["the<eos>", "in<eos>"], context=60)
    talk.say("in")
    with pytest.raises(Problem, match="no longer fits"):
        talk.say("z" * 60)
    assert talk.say("in") == "in"
    assert talk.decoder.run_tokens == len(talk.decoder.ids)


def test_a_system_message_is_run_ahead(tokenizer: Tokenizer) -> None:
    talk = Talk(tokenizer, ["the<eos>"])
    talk.conversation.set_system("in the in")
    ahead = talk.decoder.run_tokens
    assert talk.text().startswith("<bos><start_of_turn>system\nin the in<end_of_turn>\n<start_of_turn>user")
    talk.say("the")
    assert talk.conversation.prompt_tokens + ahead == len(talk.template.encode(talk.conversation.messages[:2]))
    assert talk.conversation.rerun == 0


REWRITES = (
    "{% for m in messages %}{% if m.role == 'user' or loop.last %}<start_of_turn>{{ m.content }}{% endif %}{% endfor %}"
    "<end_of_turn>"
)


@pytest.mark.parametrize("rewinds", [True, False])
def test_a_template_that_forgets_answers_runs_again_what_it_must(tokenizer: Tokenizer, rewinds: bool) -> None:
    talk = Talk(tokenizer, ["the<eos>", "the<eos>"], template=REWRITES, rewinds=rewinds)
    talk.say("in")
    talk.say("the")
    assert talk.text() == "<start_of_turn>in<start_of_turn>the<end_of_turn>the"
    common = len(talk.ids("<start_of_turn>in"))
    assert talk.conversation.rerun == (0 if rewinds else common)
    assert talk.decoder.ids == talk.conversation.tokens


def test_bytes_of_a_character_come_as_one_piece(tokenizer: Tokenizer) -> None:
    talk = Talk(tokenizer, ["語<eos>"])
    assert [piece for piece in talk.conversation.say("in", talk.decoder.choose, 9) if piece] == ["語"]
