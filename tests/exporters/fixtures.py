"""Exported tiny Gemma3 graphs: `load(name)` gives one as its exporter made it, weights and all.

The files hold graphs without weights; see recipe.py for what stands in their place and make_fixtures.py for how they
were made.
"""

from __future__ import annotations

import collections
import lzma
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx

from . import tiny_model
from .recipe import Recipe

__all__ = ["FOLDER", "fill", "hf_weights", "load", "names", "path"]

FOLDER = Path(__file__).parent / "fixtures"


def names() -> list[str]:
    """The fixtures there are."""
    return sorted(file.name.removesuffix(".onnx.xz") for file in FOLDER.glob("*.onnx.xz"))


def path(name: str) -> Path:
    """A fixture's file."""
    return FOLDER / f"{name}.onnx.xz"


def load(name: str) -> onnx.ModelProto:
    """The whole model, weights inside."""
    return fill(_read(name))


def fill(model: onnx.ModelProto) -> onnx.ModelProto:
    """Replaces, in place, every recipe by the weights that it tells."""
    for tensor, recipe in _recipes(model):
        array = recipe.array()
        tensor.raw_data = array.astype(array.dtype.newbyteorder("<")).tobytes()
        tensor.ClearField("doc_string")
    return model


def hf_weights(name: str) -> dict[str, np.ndarray]:
    """The weights by Hugging Face's names that the graph computes with: rounded, dequantised; float32.

    An lm_head.weight is there when the head is quantised and the embedding is not.
    """
    found: dict[str, dict[bool, np.ndarray]] = collections.defaultdict(dict)
    for _, recipe in _recipes(_read(name)):
        rows = 0
        values = recipe.dequantized() - np.float32(recipe.plus_one)
        for weight in recipe.weights:
            count = len(tiny_model.weights()[weight])
            found[weight][bool(recipe.part)] = values[rows : rows + count]
            rows += count
    state = {weight: by_kind[min(by_kind)] for weight, by_kind in found.items()}
    embedding = found["model.embed_tokens.weight"]
    return state | ({"lm_head.weight": embedding[True]} if len(embedding) == 2 else {})


def _read(name: str) -> onnx.ModelProto:
    return onnx.load_from_string(lzma.decompress(path(name).read_bytes()))


def _recipes(model: onnx.ModelProto) -> Iterator[tuple[onnx.TensorProto, Recipe]]:
    for tensor in model.graph.initializer:
        if recipe := Recipe.read(tensor):
            yield tensor, recipe
