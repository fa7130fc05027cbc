"""A folder of genai's own model builder, after `--from-onnx`: genai runs it on our provider, as it ran before."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from onnxruntime_ep_ryzen_npu_gemma import cli
from tests.exporters import environments, fixtures, tiny_model
from tests.genai import generating
from tests.genai.generating import make

PROMPT, AFTER = np.split(np.random.default_rng(7).integers(6, 500, 60), [50])  # three windows of 16, and more
LAYERS = [layer for layer in range(8) if layer != 5]


def builders_config() -> dict[str, Any]:
    """genai_config.json as builder 0.18 writes it."""
    config = tiny_model.CONFIG
    return {
        "model": {
            "type": "gemma3_text",
            "bos_token_id": 2,
            "eos_token_id": [1, 5],
            "pad_token_id": 0,
            "context_length": 128,
            "vocab_size": config["vocab_size"],
            "decoder": {
                "session_options": {"log_id": "onnxruntime-genai", "provider_options": []},
                "filename": "model.onnx",
                "head_size": config["head_dim"],
                "hidden_size": config["hidden_size"],
                "num_attention_heads": config["num_attention_heads"],
                "num_hidden_layers": config["num_hidden_layers"],
                "num_key_value_heads": config["num_key_value_heads"],
                "inputs": {
                    "input_ids": "input_ids",
                    "attention_mask": "attention_mask",
                    "past_key_names": "past_key_values.%d.key",
                    "past_value_names": "past_key_values.%d.value",
                },
                "outputs": {
                    "logits": "logits",
                    "present_key_names": "present.%d.key",
                    "present_value_names": "present.%d.value",
                },
                "sliding_window": {
                    "window_size": 16,
                    "slide_key_value_cache": False,
                    "slide_inputs": False,
                    "layers": LAYERS,
                    "cache_slack": 0,
                },
            },
        },
        "search": {"do_sample": False, "max_length": 128, "num_beams": 1, "past_present_share_buffer": True},
    }


def write_fixture(name: str, folder: Path) -> Path:
    """What the builder has left of the tiny Gemma3."""
    tiny_model.write_hf_folder(folder)
    for unused in (*folder.glob("*.safetensors"), folder / "config.json"):
        unused.unlink()
    (folder / "genai_config.json").write_text(json.dumps(builders_config()))
    onnx.save_model(fixtures.load(name), folder / "model.onnx", save_as_external_data=True, location="model.onnx.data")
    return folder


def converted(source: Path, out: Path) -> Path:
    assert cli.main(["convert", str(source), str(out), "--from-onnx", "--kv", "f32"]) == 0
    return out


def logits(model: Any) -> np.ndarray:
    """After the prompt, and after each of some tokens, whether the model gives the logits of one position or of all."""
    generator = make(model, PROMPT, max_length=128)
    rows = []
    for token in [*AFTER, 0]:
        rows.append(np.array(generator.get_logits()[0, -1]))
        generator.append_tokens(np.array([token], np.int32))
    return np.array(rows)


def relative_error(found: np.ndarray, expected: np.ndarray) -> float:
    return float(np.linalg.norm(found - expected) / np.linalg.norm(expected))


@pytest.mark.parametrize("name", ["genai_int4_level0", "genai_int4_prune", "genai_fp32"])
def test_it_computes_what_the_cpu_provider_does(name: str, tmp_path: Path) -> None:
    folder = converted(write_fixture(name, tmp_path / "builder's"), tmp_path / "ours")
    on_ep, on_cpu = logits(generating.open_on_ep(folder)), logits(generating.open_on_cpu(folder))
    np.testing.assert_allclose(on_ep, on_cpu, rtol=0, atol=1e-3)
    assert np.ptp(on_cpu, axis=0).max() > 1  # the tokens matter


def test_logits_are_near_those_of_the_builders_own(tmp_path: Path) -> None:
    """Its codes are kept, its float32 scales become bf16; its kernels' activations stay float32 at level 0."""
    source = write_fixture("genai_int4_level0", tmp_path / "builder's")
    before = logits(generating.open_on_cpu(source))
    after = logits(generating.open_on_ep(converted(source, tmp_path / "ours")))
    assert relative_error(after, before) <= 0.005  # measured: 0.0020
    assert after.argmax(-1).tolist() == before.argmax(-1).tolist()


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["int4", "fp32"])
def test_the_builder_itself(precision: str, tmp_path: Path) -> None:
    """Installs the exporter's environment and runs it: what its folder holds may change with its version."""
    tiny_model.write_hf_folder(tmp_path / "hf")
    source = tmp_path / "builder's"
    source.mkdir()
    environments.run_exporter("genai_builder", tmp_path / "hf", source / "model.onnx", "--precision", precision)
    before = logits(generating.open_on_cpu(source))
    after = logits(generating.open_on_ep(converted(source, tmp_path / "ours")))
    error = relative_error(after, before)
    print(precision, "relative error of the logits", error)
    assert error <= (0.02 if precision == "int4" else 0.1)  # fp32, measured 0.035, is quantised here for the first time
