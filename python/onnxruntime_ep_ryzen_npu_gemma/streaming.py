"""Token ids -> text as they come, where one character may be spread over several byte tokens.

Gemma spells characters outside its vocabulary as byte tokens, `<0xE2>` `<0x82>` `<0xAC>`. Those are gathered until they
make a character; bytes that never do become U+FFFD, as everywhere in Unicode. All other tokens are whole text.
"""

from __future__ import annotations

import codecs
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tokenizers import Tokenizer

__all__ = ["TextStream"]

_BYTE_TOKEN = re.compile(r"<0x([0-9A-F]{2})>")


class TextStream:
    """Turns one sequence of ids into pieces of text that join to the whole text; each piece is valid Unicode."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._utf8 = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def add(self, token_id: int) -> str:
        """The text that is complete now; "" while a character is unfinished, and for control tokens."""
        byte = _BYTE_TOKEN.fullmatch(self._tokenizer.id_to_token(token_id) or "")
        if byte:
            return self._utf8.decode(bytes.fromhex(byte[1]))
        return self.finish() + self._tokenizer.decode([token_id], skip_special_tokens=True)

    def finish(self) -> str:
        """Ends the sequence: U+FFFD when a character was left unfinished, else ""."""
        rest = self._utf8.decode(b"", final=True)
        self._utf8.reset()
        return rest
