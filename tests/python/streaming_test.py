"""Streaming text: pieces join to what the tokenizer decodes in one go, and none is broken UTF-8."""

from __future__ import annotations

from hypothesis import example, given, strategies as st
from tokenizers import Tokenizer

from onnxruntime_ep_ryzen_npu_gemma.prompt import encode_plain
from onnxruntime_ep_ryzen_npu_gemma.streaming import TextStream


def stream(tokenizer: Tokenizer, ids: list[int]) -> list[str]:
    text = TextStream(tokenizer)
    return [*(text.add(i) for i in ids), text.finish()]


def byte_ids(tokenizer: Tokenizer, data: bytes) -> list[int]:
    return [tokenizer.token_to_id(f"<0x{byte:02X}>") for byte in data]


@given(text=st.text())
@example(text="the € 日本 🙂 in\u202eRTL\0")
def test_pieces_of_any_text_join_to_the_text(tokenizer, text):
    ids = encode_plain(tokenizer, text)
    assert "".join(stream(tokenizer, ids)) == tokenizer.decode(ids) == text.replace("▁", " ")


@given(data=st.binary())
def test_any_bytes_stream_as_utf8_with_replacements(tokenizer, data):
    assert "".join(stream(tokenizer, byte_ids(tokenizer, data))) == data.decode(errors="replace")


@given(ids=st.lists(st.integers(0, 400)))
def test_any_ids_stream_as_valid_text(tokenizer, ids):
    assert tokenizer.get_vocab_size() < 400, "some of the ids should be unknown to the tokenizer"
    for piece in stream(tokenizer, ids):
        assert piece.encode().decode() == piece


def test_a_character_of_three_bytes_appears_once_whole(tokenizer):
    assert stream(tokenizer, byte_ids(tokenizer, "€".encode())) == ["", "", "€", ""]


def test_an_unfinished_character_gives_way_to_the_next_token_and_to_the_end(tokenizer):
    (half,) = byte_ids(tokenizer, b"\xe2")
    letter = tokenizer.token_to_id("a")
    assert stream(tokenizer, [half, letter, half]) == ["", "\ufffda", "", "\ufffd"]


def test_control_tokens_have_no_text(tokenizer):
    assert stream(tokenizer, [tokenizer.token_to_id("<eos>")]) == ["", ""]
