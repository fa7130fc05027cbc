"""`convert` from the command line to the files, on the tiny model."""

from __future__ import annotations

import json
import shutil
import stat
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from transformers import Gemma3ForCausalLM

from onnxruntime_ep_ryzen_npu_gemma import output_folder
from onnxruntime_ep_ryzen_npu_gemma.cli import main
from onnxruntime_ep_ryzen_npu_gemma.sources.tensor_span import TensorSpan
from tests.tiny_gemma3 import LAYERS, MAX_POSITIONS, VOCAB_SIZE, WINDOW

FILES = ["README.md", "genai_config.json", "model.onnx", "model.onnx.data", "tokenizer.json"]
KV_TYPES = {"f16": np.float16, "f32": np.float32}


@pytest.fixture
def out(tmp_path: Path) -> Path:
    (tmp_path / "ausgabe ü").mkdir()
    return tmp_path / "ausgabe ü" / "gemma model"


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def logits(path: Path, ids: np.ndarray, kv: str) -> np.ndarray:
    session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    feeds: dict[str, Any] = {"input_ids": ids, "attention_mask": np.ones_like(ids)}
    for value in session.get_inputs()[2:]:
        feeds[value.name] = np.zeros((1, value.shape[1], 0, value.shape[3]), KV_TYPES[kv])
    (result,) = session.run(["logits"], feeds)
    return np.asarray(result)


@pytest.mark.parametrize(("kv", "head"), [("f16", "q4nx"), ("f32", "q8")])
def test_converted_model_follows_the_original(
    tiny_gguf: Path, tiny_hf_model: Gemma3ForCausalLM, out: Path, kv: str, head: str
) -> None:
    assert main(["convert", str(tiny_gguf), str(out), "--kv", kv, "--lm-head", head, "--logits", "all"]) == 0
    assert names(out) == sorted([*FILES, "model_all_logits.onnx", "tokenizer_config.json"])
    ids = np.random.default_rng(4).integers(0, VOCAB_SIZE, (1, 3 * WINDOW))
    every, last = (logits(out / name, ids, kv) for name in ("model_all_logits.onnx", "model.onnx"))
    # One row or many in the matrix product: other orders of summing; measured 1.6e-5 at logits up to 20.
    np.testing.assert_allclose(last, every[:, -1:], rtol=0, atol=1e-4)
    with torch.no_grad():
        truth = tiny_hf_model(torch.from_numpy(ids)).logits.numpy()
    # What 4 bits lose on random weights, measured: correlation 0.991 (0.997 with the q8 head).
    assert np.corrcoef(every.ravel(), truth.ravel())[0, 1] > 0.985


