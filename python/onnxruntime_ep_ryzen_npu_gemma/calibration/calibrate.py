"""Quantises a model so that what it computes on a text changes least.

The text runs through the model matrix after matrix, with the weights that are quantised so far: a matrix is fitted on
the activations that it will really get. The head is the embedding too, so it comes first, from a run of the original.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor

import numpy as np
from threadpoolctl import threadpool_limits

from onnxruntime_ep_ryzen_npu_gemma.graph_passes import q4nx
from onnxruntime_ep_ryzen_npu_gemma.graph_passes.q4nx import ByteArray, FloatArray
from onnxruntime_ep_ryzen_npu_gemma.sources import Source

from .decoder_layer import DecoderLayer, rms_norm
from .fit import Fit

__all__ = ["calibrate"]

_EMBEDDING, _HEAD = "model.embed_tokens.weight", "lm_head.weight"

Windows = Sequence[Sequence[int]]
Hidden = list[FloatArray]  # the residual stream [S, H] of each window


def calibrate(source: Source, windows: Windows, head_bits: int, progress: Callable[[], object]) -> dict[str, ByteArray]:
    """Quantises all matrices to 4 bits, the head too unless it gets 8.

    Args:
        source: the original weights.
        windows: pieces of the text, token ids.
        head_bits: 4 or 8, of the head and the embedding.
        progress: called once for each layer of a run; there are two runs if head_bits is 4, else one.

    Returns:
        Q4NX blocks by the tensor's name.
    """
    blocks: dict[str, ByteArray] = {}
    # Threads take windows, or rows of a matrix; a BLAS with threads of its own would fight them.
    with threadpool_limits(1, "blas"), ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        if head_bits == 4:
            head = _HEAD if _HEAD in source.names() else _EMBEDDING
            blocks[head] = _fit_head(source, head, windows, pool, progress)
        hidden = _embed(_stored_embedding(source, blocks.get(_EMBEDDING)), windows)
        for number in range(source.config.num_layers):
            _fit_layer(DecoderLayer(source, number), source, hidden, blocks, pool)
            progress()
    return blocks


def _stored_embedding(source: Source, blocks: ByteArray | None) -> FloatArray:
    """The embedding as the converted model has it."""
    embedding_VH = source.tensor(_EMBEDDING)
    if blocks is None:
        blocks = q4nx.quantize_rtn(embedding_VH, bits=8)
    return q4nx.dequantize(blocks, *embedding_VH.shape)


def _embed(embedding_VH: FloatArray, windows: Windows) -> Hidden:
    scale = np.float32(math.sqrt(embedding_VH.shape[1]))
    return [embedding_VH[np.array(ids)] * scale for ids in windows]


def _fit_head(source: Source, name: str, windows: Windows, pool: Executor, progress: Callable[[], object]) -> ByteArray:
    hidden = _embed(source.tensor(_EMBEDDING), windows)
    for number in range(source.config.num_layers):
        hidden = list(pool.map(DecoderLayer(source, number).forward, hidden))
        progress()
    norm = source.tensor("model.norm.weight")
    fit = Fit([rms_norm(h, norm, source.config.rms_eps) for h in hidden], pool)
    return fit.blocks(source.tensor(name), source.codes(name))


def _fit_layer(
    layer: DecoderLayer, source: Source, hidden: Hidden, blocks: dict[str, ByteArray], pool: Executor
) -> None:
    """Quantises one layer, in the order in which its matrices run; hidden goes through it."""

    def fit(inputs: Hidden, *names: str) -> None:
        shared = Fit(inputs, pool)
        for name in names:
            full_name, w_NK = layer.tensor_name(name), layer.matrices[name]
            blocks[full_name] = shared.blocks(w_NK, source.codes(full_name))
            layer.matrices[name] = q4nx.dequantize(blocks[full_name], *w_NK.shape)

    x = list(pool.map(layer.attention_input, hidden))
    fit(x, "self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj")
    y = list(pool.map(layer.attention, x))
    fit(y, "self_attn.o_proj")
    hidden[:] = pool.map(layer.after_attention, hidden, y)
    x = list(pool.map(layer.mlp_input, hidden))
    fit(x, "mlp.gate_proj", "mlp.up_proj")
    z = list(pool.map(layer.mlp, x))
    fit(z, "mlp.down_proj")
    hidden[:] = pool.map(layer.after_mlp, hidden, z)
