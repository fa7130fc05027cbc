"""Tells the kinds of weight sources apart."""

from __future__ import annotations

import os
from pathlib import Path

from .gguf import GgufSource
from .q4nx import Q4NX_FILE, Q4nxFolderSource
from .safetensors import HfFolderSource
from .source import SourceError

__all__ = ["open_source"]


def open_source(path: str | os.PathLike[str]) -> GgufSource | HfFolderSource | Q4nxFolderSource:
    """Opens a GGUF file, a Hugging Face folder, or a folder with model.q4nx.

    Raises:
        SourceError: it is missing, damaged, or not a Gemma3 text model.
    """
    path = Path(path)
    try:
        if path.is_dir():
            return Q4nxFolderSource(path) if (path / Q4NX_FILE).exists() else HfFolderSource(path)
        if path.is_file():
            return GgufSource(path)
    except OSError as error:
        found = error.strerror or error
        raise SourceError("cannot read the model", path, found, "check that you may read it") from error
    raise SourceError("no such model", path, "nothing there", "give a .gguf file or a Hugging Face model folder")
