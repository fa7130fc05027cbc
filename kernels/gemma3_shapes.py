"""The sizes of Gemma3 text models that an array design is built for: all of them come from the model's config."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

GLOBAL_EVERY = 6  # layers 5, 11, 17 … see everything, the others a window


@dataclass(frozen=True)
class Gemma3Shape:
    """One model.

    Attributes:
        hidden: Width of the residual stream.
        inter: Width of the gated MLP.
        vocab: Rows of the head.
        window: Tokens that a sliding layer sees, the current one included.
        rope_factor: Divides the positions of global layers.
    """

    name: str
    hidden: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    inter: int
    vocab: int
    window: int
    rope_factor: float = 1.0
    rope_theta_global: float = 1e6
    rope_theta_local: float = 1e4
    eps: float = 1e-6

    @property
    def attention(self) -> int:
        """Width of all query heads together."""
        return self.heads * self.head_dim

    @property
    def qkv(self) -> int:
        """Rows of q, k and v together."""
        return (self.heads + 2 * self.kv_heads) * self.head_dim

    def is_global(self, layer: int) -> bool:
        """Whether a layer sees the whole past."""
        return layer % GLOBAL_EVERY == GLOBAL_EVERY - 1

    @property
    def layer_weights(self) -> int:
        """Quantised weights of a decoder layer."""
        return self.hidden * (self.qkv + self.attention + 3 * self.inter)

    @staticmethod
    def from_config(config: Mapping[str, Any], name: str = "gemma3") -> Gemma3Shape:
        """From the keys of a Hugging Face Gemma3 text config."""
        scaling = config.get("rope_scaling") or {}
        return Gemma3Shape(
            name,
            hidden=config["hidden_size"],
            layers=config["num_hidden_layers"],
            heads=config["num_attention_heads"],
            kv_heads=config["num_key_value_heads"],
            head_dim=config["head_dim"],
            inter=config["intermediate_size"],
            vocab=config["vocab_size"],
            window=config["sliding_window"],
            rope_factor=float(scaling.get("factor", 1.0)),
            rope_theta_global=float(config.get("rope_theta", 1e6)),
            rope_theta_local=float(config.get("rope_local_base_freq", 1e4)),
            eps=float(config.get("rms_norm_eps", 1e-6)),
        )


GEMMA3_270M = Gemma3Shape("270m", 640, 18, 4, 1, 256, 2048, 262144, 512)
GEMMA3_1B = Gemma3Shape("1b", 1152, 26, 4, 1, 256, 6912, 262144, 512)
GEMMA3_4B = Gemma3Shape("4b", 2560, 34, 8, 4, 256, 10240, 262208, 1024, rope_factor=8.0)

SHAPES = {shape.name: shape for shape in (GEMMA3_270M, GEMMA3_1B, GEMMA3_4B)}
