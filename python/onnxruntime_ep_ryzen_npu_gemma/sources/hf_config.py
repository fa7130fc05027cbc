"""config.json of a Hugging Face Gemma3 model as a `Gemma3TextConfig`.

Both forms are read: the hub's (rope_theta, rope_local_base_freq, sliding_window_pattern) and the one that transformers
writes since version 5 (rope_parameters and layer_types).  Keys that Google's own files leave out have the default of
transformers.  What this project does not compute (bias, softcap, bidirectional attention, other activations or RoPE
scalings) is refused by name.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from . import strict_json
from .source import Gemma3TextConfig, LayerType, SourceError

__all__ = ["read_config"]

_LAYER_TYPES: dict[str, LayerType] = {"sliding_attention": "sliding", "full_attention": "full"}
_MUST_BE: dict[str, tuple[Any, ...]] = {
    "hidden_activation": ("gelu_pytorch_tanh",),
    "attention_bias": (False,),
    "attn_logit_softcapping": (None,),
    "final_logit_softcapping": (None,),
    "use_bidirectional_attention": (False, None),
    "quantization_config": (None,),
}


def read_config(folder: Path) -> tuple[Gemma3TextConfig, bool]:
    """Reads config.json, and generation_config.json for the stop ids.

    Returns:
        The configuration, and whether the head is tied to the embedding.

    Raises:
        SourceError: a file is missing or malformed, or describes something else than Gemma3 text.
    """
    path = folder / "config.json"
    text = _text_part(path, strict_json.load(path))
    for key, allowed in _MUST_BE.items():
        if key in text and text[key] not in allowed:
            raise _error(path, key, text[key], f"it must be {' or '.join(map(str, allowed))}")
    layers = _positive_int(path, "num_hidden_layers", text.get("num_hidden_layers"), 1 << 10)
    scalar = text.get("query_pre_attn_scalar", 256)
    if type(scalar) not in (int, float) or not (math.isfinite(scalar) and scalar > 0):
        raise _error(path, "query_pre_attn_scalar", scalar, "it must be a positive number")
    config = Gemma3TextConfig(
        vocab_size=text.get("vocab_size", 262208),
        hidden_size=text.get("hidden_size"),  # type: ignore[arg-type]  # the config checks every value's type
        num_layers=layers,
        num_heads=text.get("num_attention_heads", 8),
        num_kv_heads=text.get("num_key_value_heads", 4),
        head_dim=text.get("head_dim", 256),
        intermediate_size=text.get("intermediate_size"),  # type: ignore[arg-type]
        sliding_window=text.get("sliding_window", 4096),
        layer_types=_layer_types(path, text, layers),
        **_rope(path, text),
        query_scale=float(scalar) ** -0.5,
        rms_eps=text.get("rms_norm_eps", 1e-6),
        max_positions=text.get("max_position_embeddings", 131072),
        bos_token_id=_value(text, "bos_token_id", 2),
        eos_token_ids=_eos_ids(folder, text),
        pad_token_id=_value(text, "pad_token_id", 0),
        origin=str(path),
    )
    return config, text.get("tie_word_embeddings", True) is not False


def _text_part(path: Path, config: dict[str, Any]) -> dict[str, Any]:
    """The keys of the text model; in a multimodal configuration those of text_config over the outer ones."""
    model_type, text = config.get("model_type"), config.get("text_config")
    if model_type == "gemma3_text":
        return config
    if model_type != "gemma3" or not isinstance(text, dict):
        raise _error(path, "model_type", model_type, "it must be gemma3_text, or gemma3 with a text_config")
    return {**config, **text}


def _layer_types(path: Path, text: Mapping[str, Any], layers: int) -> tuple[LayerType, ...]:
    types = text.get("layer_types")
    if types is None:
        pattern = text.get("sliding_window_pattern", text.get("_sliding_window_pattern", 6))
        pattern = _positive_int(path, "sliding_window_pattern", pattern, 1 << 10)
        return tuple("full" if (i + 1) % pattern == 0 else "sliding" for i in range(layers))
    if not isinstance(types, list) or not all(isinstance(t, str) and t in _LAYER_TYPES for t in types):
        raise _error(path, "layer_types", types, f"every entry must be {' or '.join(_LAYER_TYPES)}")
    return tuple(_LAYER_TYPES[t] for t in types)


def _rope(path: Path, text: Mapping[str, Any]) -> dict[str, float]:
    """Bases of both layer kinds, and the linear factor of the full layers."""
    scaling, parameters = text.get("rope_scaling") or {}, text.get("rope_parameters")
    if parameters is None and isinstance(scaling, dict):
        parameters = {
            "full_attention": {**scaling, "rope_theta": text.get("rope_theta", 1e6)},
            "sliding_attention": {"rope_theta": text.get("rope_local_base_freq", 1e4)},
        }
    if not isinstance(parameters, dict) or not all(isinstance(parameters.get(key), dict) for key in _LAYER_TYPES):
        found = parameters or scaling
        raise _error(path, "rope_parameters", found, f"it must be an object of {' and '.join(_LAYER_TYPES)}")
    full, sliding = parameters["full_attention"], parameters["sliding_attention"]
    if _linear_factor(path, sliding) != 1.0:
        raise _error(path, "rope_parameters.sliding_attention", sliding, "sliding layers have no scaling in Gemma3")
    return {
        "rope_theta_global": full.get("rope_theta", 1e6),
        "rope_theta_local": sliding.get("rope_theta", 1e4),
        "rope_factor_global": _linear_factor(path, full),
    }


def _linear_factor(path: Path, rope: Mapping[str, Any]) -> Any:
    kind = rope.get("rope_type", rope.get("type", "default"))
    if kind not in ("default", "linear"):
        raise _error(path, "rope_type", kind, "only default and linear RoPE are Gemma3's")
    return rope.get("factor") if kind == "linear" else 1.0


def _eos_ids(folder: Path, text: Mapping[str, Any]) -> tuple[int, ...]:
    """generation_config.json knows the end of a turn where config.json often has the end of the text only."""
    ids = [_value(text, "eos_token_id", 1)]
    generation = folder / "generation_config.json"
    if generation.is_file():
        ids.append(strict_json.load(generation).get("eos_token_id", []))
    flat = [i for value in ids for i in (value if isinstance(value, list) else [value])]
    return tuple(sorted(set(flat))) if all(type(i) is int for i in flat) else tuple(flat)


def _value(text: Mapping[str, Any], key: str, default: int) -> Any:
    return default if text.get(key) is None else text[key]


def _positive_int(path: Path, key: str, value: Any, limit: int) -> int:
    if type(value) is not int or not 1 <= value <= limit:
        raise _error(path, key, value, f"it must be an integer from 1 to {limit}")
    return value


def _error(path: Path, key: str, found: Any, do: str) -> SourceError:
    return SourceError("not a Gemma3 text configuration", f"{path}: {key}", repr(found)[:80], do)
