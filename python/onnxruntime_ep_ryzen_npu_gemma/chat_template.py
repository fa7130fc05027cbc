"""A conversation -> token ids, by the chat template of the model folder; typed text cannot act as a control token.

Templates are programs from a model file: they run in jinja2's sandbox, as everywhere. Their own control tokens count as
such; those that somebody typed are text. A message that spells one is put in after the template has run, where the
template left a mark for it.
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

from .errors import Problem
from .prompt import encode_plain
from .sources import strict_json

if TYPE_CHECKING:
    import jinja2
    from tokenizers import Tokenizer

__all__ = ["ChatTemplate", "Message", "open_chat_template"]

_CONFIG, _TEMPLATE = "tokenizer_config.json", "chat_template.jinja"
_MAX_BYTES = 1 << 20  # Gemma's template has 1.5 kB
_TURN_END = "<end_of_turn>"
_MARK = "\ufdd0{}\ufdd1"  # Unicode's own non-characters: no text has them


class Message(TypedDict):
    """One turn: role is "system", "user" or "assistant"."""

    role: str
    content: str


class ChatTemplate:
    """The template of one model, with its tokenizer."""

    def __init__(self, source: str, where: str, tokenizer: Tokenizer, special: dict[str, str]) -> None:
        """Compiles a template.

        Args:
            source: in jinja2's language.
            where: where it is from, for errors.
            tokenizer: of the same model.
            special: texts of special tokens by the names that templates use, such as bos_token.

        Raises:
            Problem: it is not a template.
        """
        from jinja2 import TemplateError

        self._where = where
        self._tokenizer = tokenizer
        self._special = special
        try:
            self._template = _environment().from_string(source)
        except TemplateError as error:
            raise self._problem(error) from error
        added = tokenizer.get_added_tokens_decoder()
        self._special_texts = [token.content for token in added.values() if token.special]
        self.turn_end: int | None = tokenizer.token_to_id(_TURN_END)

    def render(self, messages: Sequence[Message], *, answer_next: bool = True) -> str:
        """The text of a conversation.

        Args:
            messages: oldest first.
            answer_next: put in what starts the model's answer.

        Raises:
            Problem: the template refuses this conversation, or fails.
        """
        from jinja2 import TemplateError

        try:
            return self._template.render(
                messages=messages, add_generation_prompt=answer_next, tools=None, **self._special
            )
        except (TemplateError, ArithmeticError, LookupError, TypeError, ValueError, RecursionError) as error:
            raise self._problem(error) from error

    def encode(self, messages: Sequence[Message]) -> list[int]:
        """Ids of a conversation up to where the model's answer starts.

        Raises:
            Problem: as `render`, or a message spells a control token and the template does more than put it in.
        """
        return self.encode_after("", messages)

    def encode_after(self, known: str, messages: Sequence[Message]) -> list[int]:
        """Ids of what follows the text `known`, with which the conversation's text starts.

        Raises:
            Problem: as `encode`.
        """
        text = self.render(messages)
        assert text.startswith(known)
        if not any(self._spells_special(message["content"]) for message in messages):
            return self._encode_trusted(text[len(known) :])
        return self._encode_marked(text, known, messages)

    def _encode_marked(self, text: str, known: str, messages: Sequence[Message]) -> list[int]:
        """Messages as plain text between the template's own parts."""
        contents = [message["content"] for message in messages]
        marks = [_MARK.format(i) for i in range(len(messages))]
        marked = self.render([message | {"content": mark} for message, mark in zip(messages, marks, strict=True)])
        for put_in in (contents, [content.strip() for content in contents]):
            parts = _split(marked, marks, put_in)
            if "".join(part for part, _ in parts) == text:
                break
        else:
            raise Problem("this message spells a control token", "the chat template", "it changes what it is given",
                          "write the message without control tokens")  # fmt: skip
        ids: list[int] = []
        skip = len(known)
        for part, typed in parts:
            rest = part[skip:]
            skip = max(0, skip - len(part))
            ids += encode_plain(self._tokenizer, rest) if typed else self._encode_trusted(rest)
        return ids

    def _encode_trusted(self, text: str) -> list[int]:
        self._tokenizer.encode_special_tokens = False
        try:
            ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False).ids
        except Exception as error:  # the library raises bare Exception, TypeError for a lone surrogate
            raise Problem("this text cannot be encoded", "the conversation", str(error)[:80],
                          "pass the text as UTF-8") from None  # fmt: skip
        return ids

    def _spells_special(self, text: str) -> bool:
        return any(special in text for special in self._special_texts)

    def _problem(self, error: Exception) -> Problem:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        return Problem("the chat template cannot be used", self._where, reason[:200], "check the model's template")


def open_chat_template(folder: Path, tokenizer: Tokenizer) -> ChatTemplate:
    """The template in a model folder: chat_template.jinja, or the one in tokenizer_config.json.

    Raises:
        Problem: there is none, or it is not a template.
    """
    config: dict[str, Any] = strict_json.load(folder / _CONFIG) if (folder / _CONFIG).is_file() else {}
    where, source = folder / _TEMPLATE, config.get("chat_template")
    if where.is_file():
        if (size := where.stat().st_size) > _MAX_BYTES:
            raise Problem("the chat template is too large", where, f"{size} bytes", f"at most {_MAX_BYTES} are read")
        source = where.read_text(encoding="utf-8", errors="replace")
    else:
        where = folder / f"{_CONFIG}: chat_template"
    if not isinstance(source, str):
        raise Problem("this model has no chat template", where, json.dumps(source)[:80],
                      "use `generate` for a base model, or put a chat_template.jinja into the folder")  # fmt: skip
    return ChatTemplate(source, str(where), tokenizer, _special_texts(config))


def _special_texts(config: dict[str, Any]) -> dict[str, str]:
    """bos_token and the like: a text, or an object with the text as its content."""
    texts = {}
    for name in ("bos_token", "eos_token", "pad_token", "unk_token"):
        token = config.get(name)
        text = token.get("content") if isinstance(token, dict) else token
        if isinstance(text, str):
            texts[name] = text
    return texts


def _environment() -> jinja2.Environment:
    """The language that Hugging Face's templates are written in."""
    from jinja2.exceptions import TemplateError
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    def raise_exception(message: str) -> None:
        raise TemplateError(message)

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
    )
    environment.filters["tojson"] = lambda value, **options: json.dumps(value, ensure_ascii=False, **options)
    environment.globals["raise_exception"] = raise_exception
    environment.globals["strftime_now"] = lambda form: datetime.datetime.now().strftime(form)
    return environment


def _split(marked: str, marks: Sequence[str], contents: Sequence[str]) -> list[tuple[str, bool]]:
    """The marked text as parts, each with whether it was typed."""
    parts, start = [], 0
    for mark, content in zip(marks, contents, strict=True):
        if (at := marked.find(mark, start)) < 0:
            continue
        parts += [(marked[start:at], False), (content, True)]
        start = at + len(mark)
    return [*parts, (marked[start:], False)]
