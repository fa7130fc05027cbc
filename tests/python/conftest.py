"""Fixtures of the Python tests."""

from __future__ import annotations

import string
from collections.abc import Callable
from pathlib import Path

import pytest
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers

from onnxruntime_ep_ryzen_npu_gemma import cli, get_library_path
from onnxruntime_ep_ryzen_npu_gemma.errors import Problem

CONTROL = ("<pad>", "<eos>", "<bos>", "<unk>", "<start_of_turn>", "<end_of_turn>")
MERGES = (("▁", "t"), ("h", "e"), ("▁t", "he"), ("i", "n"), ("<", "e"))


@pytest.fixture(scope="session")
def make_tokenizer() -> Callable[..., Tokenizer]:
    """Makes a tokenizer with Gemma's structure in miniature: BPE, "▁" for spaces, byte fallback, control tokens."""

    def make(more_merges: tuple[tuple[str, str], ...] = ()) -> Tokenizer:
        merges = [*MERGES, *more_merges]
        pieces = [
            *CONTROL,
            *(f"<0x{byte:02X}>" for byte in range(256)),
            "▁",
            *string.ascii_letters,
            *"<>_.,é",
            *(left + right for left, right in merges),
        ]
        vocab = {piece: i for i, piece in enumerate(dict.fromkeys(pieces))}
        tokenizer = Tokenizer(models.BPE(vocab, merges, unk_token="<unk>", byte_fallback=True, fuse_unk=True))
        tokenizer.normalizer = normalizers.Replace(" ", "▁")
        tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
        tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in CONTROL])
        return tokenizer

    return make


@pytest.fixture(scope="session")
def tokenizer(make_tokenizer: Callable[..., Tokenizer]) -> Tokenizer:
    return make_tokenizer()


@pytest.fixture(scope="session")
def tiny_model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny Gemma3, converted by the command line, at a path with a space and letters beyond ASCII."""
    from tests.tiny_gemma3 import make_hf_model, write_gguf  # imports torch

    folder = tmp_path_factory.mktemp("tiny modèle 日本")
    write_gguf(make_hf_model(), folder / "tiny.gguf")
    assert cli.main(["convert", str(folder / "tiny.gguf"), str(folder / "out")]) == 0
    return folder / "out"


@pytest.fixture(scope="session")
def ep_library() -> str:
    """The path of the EP library; tests that need it are skipped where it is not built."""
    try:
        return get_library_path()
    except Problem as problem:
        pytest.skip(str(problem))
