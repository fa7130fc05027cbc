"""The bytes that the decode design reads, in the order in which it reads them.

Weights are one array `[16 channels][layers][objects of a layer][2 tiles][5120 B]`: a channel's part of a layer is two
linear bursts, before and after the keys and values, and the second runs on into the next layer's first.

The cache of a layer is `[kv head][block of 20 positions][K 20 x 256 | V 20 x 256]` bf16, also read as it lies: ten
positions of K, then ten of V, for each of a channel's two tiles. Position p of a sliding layer is in slot p mod window.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..matmul_nbits.packing import UNIT_BYTES, whole_objects
from .plan import BLOCK_ROWS, CHANNELS, HUB, OBJECT, WRITER, Plan, Run
from .token import blocks_of

Bytes = np.ndarray[Any, np.dtype[np.uint8]]


def _run(units: Bytes, run: Run) -> Bytes:
    flat = units.reshape(-1, UNIT_BYTES[4])
    return whole_objects(flat[run.first : run.first + 16 * run.objects])


def _vectors(*vectors: Any) -> Bytes:
    """Vectors one after the other in whole objects; they share one if all fit."""
    raw = [np.ascontiguousarray(v).view(np.uint8).ravel() for v in vectors]
    joined = np.concatenate(raw)
    if len(joined) > OBJECT:
        return np.concatenate([_vectors(v) for v in raw]) if len(raw) > 1 else _fill(joined)
    return _fill(joined)


def _fill(raw: Bytes) -> Bytes:
    return np.concatenate([raw, np.zeros(-len(raw) % OBJECT, np.uint8)]).reshape(-1, OBJECT)


def pack_layer(plan: Plan, tile: int, weights: Mapping[str, Bytes], norms: Mapping[str, Any]) -> tuple[Bytes, Bytes]:
    """A tile's objects of one layer, before and after its keys and values.

    Args:
        plan: Of the model.
        tile: 0 … 31.
        weights: units `[strips, groups, 320]` by name: qkv (q, k, v rows), o, gate, up, down.
        norms: w - 1 in bf16, as words: q_norm, k_norm, post_attention, pre_mlp, post_mlp, and next_input: the next
            layer's input norm or the final norm. The tiles of the hub's channel get them.
    """
    share = plan.shares[tile]
    before = [_run(weights["qkv"], share.qkv)]
    after = [_run(weights["o"], share.o)]
    if tile in (HUB, WRITER):
        before.append(_vectors(norms["q_norm"], norms["k_norm"]))
        after.append(_vectors(norms["post_attention"], norms["pre_mlp"]))
    groups = range(share.mlp_group, share.mlp_group + share.mlp_groups)
    for group in groups:
        rows = slice(2 * group, 2 * group + 2)
        after.append(whole_objects(np.concatenate([weights["gate"][rows], weights["up"][rows]])))
    after.append(whole_objects(weights["down"][:, groups.start : groups.stop]))
    if tile in (HUB, WRITER):
        after.append(_vectors(norms["post_mlp"], norms["next_input"]))
    return np.concatenate(before), np.concatenate(after)


def pack_weights(
    plan: Plan, layers: list[Mapping[str, Bytes]], norms: list[Mapping[str, Any]], final_norm: Any
) -> Bytes:
    """All layers: `norms[i]` also holds `input`, the norm before layer i."""
    channels = []
    for channel in range(CHANNELS):
        parts = []
        for layer, weights in enumerate(layers):
            following = norms[layer + 1]["input"] if layer + 1 < len(layers) else final_norm
            known = {**norms[layer], "next_input": following}
            pair = [pack_layer(plan, tile, weights, known) for tile in (2 * channel, 2 * channel + 1)]
            for part in range(2):
                parts.append(np.stack([pair[0][part], pair[1][part]], axis=1).ravel())
        channels.append(np.concatenate(parts))
    return np.concatenate(channels)


def pack_token(hidden: Any, cos_sin: Any, input_norm: Any) -> Bytes:
    """What the hub reads first.

    Args:
        hidden: The embedding, fp32.
        cos_sin: Rotation tables, fp32: local cos, local sin, global cos, global sin, head_dim/2 each.
        input_norm: Of the first layer, w - 1 in bf16, as words.
    """
    return np.concatenate([_vectors(cos_sin), _vectors(hidden), _vectors(input_norm)]).ravel()


def pack_cache(keys: Any, values: Any, capacity: int) -> Any:
    """`[kv heads, positions, head_dim]` bf16 words as the cache of a layer with room for `capacity` positions."""
    heads, positions, width = keys.shape
    cache = np.zeros((heads, blocks_of(capacity), 2, BLOCK_ROWS, width), keys.dtype)
    slots = np.arange(positions)
    cache[:, slots // BLOCK_ROWS, 0, slots % BLOCK_ROWS] = keys
    cache[:, slots // BLOCK_ROWS, 1, slots % BLOCK_ROWS] = values
    return cache.ravel()
