"""Text the user typed -> token ids, with nothing in it able to act as a control token.

`<end_of_turn>` in a prompt is eleven characters, not the end of a turn: special tokens are put in by us (here `<bos>`,
later the chat template), never found in text from outside.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from .errors import Problem

if TYPE_CHECKING:
    from tokenizers import Tokenizer

__all__ = ["encode_plain", "encode_prompt", "read_text"]


def encode_plain(tokenizer: Tokenizer, text: str) -> list[int]:
    """Ids of `text`, all of it read as plain characters; no `<bos>`.

    Raises:
        Problem: the text has a lone surrogate (it was not valid UTF-8), or merges of the tokenizer spell a special
            token, which would let the text act as one.
    """
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise Problem("this text is not valid Unicode", f"character {error.start}", ascii(text[error.start]),
                      "pass the text as UTF-8") from None  # fmt: skip
    tokenizer.encode_special_tokens = True
    ids = tokenizer.encode(text, add_special_tokens=False).ids
    special = {i: token.content for i, token in tokenizer.get_added_tokens_decoder().items() if token.special}
    spelled = next((special[i] for i in ids if i in special), None)
    if spelled is not None:
        raise Problem("this text would act as a control token", "the tokenizer's merges", ascii(spelled),
                      "remove it from the text, or convert the model again with its original tokenizer")  # fmt: skip
    return ids


def encode_prompt(tokenizer: Tokenizer, text: str, bos_id: int) -> list[int]:
    """`<bos>` and then the plain text: the prompt of a base model. An empty text gives `<bos>` alone."""
    return [bos_id, *encode_plain(tokenizer, text)]


def read_text(path: Path) -> str:
    """Reads a text file.

    Raises:
        Problem: it is not UTF-8.
    """
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise Problem("the text is not UTF-8", path, f"byte {error.start}", "convert it to UTF-8") from None
