"""tokenizer.json and tokenizer_config.json of a converted model."""

from __future__ import annotations

from .files import write_tokenizer

__all__ = ["write_tokenizer"]
