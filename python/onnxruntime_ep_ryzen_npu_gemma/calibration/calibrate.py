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
from .fit import CalibratedMatrix, Fit

__all__ = ["calibrate"]

_EMBEDDING, _HEAD = "model.embed_tokens.weight", "lm_head.weight"

Windows = Sequence[Sequence[int]]
Hidden = list[FloatArray]  # the residual stream [S, H] of each window


def calibrate(
    source: Source, windows: Windows, head_bits: int, progress: Callable[[], object]
) -> dict[str, CalibratedMatrix]:
    """Quantises all matrices to 4 bits, the head too unless it gets 8, to nearest.

    Args:
        source: the original weights.
        windows: pieces of the text, token ids.
        head_bits: 4 or 8, of the head and the embedding.
        progress: called once for each layer of a run; there are two runs if head_bits is 4, else one.

    Returns:
        The matrices by the tensor's name.
    """
    matrices: dict[str, CalibratedMatrix] = {}
    # Threads take windows, or rows of a matrix; a BLAS with threads of its own would fight them.
    with threadpool_limits(1, "blas"), ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        head = _HEAD if _HEAD in source.names() else _EMBEDDING
        if head_bits == 4:
            matrices[head] = _fit_head(source, head, windows, pool, progress)
            embedding = matrices[head].blocks if head == _EMBEDDING else _in_8_bits(source, _EMBEDDING)
        else:
            embedding = _in_8_bits(source, _EMBEDDING)
        hidden = _embed(q4nx.dequantize(embedding, *source.shape(_EMBEDDING)), windows)
        for number in range(source.config.num_layers):
            _fit_layer(DecoderLayer(source, number), source, hidden, matrices, pool)
            progress()
        if head_bits == 8:
            blocks, w_VH = embedding if head == _EMBEDDING else _in_8_bits(source, head), source.tensor(head)
            error = _head_fit(source, hidden, pool).weighted_error(q4nx.dequantize(blocks, *w_VH.shape), w_VH)
            matrices[head] = CalibratedMatrix(blocks, error)
    return matrices


def _in_8_bits(source: Source, name: str) -> ByteArray:
    return q4nx.quantize_rtn(source.tensor(name), bits=8)


def _embed(embedding_VH: FloatArray, windows: Windows) -> Hidden:
    scale = np.float32(math.sqrt(embedding_VH.shape[1]))
    return [embedding_VH[np.array(ids)] * scale for ids in windows]


def _fit_head(
    source: Source, name: str, windows: Windows, pool: Executor, progress: Callable[[], object]
) -> CalibratedMatrix:
    hidden = _embed(source.tensor(_EMBEDDING), windows)
    for number in range(source.config.num_layers):
        hidden = list(pool.map(DecoderLayer(source, number).forward, hidden))
        progress()
    return _head_fit(source, hidden, pool).matrix(source.tensor(name), source.codes(name))


def _head_fit(source: Source, hidden: Hidden, pool: Executor) -> Fit:
    norm = source.tensor("model.norm.weight")
    return Fit([rms_norm(h, norm, source.config.rms_eps) for h in hidden], pool)


def _fit_layer(
    layer: DecoderLayer, source: Source, hidden: Hidden, matrices: dict[str, CalibratedMatrix], pool: Executor
) -> None:
    """Quantises one layer, in the order in which its matrices run; hidden goes through it."""

    def fit(inputs: Hidden, *names: str) -> None:
        shared = Fit(inputs, pool)
        for name in names:
            full_name, w_NK = layer.tensor_name(name), layer.matrices[name]
            matrices[full_name] = shared.matrix(w_NK, source.codes(full_name))
            layer.matrices[name] = q4nx.dequantize(matrices[full_name].blocks, *w_NK.shape)

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
