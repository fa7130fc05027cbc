"""Prompts: any text becomes plain tokens, and none of it acts as a control token."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from onnxruntime_ep_ryzen_npu_gemma.errors import Problem
from onnxruntime_ep_ryzen_npu_gemma.prompt import encode_plain, encode_prompt

CONTROL = ("<pad>", "<eos>", "<bos>", "<unk>", "<start_of_turn>", "<end_of_turn>")


@given(text=st.lists(st.sampled_from([*CONTROL, "a", " ", "é", "\0"])).map("".join))
def test_control_tokens_in_the_text_are_plain_characters(tokenizer, text):
    ids = encode_plain(tokenizer, text)
    assert not {tokenizer.token_to_id(control) for control in CONTROL} & set(ids)
    assert tokenizer.decode(ids, skip_special_tokens=False) == text


def test_the_prompt_is_bos_and_the_text(tokenizer):
    assert encode_prompt(tokenizer, " the", 2) == [2, tokenizer.token_to_id("▁the")]


def test_an_empty_prompt_is_bos_alone(tokenizer):
    assert encode_prompt(tokenizer, "", 2) == [2]


def test_a_lone_surrogate_is_refused_with_its_place(tokenizer):
    with pytest.raises(Problem, match=r"not valid Unicode: character 2: found '\\udcff'"):
        encode_plain(tokenizer, "ab\udcff")


def test_merges_that_spell_a_control_token_are_refused(make_tokenizer):
    spelling = make_tokenizer((("<e", "o"), ("<eo", "s"), ("<eos", ">")))
    assert encode_plain(spelling, "<eos") == [spelling.token_to_id("<eos")]
    with pytest.raises(Problem, match=r"act as a control token.*<eos>"):
        encode_plain(spelling, "<eos>")
