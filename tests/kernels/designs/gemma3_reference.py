"""A Gemma3 decoder with random weights, a token and a prompt through it in float64: the truth for the designs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from ml_dtypes import bfloat16

from kernels import bf16, bfp16
from kernels.flow_attention.passes import Span
from kernels.gemma3_shapes import Gemma3Shape
from kernels.matmul_nbits.packing import dequantize_units, quantize_units
from tests.kernels.designs.flow_qkv_test import attention

Array = Any
EPSILON = 1e-6
NORMS = ("input", "post_attention", "pre_mlp", "post_mlp", "q_norm", "k_norm")


@dataclass
class Model:
    """A decoder and where it is.

    Attributes:
        past: Cached positions.
        units: For each layer the units of qkv, o, gate, up and down.
        norms: For each layer `w - 1` in bf16 of NORMS.
        keys, values: For each layer bf16 `[kv heads, past, head_dim]`.
        hidden: The new token's embedding, fp32.
        final_norm: As norms.
    """

    shape: Gemma3Shape
    past: int
    units: list[dict[str, Array]]
    norms: list[dict[str, Array]]
    keys: list[Array]
    values: list[Array]
    hidden: Array
    final_norm: Array

    def rotation(self, is_global: bool) -> Array:
        """cos and sin of the new token, fp32 `[2, head_dim / 2]`."""
        return rotation(self.shape, self.past, is_global).astype(np.float32)


def rotation(s: Gemma3Shape, position: Array, is_global: bool) -> Array:
    """cos and sin, `[2, ..., head_dim / 2]`."""
    theta, factor = (s.rope_theta_global, s.rope_factor) if is_global else (s.rope_theta_local, 1.0)
    angle = np.asarray(position)[..., None] / factor * theta ** (-np.arange(s.head_dim // 2) * 2 / s.head_dim)
    return np.stack([np.cos(angle), np.sin(angle)])


def random_model(s: Gemma3Shape, past: int, seed: int = 0) -> Model:
    """Weights, cache and embedding of the sizes that trained models have."""
    rng = np.random.default_rng(seed)
    sizes = {
        "qkv": (s.qkv, s.hidden),
        "o": (s.hidden, s.attention),
        "gate": (s.inter, s.hidden),
        "up": (s.inter, s.hidden),
        "down": (s.hidden, s.inter),
    }

    def weights(rows: int, columns: int) -> Array:
        return quantize_units(rng.standard_normal((rows, columns), dtype=np.float32) / np.float32(columns**0.5))

    def norm(name: str) -> Array:
        width = s.head_dim if name in ("q_norm", "k_norm") else s.hidden
        return (0.3 * rng.standard_normal(width)).astype(bfloat16)

    def cached() -> Array:
        return rng.standard_normal((s.kv_heads, past, s.head_dim)).astype(bfloat16)

    return Model(
        s,
        past,
        units=[{name: weights(*size) for name, size in sizes.items()} for _ in range(s.layers)],
        norms=[{name: norm(name) for name in NORMS} for _ in range(s.layers)],
        keys=[cached() for _ in range(s.layers)],
        values=[cached() for _ in range(s.layers)],
        hidden=(3 * rng.standard_normal(s.hidden)).astype(np.float32),
        final_norm=norm("final"),
    )


def rms_norm(x: Array, w: Array) -> Array:
    """x over its root mean square, times 1 + w."""
    return x / np.sqrt(np.mean(x * x, -1, keepdims=True) + EPSILON) * (1 + w.astype(np.float64))


def gelu(x: Array) -> Array:
    """Its tanh form."""
    return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))


def decode(model: Model, rounding: Any = lambda x: x) -> tuple[Array, list[Array], list[Array]]:
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
        h = h + rms_norm(project(units["down"], gelu(gate) * up), norms["post_mlp"])
    return rms_norm(h, model.final_norm), new_keys, new_values


def to_bf16(x: Array) -> Array:
    """Rounded to bf16, as float64."""
    return np.asarray(x).astype(bfloat16).astype(np.float64)


def prefill(model: Model, embeddings: Array, ideal: bool = False) -> tuple[Array, list[Array], list[Array]]:
    """(final normed hidden states `[tokens, hidden]`, keys and values of each layer `[kv heads, tokens, head_dim]`).

    Ideal: exact arithmetic in the formats of the prefill designs: bf16 where they store, bfp16 along K where they
    multiply.
    """
    s, tokens = model.shape, len(embeddings)
    store = bf16.rounded if ideal else np.asarray
    operand = bfp16.rounded if ideal else np.asarray
    h, all_keys, all_values = embeddings.astype(np.float64), [], []

    def project(units: Array, x: Array) -> Array:
        return store(operand(x) @ operand(dequantize_units(units).astype(np.float64)).T)

    for layer in range(s.layers):
        units, norms, is_global = model.units[layer], model.norms[layer], s.is_global(layer)
        cos, sin = rotation(s, np.arange(tokens), is_global)[:, :, None]

        def rope(x: Array, cos: Array = cos, sin: Array = sin) -> Array:
            a, b = np.split(x, 2, -1)
            return np.concatenate([a * cos - b * sin, b * cos + a * sin], -1)

        heads = project(units["qkv"], store(rms_norm(h, norms["input"]))).reshape(tokens, -1, s.head_dim)
        scale = np.log2(np.e) * s.head_dim**-0.5
        q = store(rope(rms_norm(heads[:, : s.heads], norms["q_norm"])) * scale)
        k = store(rope(rms_norm(heads[:, s.heads : s.heads + s.kv_heads], norms["k_norm"]))).swapaxes(0, 1)
        v = heads[:, s.heads + s.kv_heads :].swapaxes(0, 1)
        all_keys.append(k)
        all_values.append(v)
        y = attention(q, k, v, Span(0, tokens, 0 if is_global else s.window), ideal)
        h = h + rms_norm(project(units["o"], y.reshape(tokens, -1)), norms["post_attention"])
        x = store(rms_norm(h, norms["pre_mlp"]))
        gate, up = project(units["gate"], x), project(units["up"], x)
        h = h + rms_norm(project(units["down"], store(gelu(gate) * up)), norms["post_mlp"])
    return store(rms_norm(h, model.final_norm)), all_keys, all_values
