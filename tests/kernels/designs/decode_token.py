"""One token of a model through the decode design in the array simulator."""

from __future__ import annotations

from typing import Any

import numpy as np
from ml_dtypes import bfloat16

from kernels.decode_layer.design import decode_layer
from kernels.decode_layer.packing import pack_cache, pack_token, pack_weights
from kernels.decode_layer.plan import BLOCK_ROWS, make_plan
from kernels.decode_layer.token import Token, cache_blocks
from kernels.gemma3_shapes import Gemma3Shape
from tests.kernels.designs.gemma3_reference import Model
from tests.kernels.designs.running import execute

HEAD = 256


def words(x: Any) -> Any:
    return np.ascontiguousarray(x).view(np.uint16)


def cache_of(shape: Gemma3Shape, layer: int, keys: Any, values: Any, capacity: int) -> Any:
    """A layer's, of keys and values `[kv heads, past, 256]`, as the NPU holds it: sliding layers in a ring of slots."""
    past = keys.shape[1]
    keys, values = words(keys), words(values)
    if shape.is_global(layer):
        return pack_cache(keys, values, capacity)
    first = max(0, past - shape.window)
    slots = np.arange(first, past) % shape.window
    ring = np.zeros((2, shape.kv_heads, shape.window, HEAD), np.uint16)
    ring[0][:, slots], ring[1][:, slots] = keys[:, first:], values[:, first:]
    return pack_cache(ring[0], ring[1], shape.window)


def run_token(model: Model, capacity: int, cache: Any = None) -> tuple[Any, list[Any], Any]:
    """(final hidden state, caches, the simulator's result); `cache`: all layers', else that of the model's keys."""
    shape = model.shape
    plan, token = make_plan(shape), Token(model.past, capacity)
    norms = [{name: words(w) for name, w in layer.items()} for layer in model.norms]
    weights = pack_weights(plan, model.units, norms, words(model.final_norm))
    if cache is None:
        layers = enumerate(zip(model.keys, model.values, strict=True))
        cache = np.concatenate([cache_of(shape, i, keys, values, capacity) for i, (keys, values) in layers])
    rotations = np.concatenate([model.rotation(False).ravel(), model.rotation(True).ravel()])
    first = pack_token(model.hidden, rotations, norms[0]["input"])
    hidden = np.zeros(shape.hidden, np.uint16)
    result = execute(decode_layer(plan, token), weights, cache, first, hidden)
    heads = [cache_blocks(plan, token, layer) * shape.kv_heads for layer in range(shape.layers)]
    bounds = np.cumsum(heads)[:-1] * 2 * BLOCK_ROWS * HEAD
    return hidden.view(bfloat16).astype(np.float64), np.split(cache, bounds), result
