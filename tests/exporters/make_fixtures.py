"""Makes the fixtures: python -m tests.exporters.make_fixtures [NAME ...], all when no name is given.

Each variant is exported, stripped of what only its maker's machine knows, and its weights are replaced by recipes that
are found by their bytes, so that a fixture filled again is the exporter's graph exactly.  (k_quant's codes come from a
search; round-to-nearest codes of the same weights stand for them.)
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import lzma
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import onnx
from google.protobuf.message import Message
from onnx import numpy_helper

from . import fixtures, rtn, tiny_model
from .environments import run_exporter
from .recipe import Recipe
from .variants import VARIANTS

__all__ = ["exported", "make"]

MAX_FILE_BYTES = 400_000
MAX_KEPT_BYTES = 20_000  # a larger tensor that is no weight would be a surprise; RoPE tables have 16 kB
MIN_WEIGHT_ELEMENTS = 64  # the shortest weight is a QK-norm
MAX_QUANTIZATION_ERROR = 0.15  # of the largest weight: half a step of 4 bits is 1/15


def exported(name: str) -> onnx.ModelProto:
    """Runs a variant's exporter; the graph with its weights, stripped."""
    variant = VARIANTS[name]
    with tempfile.TemporaryDirectory() as folder:
        hf_folder, output = Path(folder) / "tiny-gemma3", Path(folder) / "onnx" / "model.onnx"
        tiny_model.write_hf_folder(hf_folder, **variant.config)
        output.parent.mkdir()
        run_exporter(variant.exporter, hf_folder, output, *variant.options)
        model = onnx.load(output)
    _strip(model)
    model.graph.name = Path(model.graph.name).name  # mobius names its graph by the path of its input
    for tensor in model.graph.initializer:
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor), tensor.name))
    return model


def make(name: str) -> None:
    """Writes one fixture.

    Raises:
        ValueError: a weight was not recognised or comes back changed, or the file is too large.
    """
    model = exported(name)
    whole = onnx.ModelProto()
    whole.CopyFrom(model)
    _replace_quantized(model)
    _replace_floats(model)
    data = lzma.compress(model.SerializeToString(deterministic=True), preset=9)
    changed = _changed(whole, fixtures.fill(model))
    if changed and VARIANTS[name].exact:
        raise ValueError(f"fixture {name} is not what its exporter made: {', '.join(changed)}")
    if len(data) > MAX_FILE_BYTES:
        raise ValueError(f"fixture {name} has {len(data)} bytes, at most {MAX_FILE_BYTES} are allowed")
    fixtures.FOLDER.mkdir(exist_ok=True)
    fixtures.path(name).write_bytes(data)
    print(f"{name}: {len(data)} bytes, {len(model.graph.node)} nodes, {len(changed)} tensors requantised")


def _strip(message: Message) -> None:
    """Clears doc strings and metadata wherever they are: stack traces, paths, names of source nodes."""
    for field in ("doc_string", "metadata_props"):
        if field in message.DESCRIPTOR.fields_by_name:
            message.ClearField(field)
    for field, value in message.ListFields():
        if field.message_type is not None:
            for child in value if isinstance(value, Iterable) else [value]:
                _strip(child)


def _replace_quantized(model: onnx.ModelProto) -> None:
    """Every MatMulNBits's codes, scales and zero points; the weight is the nearest of its shape."""
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type != "MatMulNBits":
            continue
        attributes = {attribute.name: attribute.i for attribute in node.attribute}
        parts = [tensors[name] for name in node.input[1:4] if name]
        how = rtn.Format(attributes["bits"], attributes["block_size"], len(parts) == 3)
        codes, scales, *zeros = (numpy_helper.to_array(part) for part in parts)
        N = attributes["N"]
        w_NK = rtn.dequantize(codes, scales.reshape(N, -1), zeros[0] if zeros else None, how)
        weights, error = _nearest(w_NK)
        if error > MAX_QUANTIZATION_ERROR:
            raise ValueError(f"{node.name}: nearest weight {weights} is {error:.3f} away")
        for part, what in zip(parts, ("codes", "scales", "zero_points"), strict=False):
            recipe = Recipe(weights, str(scales.dtype), False, False, what, **dataclasses.asdict(how))
            recipe.write(part)


def _replace_floats(model: onnx.ModelProto) -> None:
    for tensor in model.graph.initializer:
        if tensor.doc_string:
            continue
        array = numpy_helper.to_array(tensor)
        recipe = _float_recipes().get(_key(array)) if array.size >= MIN_WEIGHT_ELEMENTS else None
        if recipe is not None:
            recipe.write(tensor)
        elif array.nbytes > MAX_KEPT_BYTES:
            raise ValueError(f"{tensor.name}, {array.dtype} {list(array.shape)}, is no weight that we know")


@functools.cache
def _float_recipes() -> dict[tuple[str, tuple[int, ...], bytes], Recipe]:
    """Recipes of all unquantised forms of all weights, by the bytes that they give."""
    recipes = {}
    for weights, dtype in itertools.product(_joined_weights(), ("float32", "float16", "bfloat16")):
        is_norm = weights[0].endswith("norm.weight")
        for changed in (False, True):
            recipe = Recipe(weights, dtype, plus_one=is_norm and changed, transposed=not is_norm and changed)
            recipes[_key(recipe.array())] = recipe
    return recipes


def _joined_weights() -> list[tuple[str, ...]]:
    """Each weight by itself, and those that exporters join."""
    joined: list[tuple[str, ...]] = [(name,) for name in tiny_model.weights()]
    for layer in range(tiny_model.CONFIG["num_hidden_layers"]):
        joined.append(tuple(f"model.layers.{layer}.self_attn.{kind}_proj.weight" for kind in "qkv"))
        joined.append(tuple(f"model.layers.{layer}.mlp.{kind}_proj.weight" for kind in ("gate", "up")))
    return joined


def _nearest(w_NK: np.ndarray) -> tuple[tuple[str, ...], float]:
    """The weights nearest to `w_NK`, and the largest difference in parts of the largest weight."""
    candidates = ((weights, Recipe(weights).source()) for weights in _joined_weights())
    errors = {
        weights: float(np.abs(w_NK - source).max() / np.abs(source).max())
        for weights, source in candidates
        if source.shape == w_NK.shape
    }
    return min(errors.items(), key=lambda item: item[1])


def _key(array: np.ndarray) -> tuple[str, tuple[int, ...], bytes]:
    return str(array.dtype), array.shape, array.tobytes()


def _changed(whole: onnx.ModelProto, filled: onnx.ModelProto) -> list[str]:
    """Names of tensors whose bytes are not the exporter's; only quantised ones may be."""
    pairs = zip(whole.graph.initializer, filled.graph.initializer, strict=True)
    return [a.name for a, b in pairs if a.SerializeToString() != b.SerializeToString()]


def main() -> None:
    for name in sys.argv[1:] or VARIANTS:
        make(name)


if __name__ == "__main__":
    main()
