"""Configuration and vocabulary out of the metadata of a Gemma3 GGUF file.

Three facts are not in such files and are the same for every Gemma3 (llama.cpp has them in its code too): five sliding
layers to one full layer, RoPE base 10000 in the sliding layers, and the attention scale.  Newer files may state the
first two; what a file states counts.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

import numpy as np

from .gguf_header import MetadataValue
from .source import Gemma3TextConfig, LayerType, SourceError

__all__ = ["Metadata", "SpmVocabulary", "read_config", "read_vocabulary"]

T = TypeVar("T", bound=MetadataValue)

_LAYER_PATTERN = 6
_ROPE_THETA_LOCAL = 1e4
_LAYERS_27B = 62  # the one size whose query_pre_attn_scalar is hidden / heads and not head_dim


@dataclasses.dataclass(frozen=True)
class SpmVocabulary:
    """A SentencePiece vocabulary: one text, score and llama.cpp token type for each id."""

    tokens: list[str]
    scores: np.ndarray  # f32 [V]
    types: np.ndarray  # i32 [V]
    unk_token_id: int
    add_bos: bool
    chat_template: str | None


class Metadata:
    """Typed access to GGUF metadata that explains what is wrong with a value."""

    def __init__(self, path: Path, values: Mapping[str, MetadataValue]) -> None:
        self.path, self._values = path, values

    def __contains__(self, key: str) -> bool:
        return key in self._values

    def get(self, key: str, kind: type[T], default: T | None = None) -> T:
        """The value of a key, which must have exactly this Python type."""
        value = self._values.get(key, default)
        if type(value) is not kind:
            found = "nothing" if value is None else f"a {type(value).__name__}"
            do = f"it must be a {kind.__name__}; is this a complete Gemma3 text model?"
            raise SourceError("bad GGUF metadata", f"{self.path}: {key}", found, do)
        return value

    def refuse(self, what: str, key: str, do: str, found: object = None) -> SourceError:
        """The error for a key whose value cannot be used."""
        shown = repr(self._values.get(key))[:80] if found is None else found
        return SourceError(what, f"{self.path}: {key}", shown, do)


def read_config(metadata: Metadata, vocabulary: SpmVocabulary) -> Gemma3TextConfig:
    """The configuration of a gemma3 file.  Raises `SourceError` for any other architecture."""
    get, refuse = metadata.get, metadata.refuse
    if get("gemma3.final_logit_softcapping", float, 0.0) != 0.0:
        raise refuse("not plain Gemma3", "gemma3.final_logit_softcapping", "Gemma3 caps no logits; use another file")
    scaling = get("gemma3.rope.scaling.type", str, "none")
    if scaling not in ("none", "linear"):
        raise refuse("unsupported RoPE scaling", "gemma3.rope.scaling.type", "Gemma3 has none or linear")
    layers, heads = get("gemma3.block_count", int), get("gemma3.attention.head_count", int)
    hidden, head_dim = get("gemma3.embedding_length", int), get("gemma3.attention.key_length", int)
    if get("gemma3.attention.value_length", int) != head_dim:
        raise refuse("not Gemma3", "gemma3.attention.value_length", f"it must equal key_length, {head_dim}")
    pattern = get("gemma3.attention.sliding_window_pattern", int, _LAYER_PATTERN)
    for key, count in (("block_count", layers), ("attention.sliding_window_pattern", pattern)):
        if not 1 <= count <= 1 << 10:
            raise refuse("absurd layer count", f"gemma3.{key}", "1 to 1024 are possible")
    if not 1 <= heads <= hidden:
        raise refuse("absurd head count", "gemma3.attention.head_count", f"1 to {hidden} are possible")
    if (query_scalar := hidden // heads if layers == _LAYERS_27B else head_dim) < 1:
        raise refuse("absurd head size", "gemma3.attention.key_length", "it must be at least 1")
    return Gemma3TextConfig(
        vocab_size=len(vocabulary.tokens),
        hidden_size=hidden,
        num_layers=layers,
        num_heads=heads,
        num_kv_heads=get("gemma3.attention.head_count_kv", int),
        head_dim=head_dim,
        intermediate_size=get("gemma3.feed_forward_length", int),
        sliding_window=get("gemma3.attention.sliding_window", int),
        layer_types=tuple(_layer_type(i, pattern) for i in range(layers)),
        rope_theta_global=get("gemma3.rope.freq_base", float),
        rope_theta_local=get("gemma3.rope.freq_base_swa", float, _ROPE_THETA_LOCAL),
        rope_factor_global=get("gemma3.rope.scaling.factor", float) if scaling == "linear" else 1.0,
        query_scale=query_scalar**-0.5,
        rms_eps=get("gemma3.attention.layer_norm_rms_epsilon", float),
        max_positions=get("gemma3.context_length", int),
        bos_token_id=get("tokenizer.ggml.bos_token_id", int),
        eos_token_ids=_end_ids(metadata, vocabulary),
        pad_token_id=get("tokenizer.ggml.padding_token_id", int),
        origin=str(metadata.path),
    )


def _layer_type(layer: int, pattern: int) -> LayerType:
    return "full" if (layer + 1) % pattern == 0 else "sliding"


def _end_ids(metadata: Metadata, vocabulary: SpmVocabulary) -> tuple[int, ...]:
    """The end of the text, and the end of a turn even in a base model's file, which does not state it."""
    ids = {metadata.get("tokenizer.ggml.eos_token_id", int)}
    if "tokenizer.ggml.eot_token_id" in metadata:
        ids.add(metadata.get("tokenizer.ggml.eot_token_id", int))
    if "<end_of_turn>" in vocabulary.tokens:
        ids.add(vocabulary.tokens.index("<end_of_turn>"))
    return tuple(sorted(ids))


def read_vocabulary(metadata: Metadata) -> SpmVocabulary:
    """The vocabulary of a file.  Raises `SourceError` unless it is SentencePiece's as Gemma uses it."""
    get = metadata.get
    do = "use a GGUF file made from the original Gemma3"
    if get("tokenizer.ggml.model", str) != "llama":
        raise metadata.refuse("not a SentencePiece vocabulary", "tokenizer.ggml.model", do)
    if get("tokenizer.ggml.add_space_prefix", bool, False):
        raise metadata.refuse("not Gemma's tokenizer", "tokenizer.ggml.add_space_prefix", do)
    tokens = get("tokenizer.ggml.tokens", list)
    scores, types = (get(f"tokenizer.ggml.{key}", np.ndarray) for key in ("scores", "token_type"))
    faults = {
        f"{scores.dtype} scores": scores.dtype != np.float32,
        f"{types.dtype} types": types.dtype != np.int32,
        f"{len(tokens)} tokens, {len(scores)} scores, {len(types)} types": not len(tokens) == len(scores) == len(types),
        "no tokens": not tokens,
        "tokens that are not texts": not all(type(token) is str for token in tokens),
        "one text for two ids": len(set(tokens)) != len(tokens),
        "a score that is not finite": not np.isfinite(scores).all(),
    }
    if fault := next((text for text, is_so in faults.items() if is_so), None):
        raise metadata.refuse("bad vocabulary", "tokenizer.ggml.tokens", do, fault)
    unk = get("tokenizer.ggml.unknown_token_id", int)
    if not 0 <= unk < len(tokens):
        raise metadata.refuse("bad vocabulary", "tokenizer.ggml.unknown_token_id", do)
    template = get("tokenizer.chat_template", str, "")
    return SpmVocabulary(tokens, scores, types, unk, get("tokenizer.ggml.add_bos_token", bool, True), template or None)
