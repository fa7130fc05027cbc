"""Where weights come from: GGUF files, Hugging Face folders and model.q4nx folders, read without torch or trust."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .gguf import GgufSource
    from .gguf_metadata import SpmVocabulary
    from .opening import open_source
    from .q4nx import Q4nxFolderSource
    from .safetensors import HfFolderSource
    from .source import Gemma3TextConfig, Source, SourceError

__all__ = [
    "Gemma3TextConfig",
    "GgufSource",
    "HfFolderSource",
    "Q4nxFolderSource",
    "Source",
    "SourceError",
    "SpmVocabulary",
    "open_source",
]

_MODULES = {
    "Gemma3TextConfig": "source",
    "GgufSource": "gguf",
    "HfFolderSource": "safetensors",
    "Q4nxFolderSource": "q4nx",
    "Source": "source",
    "SourceError": "source",
    "SpmVocabulary": "gguf_metadata",
    "open_source": "opening",
}


def __getattr__(name: str) -> object:
    """Imports a source when it is asked for: their libraries are not for those who only run a model."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_MODULES[name]}", __name__), name)
