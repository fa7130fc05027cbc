"""A model that somebody's exporter made, as input of `convert`: its graph, and what its folder says of its tokens.

What the graph computes is read off its fused form and not from a configuration: a graph that is wrong as Gemma3, with
other windows or RoPE bases, is converted as it is.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any, NamedTuple

import onnx_ir as ir

from .graph_passes import FusionError, fuse
from .graph_passes.opset import DOMAIN
from .sources import Gemma3TextConfig, SourceError, strict_json
from .sources.affine_codes import AffineCodes
from .sources.hf_config import read_config
from .sources.onnx_graph import check_graph, open_graph

__all__ = ["ExportedModel", "find_graph"]

_GENAI, _HF = "genai_config.json", "config.json"


class _Tokens(NamedTuple):
    bos_id: int
    eos_ids: tuple[int, ...]
    pad_id: int
    max_positions: int
    origin: Path


class ExportedModel:
    """A folder with an exported graph and a tokenizer.

    Attributes:
        path: the folder.
        graph_path: the .onnx file.
    """

    def __init__(self, path: Path) -> None:
        """Opens an .onnx file, or a folder whose genai_config.json names one, or that holds only one.

        Raises:
            SourceError: it is missing, damaged, reaches outside its folder, or nothing says which tokens end a text.
        """
        self.graph_path = find_graph(path)
        self.path = path if path.is_dir() else path.parent
        check_graph(self.graph_path)
        self._tokens = _tokens(self.path)

    def graph(self) -> ir.Model:
        """The graph as exported, a new copy; weights are read when they are asked for."""
        return open_graph(self.graph_path)

    @functools.cached_property
    def config(self) -> Gemma3TextConfig:
        """What the graph computes.  Raises `SourceError` where it does not fuse as Gemma3 must."""
        model = self.graph()
        caches = sum(value.shape is not None and len(value.shape) == 4 for value in model.graph.inputs)
        report = fuse(model)
        try:
            report.expect(max(1, caches // 2))
        except FusionError as error:
            found = " ".join(str(error).split())
            do = "`explain` says why for every node; use an exporter that docs/ names"
            raise SourceError("the graph does not fuse as Gemma3 must", self.graph_path, found, do) from error
        return _config(model.graph, self._tokens)

    def codes(self, name: str) -> AffineCodes | None:
        """None: codes of a quantised graph are kept by the passes themselves."""
        return None

    def type_name(self, name: str) -> str:
        """The type of a weight in the file."""
        value = self._weights.get(name) or self._weights.get(name.rpartition(".")[0])  # a part of a packed weight
        return str(value.dtype) if value is not None else "unknown"

    @functools.cached_property
    def _weights(self) -> dict[str, ir.Value]:
        return dict(self.graph().graph.initializers)


def find_graph(path: Path) -> Path:
    """The .onnx file at a path: itself, or the one in a folder that its genai_config.json names, or the only one.

    Raises:
        SourceError: there is none, or which one is meant is not said.
    """
    if not path.exists():
        raise SourceError("no such model", path, "nothing there", "give an .onnx file or an exported model's folder")
    return _graph_in(path) if path.is_dir() else path


def _graph_in(folder: Path) -> Path:
    if (folder / _GENAI).is_file():
        model = strict_json.load(folder / _GENAI).get("model")
        decoder = model.get("decoder") if isinstance(model, dict) else None
        name = decoder.get("filename") if isinstance(decoder, dict) else None
        if not isinstance(name, str) or Path(name).name != name or not (folder / name).is_file():
            where = f"{folder / _GENAI}: model.decoder.filename"
            raise SourceError("the configuration names no graph", where, repr(name)[:80], "give the .onnx file itself")
        return folder / name
    graphs = sorted(folder.glob("*.onnx"))
    if len(graphs) != 1:
        found = f"{len(graphs)} .onnx files and no {_GENAI}"
        raise SourceError("which graph is meant is not said", folder, found, "give the .onnx file itself")
    return graphs[0]


def _tokens(folder: Path) -> _Tokens:
    """The special tokens and the context length: genai's configuration, or else Hugging Face's."""
    path = folder / _GENAI
    if not path.is_file():
        if not (folder / _HF).is_file():
            do = f"put the original model's {_HF} and tokenizer.json beside the .onnx file"
            raise SourceError("nothing says which tokens end a text", folder, f"neither {_GENAI} nor {_HF}", do)
        config, _ = read_config(folder)
        ids = (config.bos_token_id, config.eos_token_ids, config.pad_token_id)
        return _Tokens(*ids, config.max_positions, folder / _HF)
    model = strict_json.load(path).get("model")
    if not isinstance(model, dict):
        raise SourceError("a bad configuration", path, "no model", "export the model again")
    eos = model.get("eos_token_id")
    eos_ids = eos if isinstance(eos, list) else [eos]
    bos, pad, length = (model.get(key) for key in ("bos_token_id", "pad_token_id", "context_length"))
    for key, value in (
        ("bos_token_id", bos),
        ("pad_token_id", pad),
        ("context_length", length),
        *(("eos_token_id", x) for x in eos_ids),
    ):
        if type(value) is not int:
            raise SourceError("a bad configuration", f"{path}: {key}", repr(value)[:80], "it must be an integer")
    return _Tokens(bos, tuple(eos_ids), pad, length, path)  # type: ignore[arg-type]


def _config(graph: ir.Graph, tokens: _Tokens) -> Gemma3TextConfig:
    ours = [node for node in graph if node.domain == DOMAIN]
    flows = [node for node in ours if node.op_type in ("FlowQKV", "FlowKV")]
    embed = next(node for node in ours if node.op_type == "EmbedNBits")
    gate = next(node for node in graph if node.op_type == "Gelu").inputs[0].producer()  # type: ignore[union-attr]
    full = [flow for flow in flows if _get(flow, "window") == 0]
    sliding = [flow for flow in flows if _get(flow, "window") > 0]
    far, near = (full or sliding)[0], (sliding or full)[0]
    past_k = flows[0].inputs[3]
    assert gate is not None and past_k is not None and past_k.shape is not None
    return Gemma3TextConfig(
        vocab_size=_get(embed, "N"),
        hidden_size=_get(embed, "K"),
        num_layers=len(flows),
        num_heads=_get(far, "num_heads"),
        num_kv_heads=_get(far, "kv_num_heads"),
        head_dim=past_k.shape[3],  # type: ignore[arg-type]
        intermediate_size=_get(gate, "N"),
        sliding_window=max(_get(flow, "window") for flow in flows) or tokens.max_positions,
        layer_types=tuple("sliding" if _get(flow, "window") else "full" for flow in flows),
        rope_theta_global=_get(far, "rope_theta"),
        rope_theta_local=_get(near, "rope_theta"),
        rope_factor_global=_get(far, "rope_factor"),
        query_scale=_get(far, "scale"),
        rms_eps=_get(far, "eps"),
        max_positions=tokens.max_positions,
        bos_token_id=tokens.bos_id,
        eos_token_ids=tokens.eos_ids,
        pad_token_id=tokens.pad_id,
        origin=str(tokens.origin),
    )


def _get(node: ir.Node, name: str) -> Any:
    return node.attributes[name].value
