"""Quantises a model so that what it computes on a text changes least.

Matrix after matrix in the order of the model, two runs of the text go through it side by side: one with the original
weights, one with those quantised so far. A matrix is fitted on the activations that it will really get, and makes up
for some of what was lost before it. The head is the embedding too, so it comes first: from a run of the original alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from onnxruntime_ep_ryzen_npu_gemma.graph_passes import q4nx
from onnxruntime_ep_ryzen_npu_gemma.sources import Source

from .decoder_layer import MATRICES, DecoderLayer, rms_norm
from .fit import Fit, Moments

__all__ = ["calibrate"]

_CATCH_UP = 0.5
_EMBEDDING, _HEAD = "model.embed_tokens.weight", "lm_head.weight"

Windows = Sequence[Sequence[int]]
Hidden = list[np.ndarray]  # the residual stream [S, H] of each window


def calibrate(
    source: Source, windows: Windows, head_bits: int, progress: Callable[[], object]
) -> dict[str, q4nx.ByteArray]:
    """Quantises all matrices, the head too unless it gets 8 bits.

    Args:
        source: the original weights.
        windows: pieces of the text, token ids.
        head_bits: 4 or 8, of the head and the embedding.
        progress: called once for each layer of a run, `2 * num_layers` times (num_layers if head_bits is 8).

    Returns:
        Q4NX blocks by the tensor's name.
    """
    blocks: dict[str, q4nx.ByteArray] = {}
    embedding_VH = source.tensor(_EMBEDDING)
    original = _embed(embedding_VH, windows)
    if head_bits == 4:
        head = _HEAD if _HEAD in source.names() else _EMBEDDING
        blocks[head] = _fit_head(source, head, list(original), progress)
    bits = 4 if _EMBEDDING in blocks else 8
    stored = blocks[_EMBEDDING] if bits == 4 else q4nx.quantize_rtn(embedding_VH, 8)
    quantized = _embed(q4nx.dequantize(stored, *embedding_VH.shape), windows)
    del embedding_VH, stored
    for layer in range(source.config.num_layers):
        _fit_layer(source, layer, quantized, original, blocks)
        progress()
    return blocks


def _embed(embedding_VH: np.ndarray, windows: Windows) -> Hidden:
    scale = np.float32(math.sqrt(embedding_VH.shape[1]))
    return [embedding_VH[np.array(ids)] * scale for ids in windows]


def _fit_head(source: Source, name: str, hidden: Hidden, progress: Callable[[], object]) -> q4nx.ByteArray:
    for number in range(source.config.num_layers):
        layer = DecoderLayer(source, number)
        for i, h in enumerate(hidden):
            h = layer.after_attention(h, layer.attention(layer.attention_input(h)))
            hidden[i] = layer.after_mlp(h, layer.mlp(layer.mlp_input(h)))
        progress()
    norm = source.tensor("model.norm.weight")
    moments = Moments(source.config.hidden_size)
    for h in hidden:
        x = rms_norm(h, norm, source.config.rms_eps)
        moments.add(x, x)
    return Fit(moments, catch_up=0).blocks(source.tensor(name), source.codes(name))


def _fit_layer(
    source: Source, number: int, quantized: Hidden, original: Hidden, blocks: dict[str, q4nx.ByteArray]
) -> None:
    """Quantises one layer; both hidden states go through it."""
    ours, theirs = DecoderLayer(source, number), DecoderLayer(source, number)

    def step(of: Callable[[DecoderLayer, np.ndarray], np.ndarray], inputs: Sequence[Hidden]) -> tuple[Hidden, Hidden]:
        return [of(ours, x) for x in inputs[0]], [of(theirs, x) for x in inputs[1]]

    def fit(names: Sequence[str], inputs: tuple[Hidden, Hidden]) -> None:
        moments = Moments(inputs[0][0].shape[1])
        for x, x_original in zip(*inputs, strict=True):
            moments.add(x, x_original)
        shared = Fit(moments, _CATCH_UP)
        for name in names:
            full_name, w_NK = theirs.tensor_name(name), theirs.matrices[name]
            blocks[full_name] = shared.blocks(w_NK, source.codes(full_name))
            ours.matrices[name] = q4nx.dequantize(blocks[full_name], *w_NK.shape)

    x = step(DecoderLayer.attention_input, (quantized, original))
    fit(MATRICES[0], x)
    y = step(DecoderLayer.attention, x)
    fit(MATRICES[1], y)
    _replace((quantized, original), y, (ours.after_attention, theirs.after_attention))
    x = step(DecoderLayer.mlp_input, (quantized, original))
    fit(MATRICES[2], x)
    z = step(DecoderLayer.mlp, x)
    fit(MATRICES[3], z)
    _replace((quantized, original), z, (ours.after_mlp, theirs.after_mlp))


def _replace(
    hidden: tuple[Hidden, Hidden],
    inputs: tuple[Hidden, Hidden],
    functions: tuple[Callable[[np.ndarray, np.ndarray], np.ndarray], ...],
) -> None:
    """Sets h to function(h, x) for each window of each run, in place."""
    for states, xs, function in zip(hidden, inputs, functions, strict=True):
        for i, x in enumerate(xs):
            states[i] = function(states[i], x)
