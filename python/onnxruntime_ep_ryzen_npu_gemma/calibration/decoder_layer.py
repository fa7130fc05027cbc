"""One decoder layer of Gemma3 in numpy, cut at the inputs of its matrices.

Calibration needs what goes into each matrix, layer by layer, with weights that change in between; that is why it does
not run the exported graph. The parts in order, h [S, H] being the residual stream of one window of text:

    x = attention_input(h)           into q, k, v
    y = attention(x)                 into o
    h = after_attention(h, y)
    x = mlp_input(h)                 into gate, up
    z = mlp(x)                       into down
    h = after_mlp(h, z)
"""

from __future__ import annotations

import math

import numpy as np

from onnxruntime_ep_ryzen_npu_gemma.graph_passes.q4nx import FloatArray
from onnxruntime_ep_ryzen_npu_gemma.sources import Source

__all__ = ["DecoderLayer", "rms_norm"]

_MATRICES = (
    "self_attn.q_proj",
    "self_attn.k_proj",
    "self_attn.v_proj",
    "self_attn.o_proj",
    "mlp.gate_proj",
    "mlp.up_proj",
    "mlp.down_proj",
)
_NORMS = (
    "input_layernorm",
    "self_attn.q_norm",
    "self_attn.k_norm",
    "post_attention_layernorm",
    "pre_feedforward_layernorm",
    "post_feedforward_layernorm",
)
_GELU = np.float32(math.sqrt(2 / math.pi))


def rms_norm(x: FloatArray, weight: FloatArray, eps: float) -> FloatArray:
    """Gives x / sqrt(mean(x^2) + eps) * weight over the last axis; weight is 1 + w."""
    scale = 1 / np.sqrt(np.einsum("...d,...d->...", x, x) / x.shape[-1] + np.float32(eps))
    y: FloatArray = x * scale[..., None].astype(np.float32) * weight
    return y


class DecoderLayer:
    """The weights of one layer, float32 [out, in], and what is computed with them.

    Attributes:
        matrices: by name, q_proj to down_proj; an entry may be replaced between calls.
    """

    def __init__(self, source: Source, layer: int) -> None:
        self.prefix = f"model.layers.{layer}."
        self._config = source.config
        self._sliding = source.config.layer_types[layer] == "sliding"
        self.matrices = {name: source.tensor(self.tensor_name(name)) for name in _MATRICES}
        self._norms = {name: source.tensor(self.tensor_name(name)) for name in _NORMS}

    def tensor_name(self, name: str) -> str:
        """The canonical name of a tensor of this layer."""
        return f"{self.prefix}{name}.weight"

    def forward(self, h: FloatArray) -> FloatArray:
        """The whole layer."""
        h = self.after_attention(h, self.attention(self.attention_input(h)))
        return self.after_mlp(h, self.mlp(self.mlp_input(h)))

    def attention_input(self, h: FloatArray) -> FloatArray:
        """[S, H] -> [S, H]."""
        return self._norm("input_layernorm", h)

    def attention(self, x: FloatArray) -> FloatArray:
        """[S, H] -> [S, Hq * Dh]: causal, in a sliding layer within the window."""
        c = self._config
        S, group = len(x), c.num_heads // c.num_kv_heads
        q_SHD = self._rope(self._norm("self_attn.q_norm", self._heads("self_attn.q_proj", x, c.num_heads)))
        k_SHD = self._rope(self._norm("self_attn.k_norm", self._heads("self_attn.k_proj", x, c.num_kv_heads)))
        v_SHD = self._heads("self_attn.v_proj", x, c.num_kv_heads)
        distance = np.arange(S)[:, None] - np.arange(S)
        visible_SS = distance >= 0
        if self._sliding:
            visible_SS &= distance < c.sliding_window
        y_SHD = np.empty_like(q_SHD)
        for head in range(c.num_heads):
            scores_SS = q_SHD[:, head] @ k_SHD[:, head // group].T * np.float32(c.query_scale)
            scores_SS[~visible_SS] = -np.inf
            scores_SS -= scores_SS.max(axis=1, keepdims=True)
            np.exp(scores_SS, out=scores_SS)
            scores_SS /= scores_SS.sum(axis=1, keepdims=True)
            y_SHD[:, head] = scores_SS @ v_SHD[:, head // group]
        return y_SHD.reshape(S, -1)

    def after_attention(self, h: FloatArray, y: FloatArray) -> FloatArray:
        """The residual after the attention block."""
        return h + self._norm("post_attention_layernorm", self._project("self_attn.o_proj", y))

    def mlp_input(self, h: FloatArray) -> FloatArray:
        """[S, H] -> [S, H]."""
        return self._norm("pre_feedforward_layernorm", h)

    def mlp(self, x: FloatArray) -> FloatArray:
        """[S, H] -> [S, F]: gelu(gate) * up."""
        gate, up = self._project("mlp.gate_proj", x), self._project("mlp.up_proj", x)
        inner = gate * gate * gate
        inner *= np.float32(0.044715)
        inner += gate
        inner *= _GELU
        np.tanh(inner, out=inner)
        inner += np.float32(1)
        inner *= gate
        inner *= up
        inner *= np.float32(0.5)
        return inner

    def after_mlp(self, h: FloatArray, z: FloatArray) -> FloatArray:
        """The residual after the layer."""
        return h + self._norm("post_feedforward_layernorm", self._project("mlp.down_proj", z))

    def _project(self, name: str, x: FloatArray) -> FloatArray:
        y: FloatArray = x @ self.matrices[name].T
        return y

    def _heads(self, name: str, x: FloatArray, heads: int) -> FloatArray:
        return self._project(name, x).reshape(len(x), heads, self._config.head_dim)

    def _norm(self, name: str, x: FloatArray) -> FloatArray:
        return rms_norm(x, self._norms[name], self._config.rms_eps)

    def _rope(self, x_SHD: FloatArray) -> FloatArray:
        c = self._config
        half = c.head_dim // 2
        theta = c.rope_theta_local if self._sliding else c.rope_theta_global
        factor = 1.0 if self._sliding else c.rope_factor_global
        inv_freq = 1 / (factor * theta ** (np.arange(half) / half))
        angles = (np.arange(len(x_SHD))[:, None] * inv_freq)[:, None, :]
        cos, sin = np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)
        first, second = x_SHD[..., :half], x_SHD[..., half:]
        rotated_SHD: FloatArray = np.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)
        return rotated_SHD