def test_both_sources_give_the_same_weights(tiny_gguf: Path, tiny_hf_folder: Path, tmp_path: Path) -> None:
    for source, out in ((tiny_gguf, "a"), (tiny_hf_folder, "b")):
        assert main(["convert", str(source), str(tmp_path / out)]) == 0
    assert names(tmp_path / "b") == FILES  # the tiny folder has no tokenizer_config.json
    for name in ("model.onnx.data", "genai_config.json"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_both_graphs_are_over_one_data_file(tiny_gguf: Path, out: Path) -> None:
    assert main(["convert", str(tiny_gguf), str(out), "--logits", "all"]) == 0
    size = (out / "model.onnx.data").stat().st_size
    places = []
    for name in ("model.onnx", "model_all_logits.onnx"):
        model = onnx.load(out / name, load_external_data=False)
        assert {p.key: p.value for p in model.metadata_props}["ryzen.npu.gemma.format"] == "1"
        external = {t.name: {e.key: e.value for e in t.external_data} for t in model.graph.initializer}
        places.append({key: place for key, place in external.items() if place})
        assert {place["location"] for place in places[-1].values()} == {"model.onnx.data"}
        assert all(int(place["offset"]) + int(place["length"]) <= size for place in places[-1].values())
    assert places[0] == places[1] and len(places[0]) > 7 * LAYERS


def test_genai_config(tiny_gguf: Path, out: Path) -> None:
    assert main(["convert", str(tiny_gguf), str(out)]) == 0
    config = json.loads((out / "genai_config.json").read_text())
    model, decoder = config["model"], config["model"]["decoder"]
    assert (model["type"], model["vocab_size"], model["context_length"]) == ("gemma3_text", 512, MAX_POSITIONS)
    assert (model["bos_token_id"], model["eos_token_id"], model["pad_token_id"]) == (2, [1, 5], 0)
    assert decoder["session_options"]["provider_options"] == [{"RyzenNPUGemmaEP": {}}]
    sizes = [decoder[key] for key in ("hidden_size", "head_size", "num_attention_heads", "num_key_value_heads")]
    assert (sizes, decoder["num_hidden_layers"]) == ([64, 32, 4, 2], LAYERS)
    assert config["search"]["past_present_share_buffer"] is True
    assert config["search"]["max_length"] == MAX_POSITIONS
    window = {"window_size": WINDOW, "layers": [0, 1, 2, 3, 4, 6, 7], "slide_inputs": False}
    assert decoder["sliding_window"] == window | {"slide_key_value_cache": False}
    graph = onnx.load(out / decoder["filename"], load_external_data=False).graph
    inputs, outputs = {value.name for value in graph.input}, {value.name for value in graph.output}
    pasts = {decoder["inputs"][f"past_{kind}_names"] % i for kind in ("key", "value") for i in range(LAYERS)}
    presents = {decoder["outputs"][f"present_{kind}_names"] % i for kind in ("key", "value") for i in range(LAYERS)}
    assert inputs == {"input_ids", "attention_mask", *pasts}
    assert outputs == {"logits", *presents}


def test_result_as_json_and_as_text(tiny_gguf: Path, out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["convert", str(tiny_gguf), str(out), "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["out"] == str(out) and result["layers"] == LAYERS
    assert result["operators"] == {"MatMulNBits": 7 * LAYERS + 1, "FlowQKV": LAYERS, "EmbedNBits": 1}
    assert result["bytes"] == sum(file.stat().st_size for file in out.iterdir())
    assert main(["convert", str(tiny_gguf), str(out), "--force"]) == 0
    text = capsys.readouterr().out
    assert str(out) in text and f"{7 * LAYERS + 1} MatMulNBits" in text


def test_folder_has_the_users_permissions(tiny_gguf: Path, out: Path) -> None:
    assert main(["convert", str(tiny_gguf), str(out)]) == 0
    made = out.parent / "by mkdir"
    made.mkdir()
    (made / "file").write_text("")
    assert out.stat().st_mode == made.stat().st_mode
    for file in out.iterdir():
        assert stat.filemode(file.stat().st_mode) == stat.filemode((made / "file").stat().st_mode), file


# --- failures: one clear line, exit code 1, and nothing left behind ---------------------------------------------------


def fails(capsys: pytest.CaptureFixture[str], text: str, *args: str | Path) -> None:
    capsys.readouterr()
    assert main(["convert", *map(str, args), "--json"]) == 1
    error = json.loads(capsys.readouterr().out)["error"]
    assert text in " | ".join(error.values()), error
    assert main(["convert", *map(str, args)]) == 1
    printed = capsys.readouterr()
    assert printed.out == "" and text in printed.err.splitlines()[-1]


def test_existing_output(tiny_gguf: Path, out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out.write_text("mine")
    fails(capsys, "the output exists", tiny_gguf, out)
    fails(capsys, "replaces converted models only", tiny_gguf, out, "--force")
    assert out.read_text() == "mine"
    out.unlink()
    out.mkdir()
    (out / "letters.txt").write_text("mine")
    fails(capsys, "the output exists", tiny_gguf, out)
    fails(capsys, "replaces converted models only", tiny_gguf, out, "--force")
    assert names(out) == ["letters.txt"]
    assert names(out.parent) == [out.name]


def test_output_that_would_replace_the_input(tiny_gguf: Path, out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["convert", str(tiny_gguf), str(out)]) == 0
    source = shutil.copy(tiny_gguf, out / "source.gguf")
    fails(capsys, "would replace the input", source, out, "--force")
    assert (out / "source.gguf").is_file()


def test_no_parent_folder(tiny_gguf: Path, out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fails(capsys, "no folder for the output", tiny_gguf, out / "below" / "it")
    assert names(out.parent) == []


def test_bad_source(tmp_path: Path, out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "text.gguf").write_text("hello " * 100)
    fails(capsys, "not a GGUF file", tmp_path / "text.gguf", out)
    fails(capsys, "no such model", tmp_path / "missing.gguf", out)
    fails(capsys, "config.json", out.parent, out)
    assert names(out.parent) == []


@pytest.mark.parametrize("existing", [False, True])
def test_weight_that_is_not_finite(
    tiny_gguf: Path, out: Path, capsys: pytest.CaptureFixture[str], existing: bool
) -> None:
    if existing:
        assert main(["convert", str(tiny_gguf), str(out)]) == 0
    before = {file: file.read_bytes() for file in out.parent.rglob("*") if file.is_file()}
    damaged = out.parent.parent / "damaged.gguf"
    data = tiny_gguf.read_bytes()
    damaged.write_bytes(data[: len(data) // 2] + b"\xff\xff\xff\xff" * 8 + data[len(data) // 2 + 32 :])
    fails(capsys, "NaN or infinity", damaged, out, "--force")
    assert {file: file.read_bytes() for file in out.parent.rglob("*") if file.is_file()} == before


def test_interrupt_leaves_nothing(tiny_gguf: Path, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read, reads = TensorSpan.read, []

    def interrupted(self: TensorSpan, *args: Any) -> np.ndarray:
        reads.append(self.name)
        if len(reads) == 40:
            assert names(out.parent)[0].startswith(".gemma model.")
            raise KeyboardInterrupt
        return read(self, *args)

    monkeypatch.setattr(TensorSpan, "read", interrupted)
    assert main(["convert", str(tiny_gguf), str(out)]) == 130
    assert len(reads) == 40
    assert names(out.parent) == []


def test_full_disk_leaves_the_old_model(
    tiny_gguf: Path, out: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["convert", str(tiny_gguf), str(out)]) == 0
    before = {file.name: file.read_bytes() for file in out.iterdir()}

    def full(path: Path) -> None:
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr(output_folder, "_sync", full)
    fails(capsys, "No space left on device", tiny_gguf, out, "--force")
    assert {file.name: file.read_bytes() for file in out.iterdir()} == before
    assert names(out.parent) == [out.name]
