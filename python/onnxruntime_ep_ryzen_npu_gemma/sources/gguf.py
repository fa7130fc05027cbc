"""A Gemma3 text model in a GGUF file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from gguf.constants import GGMLQuantizationType
from gguf.quants import dequantize

from . import affine_codes
from .affine_codes import AffineCodes
from .gguf_header import read_header
from .gguf_metadata import Metadata, read_config, read_vocabulary
from .source import SourceError, check_tensors, tensor_shapes

__all__ = ["GgufSource"]

_TYPES = frozenset(
    GGMLQuantizationType[name]
    for name in ("F32", "F16", "BF16", "Q4_0", "Q4_1", "Q4_K", "Q5_0", "Q5_K", "Q6_K", "Q8_0")
)
_TENSORS = {
    "token_embd.weight": "model.embed_tokens.weight",
    "output_norm.weight": "model.norm.weight",
    "output.weight": "lm_head.weight",
}
_LAYER_TENSORS = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm",
    "attn_output": "self_attn.o_proj",
    "post_attention_norm": "post_attention_layernorm",
    "ffn_norm": "pre_feedforward_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
    "post_ffw_norm": "post_feedforward_layernorm",
}


class GgufSource:
    """A `Source` over one GGUF file of architecture gemma3."""

    def __init__(self, path: Path) -> None:
        """Reads and checks the header.  Raises `SourceError`."""
        self.path = path
        header = read_header(path)
        metadata = Metadata(path, header.metadata)
        if metadata.get("general.architecture", str) != "gemma3":
            do = "give a Gemma3 text model (a vision projector, mmproj, is not one)"
            raise metadata.refuse("not a Gemma3 model", "general.architecture", do)
        if metadata.get("split.count", int, 1) > 1:
            do = "join the parts with llama-gguf-split --merge"
            raise metadata.refuse("a part of a split GGUF file", "split.count", do)
        self.vocabulary = read_vocabulary(metadata)
        self.config = read_config(metadata, self.vocabulary)
        self._tensors = {_canonical_name(name): tensor for name, tensor in header.tensors.items()}
        self._shapes = tensor_shapes(self.config, tied_head="lm_head.weight" not in self._tensors)
        check_tensors(path, self._shapes, {name: tensor.span.shape for name, tensor in self._tensors.items()})
        for tensor in self._tensors.values():
            if tensor.type not in _TYPES:
                do = f"use a file with {', '.join(sorted(t.name for t in _TYPES))}"
                raise SourceError("unsupported tensor type", f"{path}: {tensor.span.name}", tensor.type.name, do)

    def names(self) -> tuple[str, ...]:
        """See `Source`."""
        return tuple(self._shapes)

    def shape(self, name: str) -> tuple[int, ...]:
        """See `Source`."""
        return self._shapes[name]

    def tensor(self, name: str) -> np.ndarray:
        """See `Source`."""
        tensor = self._tensors[name]
        return tensor.span.read(lambda rows: dequantize(rows, tensor.type))

    def type_name(self, name: str) -> str:
        """See `Source`."""
        return self._tensors[name].type.name

    def codes(self, name: str) -> AffineCodes | None:
        """See `Source`."""
        tensor = self._tensors[name]
        decode = affine_codes.DECODERS.get(tensor.type)
        if decode is None or len(tensor.span.shape) != 2:
            return None
        codes = decode(tensor.span.read_bytes())
        tensor.span.check_finite(codes.scale_NG)
        tensor.span.check_finite(codes.min_NG)
        return codes


def _canonical_name(name: str) -> str:
    """Maps blk.N.attn_q.weight to model.layers.N.self_attn.q_proj.weight; unknown names stay as they are."""
    match name.split("."):
        case ["blk", layer, kind, "weight"] if kind in _LAYER_TENSORS:
            return f"model.layers.{layer}.{_LAYER_TENSORS[kind]}.weight"
    return _TENSORS.get(name, name)
