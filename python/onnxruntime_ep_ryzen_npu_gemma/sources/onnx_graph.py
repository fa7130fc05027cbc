"""Opens an ONNX file that somebody else's exporter made: nothing outside its folder is read, and nothing is run.

External data is where a hostile file would reach out, so each tensor's file is checked before onnx_ir maps it: a plain
file inside the folder of the model, by a relative path without "..", no symbolic link on the way, and long enough.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import onnx
import onnx_ir as ir

from .source import SourceError

__all__ = ["check_graph", "open_graph"]

_MAX_GRAPH_BYTES = 2**31 - 1  # protobuf's own limit
_ORT_NORMS = ("SimplifiedLayerNormalization",)  # onnxruntime's, which genai's builder puts into ONNX's domain


def check_graph(path: Path) -> None:
    """Checks the file by ONNX's own checker, and its external data.

    Raises:
        SourceError: it is no valid ONNX model, or its data is not where it may be.
    """
    if (size := path.stat().st_size) > _MAX_GRAPH_BYTES:
        raise SourceError("the graph is too large", path, f"{size} bytes", "export it with external data")
    try:
        model = onnx.load(path, load_external_data=False)
    except Exception as error:  # protobuf raises kinds of its own
        raise SourceError("this is not an ONNX model", path, _first_line(error), "export it again") from error
    for tensor in _external(model):
        _check_data(path, tensor)
    _drop_weights(model.graph)
    for node in model.graph.node:
        if node.op_type in _ORT_NORMS and not node.domain:
            node.domain = "com.microsoft"
    try:
        onnx.checker.check_model(model)
    except onnx.checker.ValidationError as error:
        raise SourceError("the graph is not valid ONNX", path, _first_line(error), "export it again") from error


def open_graph(path: Path) -> ir.Model:
    """The graph of a checked file; weights are read when they are asked for."""
    return ir.load(path)


def _external(model: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """Every tensor whose bytes are in another file: initializers and attributes, of functions and subgraphs too."""
    graphs = [model.graph]
    nodes = [node for function in model.functions for node in function.node]
    while graphs or nodes:
        if graphs:
            graph = graphs.pop()
            yield from (tensor for tensor in graph.initializer if tensor.data_location == onnx.TensorProto.EXTERNAL)
            if graph.sparse_initializer:
                yield from _sparse(graph)
            nodes += graph.node
            continue
        for attribute in nodes.pop().attribute:
            tensors = [*([attribute.t] if attribute.HasField("t") else []), *attribute.tensors]
            yield from (tensor for tensor in tensors if tensor.data_location == onnx.TensorProto.EXTERNAL)
            graphs += [*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs]


def _sparse(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    for sparse in graph.sparse_initializer:
        for tensor in (sparse.values, sparse.indices):
            if tensor.data_location == onnx.TensorProto.EXTERNAL:
                yield tensor


def _check_data(path: Path, tensor: onnx.TensorProto) -> None:
    facts = {entry.key: entry.value for entry in tensor.external_data}
    where = f"{path}: {tensor.name}"
    location = facts.get("location", "")
    parts = PurePosixPath(location).parts
    if not parts or "\\" in location or "\0" in location or PurePosixPath(location).is_absolute() or ".." in parts:
        do = "external data must be beside the model, by a relative path"
        raise SourceError("external data outside the model's folder", where, location, do)
    target = path.parent
    for part in parts:
        target /= part
        if target.is_symlink():
            do = "copy the model's files into one folder, without symbolic links"
            raise SourceError("external data behind a symbolic link", where, location, do)
    if not target.is_file():
        raise SourceError("a file of external data is missing", where, location, "get the whole model")
    offset, length = (_integer(where, key, facts.get(key, "0")) for key in ("offset", "length"))
    if offset + length > (size := target.stat().st_size):
        found = f"bytes {offset} to {offset + length} of {size}"
        raise SourceError("external data is cut short", where, found, "get the file again")


def _integer(where: str, key: str, text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 20):
        raise SourceError(f"a bad {key} of external data", where, text[:80], "export the model again")
    return int(text)


def _drop_weights(graph: onnx.GraphProto) -> None:
    """Makes initializers with external data inputs: the checker looks for such files from where it runs."""
    known = {value.name for value in graph.input}
    for tensor in graph.initializer:
        if tensor.data_location == onnx.TensorProto.EXTERNAL and tensor.name not in known:
            graph.input.append(onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims)))
    kept = [tensor for tensor in graph.initializer if tensor.data_location != onnx.TensorProto.EXTERNAL]
    del graph.initializer[:]
    graph.initializer.extend(kept)


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]
