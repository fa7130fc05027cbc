"""`perplexity` from the command line, on the tiny model."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import Gemma3ForCausalLM

from onnxruntime_ep_ryzen_npu_gemma.cli import main
from onnxruntime_ep_ryzen_npu_gemma.prompt import encode_plain
from tests.tiny_gemma3 import MAX_POSITIONS, make_vocabulary

TEXT = "then the king is in the sea, and there is this: the sea of the king. " * 40


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("text") / "a text ü.txt"
    path.write_text(TEXT, encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def all_logits_folder(tiny_gguf: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("converted") / "out"
    assert main(["convert", str(tiny_gguf), str(out), "--kv", "f32", "--logits", "all"]) == 0
    return out


def measure(capsys: pytest.CaptureFixture[str], *args: object) -> dict[str, Any]:
    code = main(["perplexity", *map(str, args), "--json"])
    result: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert code == (1 if "error" in result else 0)
    return result


def test_original_model_has_the_perplexity_of_transformers(
    tiny_gguf: Path, tiny_hf_model: Gemma3ForCausalLM, text: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from onnxruntime_ep_ryzen_npu_gemma.sources import open_source
    from onnxruntime_ep_ryzen_npu_gemma.tokenizer.spm import build_tokenizer

    tokenizer = build_tokenizer(make_vocabulary(), open_source(tiny_gguf).config)
    ids = [2, *encode_plain(tokenizer, TEXT)]
    size = MAX_POSITIONS
    losses = []
    for start in range(0, len(ids) - size + 1, size):
        window = torch.tensor([[2, *ids[start + 1 : start + size]]])
        with torch.no_grad():
            log_p = tiny_hf_model(window).logits[0, :-1].double().log_softmax(-1)
        losses.append(-log_p[torch.arange(size - 1), window[0, 1:]].numpy())
    result = measure(capsys, tiny_gguf, text)
    assert (result["window"], result["windows"]) == (size, len(losses))
    assert len(losses) >= 2
    assert result["tokens"] == len(losses) * (size - 1)
    # float32 logits in another order of summing; measured 6e-9 relative to ln(perplexity).
    assert math.log(result["perplexity"]) == pytest.approx(np.concatenate(losses).mean(), rel=1e-6)
    second_half = np.concatenate([loss[size // 2 :] for loss in losses]).mean()
    assert math.log(result["ppl_second_half"]) == pytest.approx(second_half, rel=1e-6)


def test_converted_model_against_the_original(
    ep_library: str, all_logits_folder: Path, tiny_gguf: Path, text: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result = measure(capsys, all_logits_folder, text, "--reference", tiny_gguf, "--windows", 1)
    assert result["windows"] == 1
    original = measure(capsys, tiny_gguf, text, "--windows", 1)
    assert result["reference_perplexity"] == pytest.approx(original["perplexity"])
    assert result["ln_increase"] == pytest.approx(math.log(result["perplexity"] / original["perplexity"]), abs=1e-6)
    assert result["kl_mean"] > 0
    assert {"kl_p999", "kl_mean_se", "top1", "top1_se", "top5", "top5_se"} <= result.keys()
    itself = measure(capsys, all_logits_folder, text, "--reference", all_logits_folder, "--accuracy", "exact",
                     "--windows", 1)  # fmt: skip
    assert (itself["kl_mean"], itself["top1"], itself["ln_increase"]) == (pytest.approx(0, abs=1e-9), 1, 0)


def test_the_cost_of_fast_is_the_same_folder_against_itself(
    ep_library: str, all_logits_folder: Path, text: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    twice = (all_logits_folder, text, "--reference", all_logits_folder, "--windows", 1)
    assert measure(capsys, *twice, "--accuracy", "exact")["kl_mean"] == 0
    assert measure(capsys, *twice)["kl_mean"] > 0  # the default is fast


def test_text_for_people(
    ep_library: str, all_logits_folder: Path, text: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["perplexity", str(all_logits_folder), str(text), "--windows", "1"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("perplexity  ")
    assert "255 tokens" in out
    assert "KL" not in out


def test_text_in_another_script(tiny_gguf: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """No word of it is in the tiny vocabulary: all of its tokens are bytes, three to a character."""
    (tmp_path / "text").write_text("海の歴史は長い。" * 30, encoding="utf-8")
    result = measure(capsys, tiny_gguf, tmp_path / "text", "--windows", 1)
    assert result["tokens"] == MAX_POSITIONS - 1
    assert 1 < result["perplexity"] < math.inf


@pytest.mark.parametrize(
    ("content", "found"), [(b"", "an empty text"), (b"ab\xffcd", "byte 2")], ids=["empty", "not UTF-8"]
)
def test_refuses_a_text_that_is_none(
    tiny_gguf: Path, tmp_path: Path, content: bytes, found: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "text").write_bytes(content)
    assert measure(capsys, tiny_gguf, tmp_path / "text")["error"]["found"] == found


def test_refuses_a_model_without_all_logits(
    tiny_model_folder: Path, text: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    error = measure(capsys, tiny_model_folder, text)["error"]
    assert "--logits all" in error["do"]


def test_refuses_what_is_not_there(tmp_path: Path, text: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert measure(capsys, tmp_path / "none", text)["error"]["what"] == "no such model"
    assert measure(capsys, tmp_path, tmp_path / "none")["error"]["what"] == "the system refused a file"
    assert measure(capsys, tmp_path, text, "--windows", 0)["error"]["where"] == "--windows"
