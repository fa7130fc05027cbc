"""What stands in a fixture in place of a weight: which seeded weights it is made of, and how.

A recipe is kept as JSON in the tensor's doc_string; the tensor keeps its name, type and dimensions, and no data.
"""

from __future__ import annotations

import dataclasses
import functools
import json

import ml_dtypes
import numpy as np
import onnx

from . import rtn, tiny_model

__all__ = ["Recipe"]

_NUMPY_DTYPES: dict[str, np.dtype] = {
    "float32": np.dtype(np.float32),
    "float16": np.dtype(np.float16),
    "bfloat16": np.dtype(ml_dtypes.bfloat16),
}


@dataclasses.dataclass(frozen=True)
class Recipe:
    """One initializer, made of weights of the tiny model.

    Attributes:
        weights: their names; several are joined along the first axis.
        dtype: the type that they are rounded to.
        plus_one: 1 is added before they are rounded.
        transposed: [N, K] becomes [K, N].
        part: "" for the weights themselves, else a part of them quantised: "codes", "scales" or "zero_points".
        bits: of a code.
        block_size: weights to a scale.
        zero_points: the quantiser chooses zeros.
    """

    weights: tuple[str, ...]
    dtype: str = "float32"
    plus_one: bool = False
    transposed: bool = False
    part: str = ""
    bits: int = 0
    block_size: int = 0
    zero_points: bool = False

    def write(self, tensor: onnx.TensorProto) -> None:
        """Replaces the tensor's data by the recipe."""
        fields = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        unusual = {key: value for key, value in fields.items() if value or key == "weights"}
        kept = onnx.TensorProto(name=tensor.name, data_type=tensor.data_type, dims=tensor.dims)
        kept.doc_string = json.dumps(unusual)
        tensor.CopyFrom(kept)

    @staticmethod
    def read(tensor: onnx.TensorProto) -> Recipe | None:
        """The recipe that `write` left; None in a tensor that has its data."""
        if not tensor.doc_string:
            return None
        fields = json.loads(tensor.doc_string)
        return Recipe(**fields | {"weights": tuple(fields["weights"])})

    def source(self) -> np.ndarray:
        """The weights joined and rounded, [N, K] or [N]."""
        w = np.concatenate([tiny_model.weights()[name] for name in self.weights])
        return (w + np.float32(self.plus_one)).astype(_NUMPY_DTYPES[self.dtype])

    def array(self) -> np.ndarray:
        """The initializer's values; its dimensions are the tensor's."""
        if not self.part:
            source = self.source()
            return np.ascontiguousarray(source.T) if self.transposed else source
        return dict(zip(("codes", "scales", "zero_points"), self._quantized(), strict=True))[self.part]

    def dequantized(self) -> np.ndarray:
        """The float32 weights, [N, K] or [N], that the initializers of this recipe stand for; 1 + w stays so."""
        if not self.part:
            return self.source().astype(np.float32)
        codes, scales, zeros = self._quantized()
        return rtn.dequantize(codes, scales, zeros if self.zero_points else None, self._format())

    def _format(self) -> rtn.Format:
        return rtn.Format(self.bits, self.block_size, self.zero_points)

    def _quantized(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        return _quantize(self.weights, self.dtype, self._format())


@functools.lru_cache(maxsize=512)
def _quantize(weights: tuple[str, ...], dtype: str, how: rtn.Format) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return rtn.quantize(Recipe(weights, dtype).source(), how, _NUMPY_DTYPES[dtype])
