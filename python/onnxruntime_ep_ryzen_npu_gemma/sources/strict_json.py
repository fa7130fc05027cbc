"""JSON from untrusted files: bounded in size and depth, no duplicate keys, an object at the top."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

from .source import SourceError

__all__ = ["MAX_BYTES", "load", "parse"]

MAX_BYTES = 8 << 20  # the largest header or index of a Gemma3 (27B, 1247 tensors) is about 0.2 MB


def load(path: Path) -> dict[str, Any]:
    """Reads a JSON object from a file.  Raises `SourceError`."""
    if not path.is_file():
        raise SourceError("a file is missing", path, "no regular file", "point at a complete Hugging Face model folder")
    if (size := path.stat().st_size) > MAX_BYTES:
        raise SourceError("a JSON file is too large", path, f"{size} bytes", f"at most {MAX_BYTES} are read")
    return parse(path.read_bytes(), str(path))


def parse(data: bytes, where: str) -> dict[str, Any]:
    """Parses a JSON object.  Raises `SourceError` that names `where`."""
    try:
        value = json.loads(data.decode("utf-8"), object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        reason = str(error) or type(error).__name__
        raise SourceError("not valid JSON", where, reason[:200], "get the file again") from error
    if not isinstance(value, dict):
        raise SourceError("not a JSON object", where, type(value).__name__, "get the file again")
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        duplicate, _ = Counter(key for key, _ in pairs).most_common(1)[0]
        raise ValueError(f"the key {duplicate!r} twice")
    return result
