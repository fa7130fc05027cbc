"""The tiny random Gemma3 that every exporter is given: its configuration, its seeded weights, its Hugging Face folder.

Eight layers in the 5:1 pattern, a window of 16, two query heads to a key/value head; no two sizes are equal, so that a
swapped axis shows, and every inner size is a multiple of 128, so that int4 blocks of 32 and of 128 are whole.  The
weights are numbers of a bit generator whose stream numpy guarantees: the same on every machine and version.
"""

from __future__ import annotations

import functools
import json
import math
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    from transformers import Gemma3ForCausalLM

__all__ = ["CONFIG", "make_hf_model", "weights", "write_hf_folder"]

# As Hugging Face's config.json of the 270M has it: the spelling that both transformers 4 and 5 read.
CONFIG: dict[str, Any] = {
    "architectures": ["Gemma3ForCausalLM"],
    "model_type": "gemma3_text",
    "vocab_size": 512,
    "hidden_size": 128,
    "intermediate_size": 384,
    "num_hidden_layers": 8,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 64,
    "query_pre_attn_scalar": 64,
    "sliding_window": 16,
    "_sliding_window_pattern": 6,
    "layer_types": ["full_attention" if layer % 6 == 5 else "sliding_attention" for layer in range(8)],
    "max_position_embeddings": 128,
    "rope_theta": 1e6,
    "rope_local_base_freq": 1e4,
    "rope_scaling": None,
    "rms_norm_eps": 1e-6,
    "hidden_activation": "gelu_pytorch_tanh",
    "attention_bias": False,
    "attention_dropout": 0.0,
    "attn_logit_softcapping": None,
    "final_logit_softcapping": None,
    "use_bidirectional_attention": False,
    "tie_word_embeddings": True,
    "use_cache": True,
    "initializer_range": 0.02,
    "pad_token_id": 0,
    "bos_token_id": 2,
    "eos_token_id": [1, 5],
    "dtype": "float32",
    "torch_dtype": "float32",
}


@functools.cache
def weights() -> Mapping[str, np.ndarray]:
    """The float32 weights by Hugging Face's names, norms without their 1 +; read-only."""
    H, F, Dh = CONFIG["hidden_size"], CONFIG["intermediate_size"], CONFIG["head_dim"]
    Hq, Hkv = CONFIG["num_attention_heads"], CONFIG["num_key_value_heads"]
    layer_shapes: dict[str, tuple[int, ...]] = {
        "input_layernorm": (H,),
        "self_attn.q_proj": (Hq * Dh, H),
        "self_attn.k_proj": (Hkv * Dh, H),
        "self_attn.v_proj": (Hkv * Dh, H),
        "self_attn.q_norm": (Dh,),
        "self_attn.k_norm": (Dh,),
        "self_attn.o_proj": (H, Hq * Dh),
        "post_attention_layernorm": (H,),
        "pre_feedforward_layernorm": (H,),
        "mlp.gate_proj": (F, H),
        "mlp.up_proj": (F, H),
        "mlp.down_proj": (H, F),
        "post_feedforward_layernorm": (H,),
    }
    shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (CONFIG["vocab_size"], H)}
    for layer in range(CONFIG["num_hidden_layers"]):
        shapes |= {f"model.layers.{layer}.{name}.weight": shape for name, shape in layer_shapes.items()}
    shapes["model.norm.weight"] = (H,)
    return {name: _seeded(name, shape) for name, shape in shapes.items()}


def _seeded(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Uniform numbers, large enough that attention is far from even and that a norm without its 1 + w shows."""
    deviation = 0.3 if name.endswith("norm.weight") else 1.0 if "embed" in name else 1.5 * shape[-1] ** -0.5
    raw = np.random.PCG64(zlib.crc32(name.encode())).random_raw(math.prod(shape))
    unit = (raw >> 40).astype(np.float32) * np.float32(2**-23) - np.float32(1)  # in [-1, 1), exactly
    values = (unit * np.float32(math.sqrt(3) * deviation)).reshape(shape)
    values.flags.writeable = False
    return values


def make_hf_model(state: Mapping[str, np.ndarray] | None = None, **changes: Any) -> Gemma3ForCausalLM:
    """The model as transformers has it, float32, eager attention: the truth.

    Args:
        state: weights by name in place of `weights()`, such as dequantised ones; may have an lm_head.weight.
        changes: of `CONFIG`.
    """
    import torch
    from transformers import Gemma3ForCausalLM, Gemma3TextConfig

    state = state or weights()
    config = Gemma3TextConfig(**CONFIG | changes, attn_implementation="eager")
    if "lm_head.weight" in state:
        config.tie_word_embeddings = False
    model = Gemma3ForCausalLM(config).float().eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(torch.from_numpy(np.array(state[name])))
    return model


def write_hf_folder(folder: Path, **changes: Any) -> None:
    """Writes config.json, with `changes` of `CONFIG`, generation_config.json, model.safetensors and a tokenizer."""
    from safetensors.numpy import save_file

    from tests.tiny_gemma3 import write_tokenizer_json

    folder.mkdir(parents=True)
    generation = {key: CONFIG[key] for key in ("bos_token_id", "eos_token_id", "pad_token_id")}
    for name, content in (("config.json", CONFIG | changes), ("generation_config.json", generation)):
        (folder / name).write_text(json.dumps(content, indent=2), encoding="utf-8")
    save_file(dict(weights()), folder / "model.safetensors", metadata={"format": "pt"})
    write_tokenizer_json(folder)
