"""What every weight source offers: a checked configuration and named fp32 tensors, read one at a time.

Names are those of Hugging Face's Gemma3ForCausalLM.  RMSNorm weights are canonically 1 + w, whatever the file holds:
GGUF stores that already and the Hugging Face source adds the 1, so nothing behind a `Source` ever adds it again.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

import numpy as np

from onnxruntime_ep_ryzen_npu_gemma.errors import Problem

if TYPE_CHECKING:
    from .affine_codes import AffineCodes

__all__ = ["Gemma3TextConfig", "LayerType", "Source", "SourceError", "check_tensors", "tensor_shapes"]

LayerType = Literal["sliding", "full"]

# Upper limits that no Gemma3 comes near; they keep a hostile configuration from making anything large.
_LIMITS = {
    "vocab_size": 1 << 20,
    "hidden_size": 1 << 16,
    "num_layers": 1 << 10,
    "num_heads": 1 << 10,
    "num_kv_heads": 1 << 10,
    "head_dim": 1 << 10,
    "intermediate_size": 1 << 18,
    "sliding_window": 1 << 20,
    "max_positions": 1 << 24,
}


class SourceError(Problem):
    """A model file or folder that cannot be used."""


@dataclasses.dataclass(frozen=True)
class Gemma3TextConfig:
    """The numbers that define a Gemma3 text model.  Construction fails with a `SourceError` unless they make sense.

    Attributes:
        layer_types: "sliding" or "full" (global attention), one for each layer.
        rope_theta_global, rope_theta_local: RoPE bases of the full and of the sliding layers.
        rope_factor_global: linear position scaling of the full layers (1 = none); sliding layers never scale.
        query_scale: factor on the attention scores, query_pre_attn_scalar ** -0.5.
        eos_token_ids: every id that ends a text.
        origin: the file that the numbers came from, for error messages.
    """

    vocab_size: int
    hidden_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    intermediate_size: int
    sliding_window: int
    layer_types: tuple[LayerType, ...]
    rope_theta_global: float
    rope_theta_local: float
    rope_factor_global: float
    query_scale: float
    rms_eps: float
    max_positions: int
    bos_token_id: int
    eos_token_ids: tuple[int, ...]
    pad_token_id: int
    origin: str = dataclasses.field(default="configuration", compare=False)

    def __post_init__(self) -> None:
        for name, limit in _LIMITS.items():
            value = getattr(self, name)
            self._require(type(value) is int and 1 <= value <= limit, name, value, f"an integer from 1 to {limit}")
        for name in ("rope_theta_global", "rope_theta_local", "rope_factor_global", "query_scale", "rms_eps"):
            value = getattr(self, name)
            ok = type(value) in (int, float) and math.isfinite(value) and value > 0
            self._require(ok, name, value, "a positive finite number")
        for name in ("bos_token_id", "pad_token_id"):
            value = getattr(self, name)
            self._require(self._is_token(value), name, value, f"a token id below {self.vocab_size}")
        ok = bool(self.eos_token_ids) and all(map(self._is_token, self.eos_token_ids))
        self._require(ok, "eos_token_ids", self.eos_token_ids, f"token ids below {self.vocab_size}")
        ok = len(self.layer_types) == self.num_layers and set(self.layer_types) <= {"sliding", "full"}
        self._require(ok, "layer_types", self.layer_types, f"{self.num_layers} entries, each sliding or full")
        self._require(self.head_dim % 2 == 0, "head_dim", self.head_dim, "an even number (RoPE rotates halves)")
        heads = f"{self.num_heads} heads over {self.num_kv_heads} key/value heads"
        self._require(self.num_heads % self.num_kv_heads == 0, "num_kv_heads", heads, "a divisor of num_heads")

    def _is_token(self, value: object) -> bool:
        return type(value) is int and 0 <= value < self.vocab_size

    def _require(self, ok: bool, name: str, found: object, expected: str) -> None:
        if not ok:
            shown = repr(found)
            shown = shown if len(shown) <= 80 else shown[:77] + "..."
            where = f"{self.origin}: {name}"
            raise SourceError("not a Gemma3 text configuration", where, shown, f"it must be {expected}")


class Source(Protocol):
    """A Gemma3 text model on disk.  Opening one checks all of it but the weight values themselves."""

    @property
    def path(self) -> Path:
        """The file or folder."""

    @property
    def config(self) -> Gemma3TextConfig:
        """The checked configuration."""

    def names(self) -> tuple[str, ...]:
        """All tensor names; `lm_head.weight` is among them only if the head is not tied to the embedding."""

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of a tensor, projections as [out, in]; equal to `tensor_shapes(config)[name]`."""

    def tensor(self, name: str) -> np.ndarray:
        """Reads one tensor as float32.  Nothing is kept.  Raises `SourceError` if it holds NaN or infinity."""

    def type_name(self, name: str) -> str:
        """The encoding of a tensor in the file, as its format calls it."""

    def codes(self, name: str) -> AffineCodes | None:
        """The 4-bit codes of a matrix that is stored as such in groups of 32; else None.  Raises as `tensor`."""


def tensor_shapes(config: Gemma3TextConfig, *, tied_head: bool = True) -> dict[str, tuple[int, ...]]:
    """Every tensor of a Gemma3 text model by its canonical name, in model order."""
    H, F = config.hidden_size, config.intermediate_size
    q_out, kv_out = config.num_heads * config.head_dim, config.num_kv_heads * config.head_dim
    shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (config.vocab_size, H)}
    layer: dict[str, tuple[int, ...]] = {
        "input_layernorm": (H,),
        "self_attn.q_proj": (q_out, H),
        "self_attn.k_proj": (kv_out, H),
        "self_attn.v_proj": (kv_out, H),
        "self_attn.q_norm": (config.head_dim,),
        "self_attn.k_norm": (config.head_dim,),
        "self_attn.o_proj": (H, q_out),
        "post_attention_layernorm": (H,),
        "pre_feedforward_layernorm": (H,),
        "mlp.gate_proj": (F, H),
        "mlp.up_proj": (F, H),
        "mlp.down_proj": (H, F),
        "post_feedforward_layernorm": (H,),
    }
    for i in range(config.num_layers):
        shapes |= {f"model.layers.{i}.{name}.weight": shape for name, shape in layer.items()}
    shapes["model.norm.weight"] = (H,)
    if not tied_head:
        shapes["lm_head.weight"] = (config.vocab_size, H)
    return shapes


def check_tensors(where: Path, expected: Mapping[str, tuple[int, ...]], found: Mapping[str, tuple[int, ...]]) -> None:
    """Raises `SourceError` unless a file holds exactly the expected tensors with the expected shapes."""
    do = "the file is incomplete or is not a Gemma3 text model; get it again or check its architecture"
    for name, shape in expected.items():
        if name not in found:
            raise SourceError("a tensor is missing", f"{where}: {name}", f"{len(found)} other tensors", do)
        if found[name] != shape:
            what = "a tensor's shape does not match the configuration"
            raise SourceError(what, f"{where}: {name}", f"{list(found[name])} instead of {list(shape)}", do)
    if extra := sorted(set(found) - set(expected)):
        raise SourceError("a tensor has no place in Gemma3 text", f"{where}: {extra[0]}", f"{len(extra)} such", do)
