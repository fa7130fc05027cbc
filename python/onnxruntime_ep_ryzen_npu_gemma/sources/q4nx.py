"""A Gemma3 text model in a FastFlowLM folder: config.json and model.q4nx, a safetensors file of Q4NX blocks.

Matrices are I8 [n_blocks, 5120 | 8704] (graph_passes/q4nx.py has the layout), norms BF16 and already 1 + w. The tied
head is there twice: as blocks in `lm_head.weight`, and in `model.embed_tokens.weight` as BF16 times sqrt(hidden).

Files with other meanings of the same bytes exist under the same name. What settles it is the tied head: decoded as we
read it, its rows must be those of the embedding. A file that agrees under another reading is refused by that name.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np

from onnxruntime_ep_ryzen_npu_gemma.graph_passes import q4nx

from .affine_codes import AffineCodes
from .hf_config import read_config
from .safetensors_header import DECODERS, StoredTensor, read_header
from .source import SourceError, check_tensors, tensor_shapes
from .tensor_span import TensorSpan

__all__ = ["Q4NX_FILE", "Q4nxFolderSource"]

Q4NX_FILE = "model.q4nx"
_EMBEDDING, _HEAD = "model.embed_tokens.weight", "lm_head.weight"
_SAMPLED_ROW_BLOCKS = 16
_LEAST_COSINE = 0.9  # of head and embedding; on 270M a right reading gives 0.997 or 0.993, a wrong one 0.79 or less
_DO = "make the file again from the original model with `convert --format q4nx`"


class Q4nxFolderSource:
    """A `Source` over a folder with model.q4nx; the embedding is what the head's blocks hold."""

    def __init__(self, folder: Path) -> None:
        """Reads and checks configuration and header, and how the blocks are meant.  Raises `SourceError`."""
        self.path = folder
        self.config, tied_head = read_config(folder)
        if not tied_head:
            raise SourceError("an untied head", folder / "config.json", "tie_word_embeddings false", _DO)
        tensors = read_header(folder / Q4NX_FILE)
        self._shapes = tensor_shapes(self.config)
        matrices = {name for name, shape in self._shapes.items() if len(shape) == 2}
        names = (*self._shapes, _HEAD)  # shapes follow: most are those of blocks
        check_tensors(folder / Q4NX_FILE, dict.fromkeys(names, ()), dict.fromkeys(tensors, ()))
        for name, shape in self._shapes.items():
            if name == _EMBEDDING or name not in matrices:
                self._require_bf16(name, tensors[name], shape)
        blocks = {name: tensors[_HEAD if name == _EMBEDDING else name] for name in matrices}
        self._blocks = {name: self._checked_blocks(tensor, self._shapes[name]) for name, tensor in blocks.items()}
        self._norms = {name: tensors[name] for name in self._shapes if name not in matrices}
        self._check_reading(tensors[_EMBEDDING].span)

    def names(self) -> tuple[str, ...]:
        """See `Source`."""
        return tuple(self._shapes)

    def shape(self, name: str) -> tuple[int, ...]:
        """See `Source`."""
        return self._shapes[name]

    def tensor(self, name: str) -> np.ndarray:
        """See `Source`."""
        if name in self._norms:
            return self._norms[name].read()
        span = self._blocks[name]
        values = q4nx.dequantize(span.read_bytes(), *self._shapes[name])
        span.check_finite(values)
        return values

    def type_name(self, name: str) -> str:
        """See `Source`."""
        return "BF16" if name in self._norms else "Q4NX" if self._is_4bit(name) else "Q8NX"

    def codes(self, name: str) -> AffineCodes | None:
        """See `Source`."""
        if name in self._norms or not self._is_4bit(name):
            return None
        span = self._blocks[name]
        scale_NG, min_NG, q_NK = q4nx.unpack(span.read_bytes(), *self._shapes[name])
        assert min_NG is not None  # 4 bits
        codes = AffineCodes(q4nx.from_bfloat16(scale_NG), q4nx.from_bfloat16(min_NG), q_NK)
        span.check_finite(codes.scale_NG)
        span.check_finite(codes.min_NG)
        return codes

    def _is_4bit(self, name: str) -> bool:
        return self._blocks[name].shape[1] == q4nx.BLOCK_BYTES[4]

    def _require_bf16(self, name: str, tensor: StoredTensor, shape: tuple[int, ...]) -> None:
        if tensor.dtype != "BF16" or tensor.span.shape != shape:
            found = f"{tensor.dtype} {list(tensor.span.shape)} instead of BF16 {list(shape)}"
            raise SourceError("a tensor does not match the configuration", f"{self.path}: {name}", found, _DO)

    def _checked_blocks(self, tensor: StoredTensor, shape: tuple[int, ...]) -> TensorSpan:
        span = tensor.span
        N, K = shape
        count = q4nx.block_count(N, K)
        if tensor.dtype != "I8":
            found = f"dtype {tensor.dtype[:20]}; blocks are I8 (Q4NX is the older, subtractive form)"
            raise SourceError("not the blocks that are known", f"{span.file}: {span.name}", found, _DO)
        widths = tuple(q4nx.BLOCK_BYTES.values())
        if span.shape not in [(count, width) for width in widths] or span.nbytes != math.prod(span.shape):
            found = f"{list(span.shape)} in {span.nbytes} bytes, where [{N}, {K}] has {count} blocks of {widths} bytes"
            raise SourceError("blocks do not match the configuration", f"{span.file}: {span.name}", found, _DO)
        return span

    def _check_reading(self, embedding: TensorSpan) -> None:
        """Raises `SourceError` unless sampled rows of the head, decoded as Q4NX, are those of the embedding."""
        V, H = self._shapes[_EMBEDDING]
        total = -(-V // q4nx.BLOCK_ROWS)
        wanted, stored = [], []
        for i in np.unique(np.linspace(0, total - 1, _SAMPLED_ROW_BLOCKS).astype(int)):
            first, last = int(i) * q4nx.BLOCK_ROWS, min((int(i) + 1) * q4nx.BLOCK_ROWS, V)
            wanted.append(_rows(embedding, first, last, V).read(DECODERS["BF16"][1]))
            stored.append(_rows(self._blocks[_EMBEDDING], int(i), int(i) + 1, total).read_bytes())
        w_NK = np.concatenate(wanted)
        cosines = {}
        for reading, decode in _READINGS.items():
            parts = [decode(blocks, len(part), H) for blocks, part in zip(stored, wanted, strict=True)]
            cosines[reading] = _cosine(np.concatenate(parts), w_NK)
            if reading == _OURS and not self._is_4bit(_EMBEDDING):
                break
        best = max(cosines, key=lambda reading: cosines[reading])
        if best != _OURS or cosines[_OURS] < _LEAST_COSINE:
            named = f"; they agree as {best} blocks ({cosines[best]:.3f})" if cosines[best] >= _LEAST_COSINE else ""
            found = f"a cosine of {cosines[_OURS]:.3f} to the embedding{named}"
            raise SourceError("the blocks do not mean what Q4NX means", f"{self.path}: {_HEAD}", found, _DO)


def _rows(span: TensorSpan, first: int, last: int, parts: int) -> TensorSpan:
    """Parts first..last of a tensor that has `parts` equal ones along its first axis, or along its rows of blocks."""
    step = span.nbytes // parts
    shape = (span.shape[0] // parts * (last - first), *span.shape[1:])
    return dataclasses.replace(span, offset=span.offset + first * step, nbytes=(last - first) * step, shape=shape)


def _cosine(a: np.ndarray, b: np.ndarray) -> float:
    with np.errstate(all="ignore"):  # a wrong reading can be anything
        return float(np.nan_to_num(np.vdot(a, b) / np.sqrt(np.vdot(a, a) * np.vdot(b, b)), nan=-1, posinf=-1))


def _signed(blocks: np.ndarray, N: int, K: int) -> np.ndarray:
    """Weights as scale * (two's complement of the nibble)."""
    scale_NG, _, q_NK = q4nx.unpack(blocks, N, K)
    signed_NK = (q_NK.astype(np.int8) ^ 8) - 8
    return np.repeat(q4nx.from_bfloat16(scale_NG), q4nx.GROUP_SIZE, axis=1) * signed_NK


def _subtractive(blocks: np.ndarray, N: int, K: int) -> np.ndarray:
    """Weights as scale * (q - zero)."""
    scale_NG, zero_NG, q_NK = q4nx.unpack(blocks, N, K)
    assert zero_NG is not None  # 4 bits
    scale, zero = (np.repeat(q4nx.from_bfloat16(x), q4nx.GROUP_SIZE, axis=1) for x in (scale_NG, zero_NG))
    return scale * (q_NK - zero)


def _row_major(blocks: np.ndarray, N: int, K: int) -> np.ndarray:
    """Scales at index row * 8 + group, nibbles signed."""
    moved = blocks.copy()
    scales = moved[:, : q4nx.MIN_OFFSET].view(np.uint16).reshape(-1, q4nx.BLOCK_ROWS, q4nx.GROUPS_PER_BLOCK)
    moved[:, : q4nx.MIN_OFFSET] = np.ascontiguousarray(scales.transpose(0, 2, 1)).view(np.uint8).reshape(len(moved), -1)
    return _signed(moved, N, K)


_OURS = "Q4NX"
_READINGS: dict[str, Callable[[np.ndarray, int, int], np.ndarray]] = {
    _OURS: q4nx.dequantize,
    "signed": _signed,
    "subtractive": _subtractive,
    "signed row-major": _row_major,
}
