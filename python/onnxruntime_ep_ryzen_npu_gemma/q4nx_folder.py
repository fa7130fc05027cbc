"""Writes a folder of FastFlowLM's kind: config.json and model.q4nx, a safetensors file; the source's twin.

Names, types and the order of axes are those that sources/q4nx.py reads. Tensors are written one after the other.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from .errors import Problem
from .graph_passes import q4nx
from .quantization import Quantizer
from .sources import Gemma3TextConfig, Source
from .sources.q4nx import Q4NX_FILE

__all__ = ["write_q4nx_folder"]

_EMBEDDING, _HEAD = "model.embed_tokens.weight", "lm_head.weight"
_ALIGNMENT = 8  # of the data in a safetensors file


def write_q4nx_folder(
    source: Source, quantizer: Quantizer, head_bits: int, folder: Path, progress: Callable[[], object]
) -> None:
    """Writes config.json and model.q4nx.

    Args:
        source: the weights.
        quantizer: makes the blocks.
        head_bits: 4 or 8, of the head.
        folder: exists, without these files.
        progress: called after each tensor.

    Raises:
        Problem: the head is not tied to the embedding, which the format cannot say.
    """
    if _HEAD in source.names():
        raise Problem("model.q4nx has a tied head", source.path, _HEAD, "convert this model with --format onnx")
    bits = {name: head_bits if name == _EMBEDDING else 4 for name in source.names() if len(source.shape(name)) == 2}
    text = json.dumps(_config(source.config), indent=2)
    (folder / "config.json").write_text(text + "\n", encoding="utf-8")
    entries: dict[str, tuple[str, tuple[int, ...], int]] = {}
    for name in source.names():
        shape = source.shape(name)
        if name in bits:
            blocks = (q4nx.block_count(*shape), q4nx.BLOCK_BYTES[bits[name]])
            entries[_HEAD if name == _EMBEDDING else name] = ("I8", blocks, math.prod(blocks))
        if name not in bits or name == _EMBEDDING:
            entries[name] = ("BF16", shape, 2 * math.prod(shape))
    with (folder / Q4NX_FILE).open("wb") as file:
        file.write(_header(entries))
        for name in entries:
            for part in _data(source, quantizer, bits, name):
                file.write(part)
            progress()


def _data(source: Source, quantizer: Quantizer, bits: dict[str, int], name: str) -> Iterator[bytes | memoryview]:
    if name == _HEAD:
        yield quantizer(_EMBEDDING, lambda: source.tensor(_EMBEDDING), bits[_EMBEDDING]).data
    elif name == _EMBEDDING:  # the original's rows, scaled: FastFlowLM looks them up as they are
        scale = np.float32(math.sqrt(source.config.hidden_size))
        yield q4nx.to_bfloat16(source.tensor(name) * scale).data
    elif name in bits:
        yield quantizer(name, lambda: source.tensor(name), bits[name]).data
    else:
        yield q4nx.to_bfloat16(source.tensor(name)).data


def _header(entries: dict[str, tuple[str, tuple[int, ...], int]]) -> bytes:
    header, offset = {}, 0
    for name, (dtype, shape, nbytes) in entries.items():
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [offset, offset + nbytes]}
        offset += nbytes
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % _ALIGNMENT)
    return struct.pack("<Q", len(text)) + text


def _config(config: Gemma3TextConfig) -> dict[str, object]:
    """config.json in the form of Gemma3's own folders."""
    scaling = {"rope_type": "linear", "factor": config.rope_factor_global} if config.rope_factor_global != 1 else None
    return {
        "architectures": ["Gemma3ForCausalLM"],
        "model_type": "gemma3_text",
        "vocab_size": config.vocab_size,
        "hidden_size": config.hidden_size,
        "intermediate_size": config.intermediate_size,
        "num_hidden_layers": config.num_layers,
        "num_attention_heads": config.num_heads,
        "num_key_value_heads": config.num_kv_heads,
        "head_dim": config.head_dim,
        "hidden_activation": "gelu_pytorch_tanh",
        "max_position_embeddings": config.max_positions,
        "rms_norm_eps": config.rms_eps,
        "sliding_window": config.sliding_window,
        "layer_types": [f"{kind}_attention" for kind in config.layer_types],
        "query_pre_attn_scalar": config.query_scale**-2,
        "rope_theta": config.rope_theta_global,
        "rope_local_base_freq": config.rope_theta_local,
        "rope_scaling": scaling,
        "tie_word_embeddings": True,
        "bos_token_id": config.bos_token_id,
        "eos_token_id": list(config.eos_token_ids),
        "pad_token_id": config.pad_token_id,
    }
