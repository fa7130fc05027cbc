"""A Gemma3 of a real size with random float16 weights, as a Hugging Face folder: for what depends on sizes alone.

    python -m tests.bench.random_model 1b FOLDER

The numbers repeat one block, so that 8 GB are made as fast as they are written. Its length fits no tensor: each starts
elsewhere in it, and no two are equal. (Runtimes keep one copy of equal tensors, and read it from the cache.)
"""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path
from typing import Any

import numpy as np

from onnxruntime_ep_ryzen_npu_gemma.sources.hf_config import read_config
from onnxruntime_ep_ryzen_npu_gemma.sources.source import tensor_shapes
from tests.tiny_gemma3 import write_tokenizer_json

__all__ = ["SIZES", "config", "write_random_model"]

# hidden, layers, feed-forward, heads, key/value heads; head size, vocabulary and window are the same in all.
SIZES = {"270m": (640, 18, 2048, 4, 1), "1b": (1152, 26, 6912, 4, 1), "4b": (2560, 34, 10240, 8, 4)}
_BLOCK = (1 << 22) - 3  # a prime


def config(size: str, layers: int | None = None) -> dict[str, Any]:
    """config.json of a key of `SIZES`, or of that many of its layers."""
    hidden, all_layers, intermediate, heads, kv_heads = SIZES[size]
    return {
        "architectures": ["Gemma3ForCausalLM"],
        "model_type": "gemma3_text",
        "vocab_size": 262144,
        "hidden_size": hidden,
        "num_hidden_layers": layers or all_layers,
        "intermediate_size": intermediate,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "head_dim": 256,
        "sliding_window": 512,
        "max_position_embeddings": 32768,
        "rope_theta": 1e6,
        "rope_local_base_freq": 1e4,
        "sliding_window_pattern": 6,
        "torch_dtype": "float16",
        "bos_token_id": 2,
        "eos_token_id": [1, 106],
        "pad_token_id": 0,
    }


def write_random_model(size: str, folder: Path, layers: int | None = None) -> None:
    """Writes config.json, model.safetensors and a small tokenizer.

    Args:
        size: a key of `SIZES`.
        folder: is made; must not exist.
        layers: how many; None for all of that size.
    """
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config(size, layers), indent=2), encoding="utf-8")
    parsed, _ = read_config(folder)
    shapes = tensor_shapes(parsed)
    header: dict[str, Any] = {}
    end = 0
    for name, shape in shapes.items():
        start, end = end, end + 2 * math.prod(shape)
        header[name] = {"dtype": "F16", "shape": shape, "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    block = (np.random.default_rng(0).standard_normal(_BLOCK, np.float32) * np.float32(0.05)).astype("<f2")
    with (folder / "model.safetensors").open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        at = 0
        for shape in shapes.values():
            left = math.prod(shape)
            while left:
                count = min(left, _BLOCK - at)
                file.write(block[at : at + count].data)
                left -= count
                at = (at + count) % _BLOCK
    write_tokenizer_json(folder)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("size", choices=SIZES)
    parser.add_argument("folder", type=Path)
    arguments = parser.parse_args()
    write_random_model(arguments.size, arguments.folder)
