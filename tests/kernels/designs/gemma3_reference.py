"""A Gemma3 decoder with random weights, and one token through it in float64: the truth that the decode design is held to."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from ml_dtypes import bfloat16

from kernels.gemma3_shapes import Gemma3Shape
from kernels.matmul_nbits.packing import dequantize_units, quantize_units

Array = Any
EPSILON = 1e-6
NORMS = ("input", "post_attention", "pre_mlp", "post_mlp", "q_norm", "k_norm")


@dataclass
class RandomModel:
    """Quantised weights as units, norm weights as bf16 `w - 1`, and a cache of `past` positions for every layer."""

    shape: Gemma3Shape
    past: int
    seed: int = 0
    units: list[dict[str, Array]] = field(default_factory=list)
    norms: list[dict[str, Array]] = field(default_factory=list)
    keys: list[Array] = field(default_factory=list)  # [kv heads, positions, head_dim] bf16
    values: list[Array] = field(default_factory=list)

    def __post_init__(self) -> None:
        rng, s = np.random.default_rng(self.seed), self.shape
        sizes = {
            "qkv": (s.qkv, s.hidden),
            "o": (s.hidden, s.attention),
            "gate": (s.inter, s.hidden),
            "up": (s.inter, s.hidden),
            "down": (s.hidden, s.inter),
        }
        for _ in range(s.layers):
            self.units.append(
                {
                    name: quantize_units(rng.standard_normal(size, dtype=np.float32) / np.float32(size[1] ** 0.5))
                    for name, size in sizes.items()
                }
            )
            width = {"q_norm": s.head_dim, "k_norm": s.head_dim}
            self.norms.append({n: (0.3 * rng.standard_normal(width.get(n, s.hidden))).astype(bfloat16) for n in NORMS})
            cached = (s.kv_heads, self.past, s.head_dim)
            self.keys.append(rng.standard_normal(cached).astype(bfloat16))
            self.values.append(rng.standard_normal(cached).astype(bfloat16))
        self.final_norm = (0.3 * rng.standard_normal(s.hidden)).astype(bfloat16)
        self.hidden = (3 * rng.standard_normal(s.hidden)).astype(np.float32)

    def rotation(self, is_global: bool) -> Array:
        """cos and sin of the new token, fp32 `[2, head_dim / 2]`."""
        s = self.shape
        theta, factor = (s.rope_theta_global, s.rope_factor) if is_global else (s.rope_theta_local, 1.0)
        angle = self.past / factor * theta ** (-np.arange(s.head_dim // 2) * 2 / s.head_dim)
        return np.stack([np.cos(angle), np.sin(angle)]).astype(np.float32)


def rms_norm(x: Array, w: Array) -> Array:
    """x over its root mean square, times 1 + w."""
    return x / np.sqrt(np.mean(x * x, -1, keepdims=True) + EPSILON) * (1 + w.astype(np.float64))


def decode(model: RandomModel, rounding: Any = lambda x: x) -> tuple[Array, list[Array], list[Array]]:
    """(final normed hidden state, new key and new value of each layer).

    `rounding` is applied where the design stores bf16: with it, the result is ideal arithmetic in its formats.
    """
    s = model.shape
    h, new_keys, new_values = model.hidden.astype(np.float64), [], []

    def project(units: Array, x: Array) -> Array:
        return dequantize_units(units).astype(np.float64) @ rounding(x)

    for layer in range(s.layers):
        units, norms = model.units[layer], model.norms[layer]
        rows = project(units["qkv"], rms_norm(h, norms["input"])).reshape(-1, s.head_dim)
        cos, sin = model.rotation(s.is_global(layer)).astype(np.float64)

        def rope(x: Array, cos: Array = cos, sin: Array = sin) -> Array:
            a, b = np.split(x, 2, -1)
            return np.concatenate([a * cos - b * sin, b * cos + a * sin], -1)

        scale = np.log2(np.e) * s.head_dim**-0.5
        q = rounding(rope(rms_norm(rows[: s.heads], norms["q_norm"])) * scale)
        k = rounding(rope(rms_norm(rows[s.heads : s.heads + s.kv_heads], norms["k_norm"])))
        v = rounding(rows[s.heads + s.kv_heads :])
        new_keys.append(k)
        new_values.append(v)
        first = 0 if s.is_global(layer) else max(0, model.past - s.window + 1)
        y = []
        for head in range(s.heads):
            group = head // (s.heads // s.kv_heads)
            keys = np.concatenate([model.keys[layer][group, first:].astype(np.float64), k[group : group + 1]])
            values = np.concatenate([model.values[layer][group, first:].astype(np.float64), v[group : group + 1]])
            score = keys @ q[head]
            weight = rounding(2 ** (score - score.max()))
            y.append(weight @ values / weight.sum())
        h = h + rms_norm(project(units["o"], np.concatenate(y)), norms["post_attention"])
        x = rms_norm(h, norms["pre_mlp"])
        gate, up = project(units["gate"], x), project(units["up"], x)
        gelu = 0.5 * gate * (1 + np.tanh(np.sqrt(2 / np.pi) * (gate + 0.044715 * gate**3)))
        h = h + rms_norm(project(units["down"], gelu * up), norms["post_mlp"])
    return rms_norm(h, model.final_norm), new_keys, new_values


def to_bf16(x: Array) -> Array:
    """Rounded to bf16, as float64."""
    return np.asarray(x).astype(bfloat16).astype(np.float64)
