"""The models that are compared: one set of weights a size, in every peer's own 4-bit form.

    270m    the real one of `make demo`, dequantised (its file is llama.cpp's Q4_K_M, 7.4 bits a weight)
    1b      random weights in the shape of Gemma3-1B: sizes are all that speed and memory depend on

Everything is made once, under build/peers/models/SIZE; a half-made model is never taken for a whole one.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import gguf
import numpy as np

from onnxruntime_ep_ryzen_npu_gemma import cli
from onnxruntime_ep_ryzen_npu_gemma.sources import Source, open_source
from tests.bench.peers.environments import environment
from tests.bench.random_model import write_random_model
from tests.exporters.real_model import hf_folder

__all__ = ["MODELS", "model_path"]

_ROOT = Path(__file__).parents[3]
_DEMO = _ROOT / "build/demo/gemma-3-270m-q4_k_m.gguf"


def model_path(size: str, name: str) -> Path:
    """A model of `MODELS`, made if it is not there.

    Raises:
        subprocess.CalledProcessError: a peer's converter failed; its output went to stderr.
    """
    make, suffix = MODELS[name]
    path = _ROOT / "build/peers/models" / size / f"{name}{suffix}"
    if not path.exists():
        print(f"making {path}", file=sys.stderr)
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f"part-{path.name}")
        shutil.rmtree(part, ignore_errors=True)
        part.unlink(missing_ok=True)
        make(size, part)
        part.rename(path)
    return path


def _hf(size: str, out: Path) -> None:
    if size == "270m":
        hf_folder(_DEMO, out)
    else:
        write_random_model(size, out)


def _f16(size: str, out: Path) -> None:
    """The weights as llama.cpp's converter writes them; the vocabulary is the demo's, as it is every Gemma3's."""
    source: Source = open_source(_DEMO if size == "270m" else model_path(size, "hf"))
    config = source.config
    writer = gguf.GGUFWriter(out, "gemma3")
    numbers = {
        "context_length": config.max_positions,
        "embedding_length": config.hidden_size,
        "block_count": config.num_layers,
        "feed_forward_length": config.intermediate_size,
        "attention.head_count": config.num_heads,
        "attention.head_count_kv": config.num_kv_heads,
        "attention.key_length": config.head_dim,
        "attention.value_length": config.head_dim,
        "attention.sliding_window": config.sliding_window,
    }
    for key, number in numbers.items():
        writer.add_uint32(f"gemma3.{key}", number)
    writer.add_layer_norm_rms_eps(config.rms_eps)
    writer.add_rope_freq_base(config.rope_theta_global)
    for key, field in gguf.GGUFReader(_DEMO).fields.items():
        if key.startswith("tokenizer."):
            writer.add_key_value(key, field.contents(), field.types[0], field.types[-1])
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.GEMMA3, config.num_layers)
    for name in source.names():
        values = source.tensor(name)
        stem = names.get_name(name.removesuffix(".weight"))
        writer.add_tensor(f"{stem}.weight", values.astype(np.float16) if values.ndim == 2 else values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _llama(*type_: str) -> Callable[[str, Path], None]:
    def make(size: str, out: Path) -> None:
        if size == "270m" and type_ == ("Q4_K_M",):
            os.link(_DEMO, out)  # the published file
            return
        script = Path(__file__).with_name("quantize_gguf.py")
        _run(environment("llama_cpp"), script, model_path(size, "f16"), out, *type_)

    return make


def _genai(size: str, out: Path) -> None:
    out.mkdir()
    script = _ROOT / "tests/exporters/genai_builder.py"
    options = ("accuracy_level=4", "block_size=32", "prune_lm_head=true")
    how = ("--precision", "int4", "--options", *options)
    _run(environment("genai"), script, model_path(size, "hf"), out / "model.onnx", *how)


def _openvino(size: str, out: Path) -> None:
    cli = environment("openvino").with_name("optimum-cli")
    how = ("--task", "text-generation-with-past", "--weight-format", "int4", "--group-size", "32", "--sym")
    _run(cli, "export", "openvino", "--model", model_path(size, "hf"), *how, "--ratio", "1.0", out)


def _ours(*options: str) -> Callable[[str, Path], None]:
    def make(size: str, out: Path) -> None:
        # What the search for the grid of least error finds matters to perplexity, not to speed.
        source, how = (_DEMO, ()) if size == "270m" else (model_path(size, "hf"), ("--quantizer", "rtn"))
        with contextlib.redirect_stdout(sys.stderr):
            if cli.main(["convert", str(source), str(out), *how, *options]):
                raise SystemExit(f"convert {source} failed")

    return make


def _run(*command: str | Path) -> None:
    subprocess.run(command, check=True, stdout=sys.stderr)


# name: how it is made, and the suffix of its path.
MODELS: dict[str, tuple[Callable[[str, Path], None], str]] = {
    "hf": (_hf, ""),
    "f16": (_f16, ".gguf"),
    "llama-q4_0": (_llama("Q4_0"), ".gguf"),
    "llama-q4_0-pure": (_llama("Q4_0", "--pure"), ".gguf"),
    "llama-q4_1-pure": (_llama("Q4_1", "--pure"), ".gguf"),
    "llama-q4_k_m": (_llama("Q4_K_M"), ".gguf"),
    "genai-int4": (_genai, ""),
    "openvino-int4": (_openvino, ""),
    "ours-q4-head": (_ours("--lm-head", "q4nx"), ""),
    "ours-q8-head": (_ours(), ""),
}

if __name__ == "__main__":
    for wanted in sys.argv[2:] or MODELS:
        print(model_path(sys.argv[1], wanted))
