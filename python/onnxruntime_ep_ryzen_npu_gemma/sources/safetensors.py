"""A Gemma3 text model in a Hugging Face folder: config.json and safetensors, one file or shards with an index.

A multimodal Gemma3 folder works too: its text part is taken.  Nothing is executed: pickled weights are refused.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from . import strict_json
from .affine_codes import AffineCodes
from .hf_config import read_config
from .safetensors_header import DECODERS, StoredTensor, read_header
from .source import SourceError, check_tensors, tensor_shapes

__all__ = ["HfFolderSource"]

_SINGLE, _INDEX = "model.safetensors", "model.safetensors.index.json"

# Multimodal checkpoints nest the text model; the first form is the hub's, the second transformers'.
_TEXT_PREFIXES = {
    "language_model.model.": "model.",
    "language_model.lm_head.": "lm_head.",
    "model.language_model.": "model.",
}
_OTHER_PARTS = ("vision_tower.", "multi_modal_projector.", "model.vision_tower.", "model.multi_modal_projector.")


class HfFolderSource:
    """A `Source` over a Hugging Face model folder."""

    def __init__(self, folder: Path) -> None:
        """Reads and checks configuration and headers.  Raises `SourceError`."""
        self.path = folder
        self.config, tied_head = read_config(folder)
        self._tensors: dict[str, StoredTensor] = {}
        for name, tensor in _read_headers(folder).items():
            name = _canonical_name(name)
            if name.startswith(_OTHER_PARTS) or (tied_head and name == "lm_head.weight"):
                continue
            if name in self._tensors:
                raise SourceError("two tensors with one meaning", f"{folder}: {name}", tensor.span.name, "keep one")
            if tensor.dtype not in DECODERS:
                do = f"use a model in {', '.join(DECODERS)}"
                raise SourceError("unsupported dtype", f"{folder}: {name}", tensor.dtype, do)
            self._tensors[name] = tensor
        self._shapes = tensor_shapes(self.config, tied_head=tied_head)
        check_tensors(folder, self._shapes, {name: tensor.span.shape for name, tensor in self._tensors.items()})

    def names(self) -> tuple[str, ...]:
        """See `Source`."""
        return tuple(self._shapes)

    def shape(self, name: str) -> tuple[int, ...]:
        """See `Source`."""
        return self._shapes[name]

    def tensor(self, name: str) -> np.ndarray:
        """See `Source`.  Hugging Face stores RMSNorm weights as w; the 1 of 1 + w is added here and nowhere else."""
        values = self._tensors[name].read()
        return values + np.float32(1) if name.endswith("norm.weight") else values

    def type_name(self, name: str) -> str:
        """See `Source`."""
        return self._tensors[name].dtype

    def codes(self, name: str) -> AffineCodes | None:
        """See `Source`.  There are none."""
        return None


def _canonical_name(name: str) -> str:
    for prefix, replacement in _TEXT_PREFIXES.items():
        if name.startswith(prefix):
            return replacement + name.removeprefix(prefix)
    return name


def _read_headers(folder: Path) -> dict[str, StoredTensor]:
    if (folder / _SINGLE).exists():
        return read_header(folder / _SINGLE)
    if not (folder / _INDEX).exists():
        pickled = next(folder.glob("*.bin"), None)
        found = "pickled weights, which can run code" if pickled else "neither of them"
        raise SourceError(f"no {_SINGLE} or {_INDEX}", folder, found, "download the safetensors files of the model")
    weight_map = strict_json.load(folder / _INDEX).get("weight_map")
    if not isinstance(weight_map, dict) or not all(isinstance(shard, str) for shard in weight_map.values()):
        raise SourceError("a bad shard index", folder / _INDEX, "no weight_map of names", "get the file again")
    tensors: dict[str, StoredTensor] = {}
    for shard in sorted(set(weight_map.values())):
        if shard in ("", ".", "..") or any(c in shard for c in "/\\\0:"):
            raise SourceError("a shard outside of the folder", folder / _INDEX, repr(shard), "get the file again")
        for name, tensor in read_header(folder / shard).items():
            if weight_map.get(name) != shard:
                found = f"{shard}, but the index says {weight_map.get(name)}"
                raise SourceError("index and shard disagree", f"{folder}: {name}", found, "complete the model folder")
            tensors[name] = tensor
    return tensors
