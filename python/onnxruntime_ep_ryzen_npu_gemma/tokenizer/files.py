"""Writes the tokenizer files: built from a GGUF vocabulary, or copied from a folder after a check."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from tokenizers import Tokenizer

from onnxruntime_ep_ryzen_npu_gemma.sources import (
    GgufSource,
    HfFolderSource,
    Q4nxFolderSource,
    SourceError,
    strict_json,
)

from .spm import build_tokenizer

if TYPE_CHECKING:
    from onnxruntime_ep_ryzen_npu_gemma.exported_model import ExportedModel

__all__ = ["write_tokenizer"]

_TOKENIZER, _CONFIG, _TEMPLATE = "tokenizer.json", "tokenizer_config.json", "chat_template.jinja"
_MAX_BYTES = 128 << 20  # Gemma's tokenizer.json has 33 MB


def write_tokenizer(source: GgufSource | HfFolderSource | Q4nxFolderSource | ExportedModel, folder: Path) -> Tokenizer:
    """Writes tokenizer.json, tokenizer_config.json and, where the source has one, the chat template as a file.

    Returns:
        The tokenizer that was written.

    Raises:
        SourceError: a folder has no usable tokenizer.json.
    """
    if not isinstance(source, GgufSource):
        return _copy(source, folder)
    tokenizer = build_tokenizer(source.vocabulary, source.config)
    tokenizer.save(str(folder / _TOKENIZER), pretty=False)
    text = json.dumps(_tokenizer_config(source), ensure_ascii=False, indent=2)
    (folder / _CONFIG).write_text(text + "\n", encoding="utf-8")
    _write_template(source.vocabulary.chat_template, folder)
    return tokenizer


def _tokenizer_config(source: GgufSource) -> dict[str, object]:
    config, vocabulary = source.config, source.vocabulary
    result: dict[str, object] = {
        "tokenizer_class": "GemmaTokenizer",
        "add_bos_token": vocabulary.add_bos,
        "add_eos_token": False,
        "bos_token": vocabulary.tokens[config.bos_token_id],
        "eos_token": vocabulary.tokens[config.eos_token_ids[0]],
        "pad_token": vocabulary.tokens[config.pad_token_id],
        "unk_token": vocabulary.tokens[vocabulary.unk_token_id],
        "clean_up_tokenization_spaces": False,
        "spaces_between_special_tokens": False,
        "model_max_length": config.max_positions,
    }
    if vocabulary.chat_template is not None:
        result["chat_template"] = vocabulary.chat_template
    return result


def _copy(source: HfFolderSource | Q4nxFolderSource | ExportedModel, folder: Path) -> Tokenizer:
    path = source.path / _TOKENIZER
    do = "take tokenizer.json from the original model"
    data = _read(path)
    if data is None:
        raise SourceError("a file is missing", path, "nothing", do)
    try:
        tokenizer = Tokenizer.from_buffer(data)
    except Exception as error:  # the package raises plain Exception
        raise SourceError("not a tokenizer", path, str(error)[:200], do) from error
    if (size := tokenizer.get_vocab_size(with_added_tokens=False)) > source.config.vocab_size:
        found = f"{size} tokens for {source.config.vocab_size} embedding rows"
        raise SourceError("the tokenizer is another model's", path, found, do)
    (folder / _TOKENIZER).write_bytes(data)
    for name in (_CONFIG, _TEMPLATE):
        if (data := _read(source.path / name)) is not None:
            (folder / name).write_bytes(data)
    if (folder / _CONFIG).is_file():
        _write_template(strict_json.load(folder / _CONFIG).get("chat_template"), folder)
    return tokenizer


def _write_template(template: object, folder: Path) -> None:
    """Older folders have it inside of the configuration; programs look for it in either place."""
    if isinstance(template, str) and not (folder / _TEMPLATE).exists():
        (folder / _TEMPLATE).write_text(template, encoding="utf-8")


def _read(path: Path) -> bytes | None:
    """The bytes of a file of sane size; None if there is none."""
    if not path.is_file():
        return None
    if (size := path.stat().st_size) > _MAX_BYTES:
        raise SourceError("a file is too large", path, f"{size} bytes", f"at most {_MAX_BYTES} are read")
    return path.read_bytes()
