"""The real Gemma3-270M as exporters read it: a Hugging Face folder in float32, made of a GGUF file."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from safetensors.numpy import save_file

from onnxruntime_ep_ryzen_npu_gemma.sources import Source, open_source
from onnxruntime_ep_ryzen_npu_gemma.tokenizer import write_tokenizer
from tests.exporters import tiny_model

__all__ = ["hf_folder"]


def hf_folder(gguf: Path, folder: Path) -> Path:
    """Writes the folder unless it is there."""
    if not (folder / "tokenizer_config.json").is_file():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        source = open_source(gguf)
        (folder / "config.json").write_text(json.dumps(_config(source)), encoding="utf-8")
        norms = {name for name in source.names() if name.endswith("norm.weight")}
        tensors = {name: source.tensor(name) - (1 if name in norms else 0) for name in source.names()}
        save_file(tensors, folder / "model.safetensors", {"format": "pt"})
        write_tokenizer(source, folder)
    return folder


def _config(source: Source) -> dict[str, object]:
    c = source.config
    kinds = ["full_attention" if kind == "full" else "sliding_attention" for kind in c.layer_types]
    return tiny_model.CONFIG | {
        "vocab_size": c.vocab_size,
        "hidden_size": c.hidden_size,
        "intermediate_size": c.intermediate_size,
        "num_hidden_layers": c.num_layers,
        "num_attention_heads": c.num_heads,
        "num_key_value_heads": c.num_kv_heads,
        "head_dim": c.head_dim,
        "query_pre_attn_scalar": round(c.query_scale**-2),
        "sliding_window": c.sliding_window,
        "layer_types": kinds,
        "max_position_embeddings": c.max_positions,
        "rope_theta": c.rope_theta_global,
        "rope_local_base_freq": c.rope_theta_local,
        "eos_token_id": [1, 106],
    }
