"""genai_config.json: how onnxruntime-genai runs the converted model on this execution provider.

Sliding layers get caches of their window and a prefill chunk: 127 MB instead of 694 MB for 270M at its full context.
genai then refuses to rewind once such a cache has turned over; a larger `cache_slack` keeps more of the past.
Whoever sets `slide_inputs` gets an attention mask as long as the whole context, and the mask's length is what tells the
model how many tokens there are.
"""

from __future__ import annotations

from typing import Any

from .decoder import PREFILL_CHUNK
from .registration import EP_NAME
from .sampling import Sampling
from .sources import Gemma3TextConfig

__all__ = ["genai_config"]

# genai allocates the global layers' whole cache at once for this many tokens, unless the program asks for more.
_DEFAULT_MAX_LENGTH = 4096


def genai_config(
    config: Gemma3TextConfig, eos_token_ids: list[int], split: tuple[str, str] | None = None
) -> dict[str, Any]:
    """The content of genai_config.json for model.onnx, with the defaults of `generate`.

    Args:
        config: the model's configuration.
        eos_token_ids: ids that end a generation.
        split: the graphs for prompts and for single tokens, which genai runs in model.onnx's place.
    """
    return {
        "model": {
            "type": "gemma3_text" if split is None else "decoder-pipeline",
            "bos_token_id": config.bos_token_id,
            "eos_token_id": eos_token_ids,
            "pad_token_id": config.pad_token_id,
            "context_length": config.max_positions,
            "vocab_size": config.vocab_size,
            "decoder": {
                "filename": "model.onnx",
                "session_options": {"provider_options": [{EP_NAME: {}}]},
                "hidden_size": config.hidden_size,
                "head_size": config.head_dim,
                "num_attention_heads": config.num_heads,
                "num_key_value_heads": config.num_kv_heads,
                "num_hidden_layers": config.num_layers,
                **(_windowed_cache(config) if split is None else {"pipeline": [_pipeline(config.num_layers, *split)]}),
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
            },
        },
        "search": {
            "do_sample": True,
            "temperature": Sampling.temperature,
            "top_k": Sampling.top_k,
            "top_p": Sampling.top_p,
            "min_length": 0,
            "max_length": min(_DEFAULT_MAX_LENGTH, config.max_positions),
            "num_beams": 1,
            "num_return_sequences": 1,
            "repetition_penalty": 1.0,
            "length_penalty": 1.0,
            "no_repeat_ngram_size": 0,
            "diversity_penalty": 0.0,
            "early_stopping": True,
            "past_present_share_buffer": True,
            "chunk_size": PREFILL_CHUNK,
        },
    }


def _windowed_cache(config: Gemma3TextConfig) -> dict[str, Any]:
    """Which layers slide; nothing when none does."""
    layers = [layer for layer, kind in enumerate(config.layer_types) if kind == "sliding"]
    if not layers:
        return {}
    return {
        "sliding_window": {
            "window_size": config.sliding_window,
            "layers": layers,
            "slide_inputs": False,
            "slide_key_value_cache": False,
        }
    }


def _pipeline(layers: int, prefill: str, decode: str) -> dict[str, Any]:
    """The two stages of a split model, of which genai runs one a call."""
    caches = [f"{layer}.{kind}" for layer in range(layers) for kind in ("key", "value")]
    ports = {
        "inputs": ["input_ids", "attention_mask", *(f"past_key_values.{cache}" for cache in caches)],
        "outputs": ["logits", *(f"present.{cache}" for cache in caches)],
    }
    return {
        "prefill": {"filename": prefill, **ports, "run_on_prompt": True, "run_on_token_gen": False},
        "decode": {"filename": decode, **ports, "run_on_prompt": False, "run_on_token_gen": True},
    }
