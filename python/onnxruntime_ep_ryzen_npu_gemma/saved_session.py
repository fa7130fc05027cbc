"""A sequence's tokens, keys and values in one file, so that a long prompt need not be run again.

    line      "ryzen-npu-gemma session 1"
    8 bytes   the header's length, little-endian
    header    JSON: model (a hash of graph and weights), tokens, length (how many of them have keys and values),
              messages (of a chat, or null), tensors (name, dtype and shape, in the order of their bytes)
    tensors   row by row in the order of positions
    32 bytes  SHA-256 of all before

A file that is cut, altered, of another model or another version is refused before anything of it is used. The hash
shows damage; it is no signature, so load files of people whom you trust to choose the model's context.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from .errors import Problem
from .sources import SourceError, strict_json

if TYPE_CHECKING:
    from .chat_template import Message
    from .decoder import Decoder

__all__ = ["SavedSession", "check_can_save", "load_session", "model_hash", "save_session"]

_MAGIC = b"ryzen-npu-gemma session 1\n"
_DTYPES: dict[str, np.dtype] = {"float16": np.dtype("<f2"), "float32": np.dtype("<f4")}
_ROLES = frozenset(("system", "user", "assistant"))
_AGAIN = "make it again with --save-session"


@dataclass(frozen=True)
class SavedSession:
    """What a file holds beside the cache.

    Attributes:
        tokens: all tokens; those that the decoder's length does not reach are still to be run.
        messages: the chat that they are of; None if they are of plain text.
    """

    tokens: list[int]
    messages: list[Message] | None


def model_hash(folder: Path) -> str:
    """SHA-256 of the graph and the weights of a model folder: what keys and values depend on."""
    total = hashlib.sha256()
    for path in sorted(folder.glob("model.onnx*")):
        with path.open("rb") as file:
            total.update(hashlib.file_digest(file, "sha256").digest())
    return total.hexdigest()


def check_can_save(path: Path) -> None:
    """Refuses a place that takes no file before the work is done that the file is to hold.

    Raises:
        Problem: it is a folder, or its folder is missing or not writable.
    """
    folder = path.parent
    if path.is_dir():
        found, do = "a folder", "give the name of a file in it"
    elif not folder.is_dir():
        found, do = f"no folder {folder}", "make the folder, or save elsewhere"
    elif not os.access(folder, os.W_OK | os.X_OK):
        found, do = f"no permission to write in {folder}", "save elsewhere"
    else:
        return
    raise Problem("the session cannot be saved there", path, found, do)


def save_session(path: Path, session: SavedSession, decoder: Decoder, model: str) -> None:
    """Writes a file, whole or not at all.

    Args:
        path: the file; replaced if it is there.
        session: tokens that start with those in the decoder.
        decoder: its cache is saved.
        model: `model_hash` of the decoder's model.

    Raises:
        OSError: it cannot be written.
    """
    rows = decoder.rows()
    header = {
        "model": model,
        "tokens": session.tokens,
        "length": decoder.length,
        "messages": session.messages,
        "tensors": [[name, array.dtype.name, array.shape] for name, array in rows.items()],
    }
    text = json.dumps(header, ensure_ascii=True).encode()
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name[:64]}.", dir=path.parent)  # readable by its owner only
    try:
        with os.fdopen(descriptor, "wb") as file:
            digest = hashlib.sha256()
            parts: list[bytes | memoryview] = [_MAGIC, len(text).to_bytes(8, "little"), text]
            for part in (*parts, *map(_bytes, rows.values())):
                digest.update(part)
                file.write(part)
            file.write(digest.digest())
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def load_session(path: Path, decoder: Decoder, model: str) -> SavedSession:
    """Reads a file into a decoder.

    Args:
        path: the file.
        decoder: takes the keys and values; as before if this fails.
        model: `model_hash` of the decoder's model.

    Raises:
        Problem: the file is missing, damaged, of another model or version, or does not fit the decoder's context.
    """
    try:
        with path.open("rb") as file:
            header, rows = _read(file, path)
    except OSError as error:
        raise Problem("the saved session cannot be read", path, error.strerror or error, "check the path") from error
    if header["model"] != model:
        raise Problem("the saved session is another model's", path, f"hash {header['model'][:12]}… for {model[:12]}…",
                      f"load it with the folder that saved it, or {_AGAIN}")  # fmt: skip
    if (worst := max(header["tokens"], default=0)) >= decoder.vocab_size:
        raise _damaged(path, f"token {worst} in a vocabulary of {decoder.vocab_size}")
    decoder.load(header["length"], rows)
    return SavedSession(header["tokens"], header["messages"])


def _read(file: BinaryIO, path: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Header and tensors, checked against the hash and each other. Allocates no more than the file is long."""
    size = os.fstat(file.fileno()).st_size
    digest = hashlib.sha256()

    def read(count: int) -> bytes:
        data = file.read(count) if count <= size else b""
        if len(data) != count:
            raise _damaged(path, f"{size} bytes, which are not all of it")
        digest.update(data)
        return data

    if (start := file.read(len(_MAGIC))) != _MAGIC:
        found = ascii(start.split(b"\n")[0].decode("ascii", "replace"))
        raise Problem("this is not a saved session of this version", path, found, _AGAIN)
    digest.update(_MAGIC)
    length = int.from_bytes(read(8), "little")
    if length > strict_json.MAX_BYTES:
        raise _damaged(path, f"a header of {length} bytes")
    header = _checked_header(read(length), path)
    rows = {}
    for name, dtype, shape in header["tensors"]:
        count = int(np.prod(shape, dtype=object)) * _DTYPES[dtype].itemsize
        if name in rows:
            raise _damaged(path, f"{name[:64]!a} twice")
        rows[name] = np.frombuffer(read(count), _DTYPES[dtype]).reshape(shape)
    if file.read() != digest.digest():
        raise _damaged(path, "a hash that is not that of its content")
    return header, rows


def _checked_header(text: bytes, path: Path) -> dict[str, Any]:
    try:
        header = strict_json.parse(text, str(path))
    except SourceError as error:
        raise _damaged(path, error.found) from error
    tokens: Any = header.get("tokens")
    messages, tensors = header.get("messages"), header.get("tensors")
    ok = (
        isinstance(header.get("model"), str)
        and _is_ids(tokens)
        and type(header.get("length")) is int
        and 0 <= header["length"] <= len(tokens)
        and (messages is None or (isinstance(messages, list) and all(map(_is_message, messages))))
        and isinstance(tensors, list)
        and all(map(_is_tensor, tensors))
    )
    if not ok:
        raise _damaged(path, "a header without the right entries")
    return header


def _is_ids(value: object) -> bool:
    return isinstance(value, list) and all(type(token) is int and token >= 0 for token in value)


def _is_message(value: object) -> bool:
    return (
        isinstance(value, dict)
        and value.keys() == {"role", "content"}
        and isinstance(value["role"], str)
        and value["role"] in _ROLES
        and isinstance(value["content"], str)
    )


def _is_tensor(value: object) -> bool:
    if not (isinstance(value, list) and len(value) == 3):
        return False
    name, dtype, shape = value
    return isinstance(name, str) and isinstance(dtype, str) and dtype in _DTYPES and _is_ids(shape) and len(shape) == 4


def _damaged(path: Path, found: str) -> Problem:
    return Problem("the saved session is damaged", path, found, _AGAIN)


def _bytes(array: np.ndarray) -> memoryview:
    little = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
    return little.reshape(-1).view(np.uint8).data
