"""Opens a folder that `convert` wrote: checks that it is one, and reads what running the model takes.

Weights are not touched; onnxruntime maps them when a session is made.
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import onnx  # not onnx_ir: a process that only runs a model would have 36 MiB more

from .errors import Problem
from .graph_passes.names import DOMAIN, FORMAT_KEY, FORMAT_VERSION
from .sources import strict_json

if TYPE_CHECKING:
    from tokenizers import Tokenizer

__all__ = ["ModelFolder", "open_model_folder"]

_CONVERT = "make the folder with `ryzen-npu-gemma convert SRC OUT`"
_FLOATS = {onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16, onnx.TensorProto.DOUBLE}
_MAX_GRAPH_BYTES = 2**31 - 1  # protobuf's own limit


@dataclass(frozen=True)
class ModelFolder:
    """A converted model on disk.

    Attributes:
        path: the folder.
        context_length: the number of positions that the model was trained for.
        bos_id: the token that starts every sequence.
        eos_ids: the tokens that end one.
        windows: for each layer its attention window, 0 for global; None when some layer's attention is not ours, so
            that the cache must grow.
        parameters: how many weights the model has, whatever their bits.
    """

    path: Path
    context_length: int
    bos_id: int
    eos_ids: frozenset[int]
    windows: tuple[int, ...] | None
    parameters: int

    @property
    def model_path(self) -> Path:
        """The graph."""
        return self.path / "model.onnx"

    def tokenizer(self) -> Tokenizer:
        """Reads tokenizer.json.

        Raises:
            Problem: it is not a tokenizer.
        """
        from tokenizers import Tokenizer

        path = self.path / "tokenizer.json"
        try:
            return Tokenizer.from_file(os.fspath(path))
        except Exception as error:  # the library raises bare Exception
            raise Problem("the tokenizer cannot be read", path, _first_line(error), _CONVERT) from error


def open_model_folder(path: str | os.PathLike[str]) -> ModelFolder:
    """Opens a converted model.

    Raises:
        Problem: the folder or one of its files is missing, is not ours, or is of a newer format.
    """
    folder = Path(path)
    if not folder.is_dir():
        found = "a file" if folder.exists() else "nothing there"
        raise Problem("this is not a model folder", folder, found, _CONVERT)
    for name in ("model.onnx", "genai_config.json", "tokenizer.json"):
        if not (folder / name).is_file():
            raise Problem("this is not a converted model", folder, f"no {name}", _CONVERT)
    graph = _read_graph(folder / "model.onnx")
    config_path = folder / "genai_config.json"
    config = strict_json.load(config_path).get("model")
    if not isinstance(config, dict):
        raise _bad_key(config_path, "model", config)
    eos = config.get("eos_token_id")
    eos_ids = eos if isinstance(eos, list) and eos else [eos]
    return ModelFolder(
        path=folder,
        context_length=_integer(config_path, "context_length", config.get("context_length"), least=1),
        bos_id=_integer(config_path, "bos_token_id", config.get("bos_token_id")),
        eos_ids=frozenset(_integer(config_path, "eos_token_id", value) for value in eos_ids),
        windows=_windows(graph, folder / "model.onnx"),
        parameters=_parameters(graph),
    )


def _read_graph(path: Path) -> onnx.GraphProto:
    if (size := path.stat().st_size) > _MAX_GRAPH_BYTES:
        raise Problem("the graph is too large", path, f"{size} bytes", _CONVERT)
    try:
        model = onnx.load_model(path, load_external_data=False)
        version = {entry.key: entry.value for entry in model.metadata_props}.get(FORMAT_KEY)
    except Exception as error:  # protobuf raises many kinds for damaged files
        raise Problem("this is not an ONNX model", path, _first_line(error), _CONVERT) from error
    if version is None:
        raise Problem("this ONNX model was not made by `convert`", path, f"no {FORMAT_KEY} in its metadata", _CONVERT)
    if version != FORMAT_VERSION:
        raise Problem(
            "this model's format is not the one that this version reads",
            f"{path}: {FORMAT_KEY}",
            f"{version!r} for {FORMAT_VERSION!r}",
            "convert the model again, or install the version that made it",
        )
    return model.graph


def _windows(graph: onnx.GraphProto, path: Path) -> tuple[int, ...] | None:
    layer_of = {f"past_key_values.{layer}.key": layer for layer in range(len(graph.input))}
    layers = sum(value.name in layer_of for value in graph.input)
    windows: dict[int, int] = {}
    for node in graph.node:
        if node.domain == DOMAIN and node.op_type in ("FlowQKV", "FlowKV"):
            windows |= {layer_of[name]: _window(node, path) for name in node.input if name in layer_of}
    return tuple(windows[layer] for layer in range(layers)) if sorted(windows) == list(range(layers)) else None


def _parameters(graph: onnx.GraphProto) -> int:
    counts = {tensor.name: math.prod(tensor.dims) for tensor in graph.initializer if tensor.data_type in _FLOATS}
    for node in graph.node:
        integers = _integers(node)
        N, K = integers.get("N"), integers.get("K")
        if node.domain == DOMAIN and N is not None and K is not None and len(node.input) > 1:
            counts[node.input[1]] = N * K  # packed: the bytes are no count
    return sum(counts.values())


def _integers(node: onnx.NodeProto) -> dict[str, int | None]:
    """Its attributes; None for one of another type."""
    return {a.name: a.i if a.type == onnx.AttributeProto.INT else None for a in node.attribute}


def _window(node: onnx.NodeProto, path: Path) -> int:
    window = _integers(node).get("window", 0)
    if window is None or window < 0:
        raise Problem("the attention window is not a number of positions", f"{path}: {node.name}", window, _CONVERT)
    return window


def _integer(path: Path, key: str, found: Any, least: int = 0) -> int:
    if type(found) is not int or found < least:
        raise _bad_key(path, key, found)
    return found


def _bad_key(path: Path, key: str, found: object) -> Problem:
    return Problem("the model's configuration cannot be used", f"{path}: {key}", repr(found)[:80], _CONVERT)


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
