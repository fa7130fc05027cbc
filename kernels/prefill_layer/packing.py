"""The buffers that a prompt's launches read and no launch writes (launches.py has their names)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..gemma3_shapes import Gemma3Shape

Words = Any  # bf16, as uint16 words


def pack_model(layers: list[Mapping[str, Any]], norms: list[Mapping[str, Words]], final_norm: Words) -> dict[str, Any]:
    """A model's weights.

    Args:
        layers: For each layer units `[strips, groups, 320]` of qkv, o, gate, up and down; they are read as they lie,
            gate and up as one matrix.
        norms: For each layer w - 1 of input, q_norm, k_norm, post_attention, pre_mlp and post_mlp.
        final_norm: As norms.
    """
    buffers: dict[str, Any] = {"norm.first": norms[0]["input"]}
    for i, (units, norm) in enumerate(zip(layers, norms, strict=True)):
        following = norms[i + 1]["input"] if i + 1 < len(norms) else final_norm
        heads = np.zeros((16, len(norm["q_norm"])), np.uint16)
        heads[0], heads[8] = norm["q_norm"], norm["k_norm"]
        buffers |= {f"units.{name}.{i}": units[name] for name in ("qkv", "o", "down")}
        buffers[f"units.gate_up.{i}"] = np.concatenate([units["gate"], units["up"]])
        buffers[f"norm.qk.{i}"] = heads
        buffers[f"norm.attention.{i}"] = np.stack([norm["post_attention"], norm["pre_mlp"]])
        buffers[f"norm.mlp.{i}"] = np.stack([norm["post_mlp"], following])
    return buffers


def rotations(shape: Gemma3Shape, start: int, rows: int) -> dict[str, Any]:
    """Of positions from `start` on, cos and sin in fp32, `[rows][2][head_dim / 2]`, for both kinds of layer."""
    tables = {}
    for name, theta, factor in (
        ("local", shape.rope_theta_local, 1.0),
        ("global", shape.rope_theta_global, shape.rope_factor),
    ):
        frequency = theta ** (-np.arange(shape.head_dim // 2) * 2 / shape.head_dim)
        angle = (np.arange(start, start + rows) / factor)[:, None] * frequency
        tables[f"rotation.{name}"] = np.stack([np.cos(angle), np.sin(angle)], axis=1).astype(np.float32)
    return tables
