"""Drives one session token by token: keeps the KV cache between calls and gives the logits of what comes next.

Two cache conventions, the ones of the model's inputs and outputs:

    shared    each layer has one fixed buffer, bound as past and as present; position p lives in row p mod rows. A
              sliding layer needs no more rows than its window. Nothing is copied or allocated per token.
    growing   past holds exactly the rows so far, each call returns a present that is longer by the new ones. Every
              graph takes this, also a plain export; it copies the cache at each call.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from .errors import Problem
from .ort_problem import ort_problem

if TYPE_CHECKING:
    import onnxruntime as ort

__all__ = ["PREFILL_CHUNK", "Decoder"]

PREFILL_CHUNK = 512  # tokens a call: a prompt can be interrupted between calls, and buffers stay small

_PAST = re.compile(r"past_key_values\.(\d+)\.(key|value)")
_DTYPES: dict[str, np.dtype] = {"tensor(float16)": np.dtype(np.float16), "tensor(float)": np.dtype(np.float32)}


@dataclass(frozen=True)
class _KvTensor:
    """One of the 2 x layers tensors of the cache, [1, heads, rows, head_dim]."""

    past: str
    present: str
    layer: int
    heads: int
    head_dim: int
    dtype: np.dtype

    def zeros(self, rows: int) -> ort.OrtValue:
        return _ort_value(np.zeros((1, self.heads, rows, self.head_dim), self.dtype))


class _Cache(Protocol):
    """The cache's side of the binding of inputs and outputs."""

    def advance(self) -> None:
        """Takes over what a run has written."""

    def clear(self) -> None:
        """Forgets all rows."""


class _SharedCache:
    def __init__(self, tensors: Sequence[_KvTensor], rows: Sequence[int], binding: ort.IOBinding) -> None:
        self._buffers = [tensor.zeros(rows[tensor.layer]) for tensor in tensors]  # a binding does not own its memory
        for tensor, buffer in zip(tensors, self._buffers, strict=True):
            binding.bind_ortvalue_input(tensor.past, buffer)
            binding.bind_ortvalue_output(tensor.present, buffer)

    def advance(self) -> None:
        pass

    def clear(self) -> None:
        pass  # rows at or beyond the length are never read


class _GrowingCache:
    def __init__(self, tensors: Sequence[_KvTensor], binding: ort.IOBinding) -> None:
        self._tensors = tensors
        self._binding = binding
        self.clear()

    def advance(self) -> None:
        self._bind(self._binding.get_outputs()[: len(self._tensors)])

    def clear(self) -> None:
        self._bind([tensor.zeros(0) for tensor in self._tensors])

    def _bind(self, pasts: Sequence[ort.OrtValue]) -> None:
        self._pasts = pasts  # a binding does not own its memory
        for tensor, past in zip(self._tensors, pasts, strict=True):
            self._binding.bind_ortvalue_input(tensor.past, past)
            self._binding.bind_output(tensor.present)  # a new buffer at each run


class Decoder:
    """One sequence: a prompt, then token after token. Not safe to use from two threads at once."""

    def __init__(self, session: ort.InferenceSession, context: int, windows: Sequence[int] | None) -> None:
        """Takes a session of a converted model.

        Args:
            session: any execution provider; inputs and outputs as `convert` writes them.
            context: the number of tokens that the cache can hold.
            windows: for each layer the attention window, 0 for global: the cache is shared. None: the cache grows.

        Raises:
            Problem: the session's inputs and outputs are not those of such a model, or context is not positive.
        """
        if context < 1:
            raise Problem("the cache cannot hold a token", "context", context, "give 1 or more")
        self.length = 0
        self.context = context
        self._session = session
        self._binding = session.io_binding()
        tensors = _kv_tensors(session)
        layers = 1 + max(tensor.layer for tensor in tensors)
        if windows is not None and len(windows) != layers:
            raise Problem("the windows do not fit the model", "number of layers", f"{len(windows)} for {layers}",
                          "take both from the same model folder")  # fmt: skip
        self._cache: _Cache
        if windows is None:
            self._cache = _GrowingCache(tensors, self._binding)
        else:
            self._cache = _SharedCache(tensors, [min(context, window or context) for window in windows], self._binding)
        self._all_logits, self.vocab_size, self._logits_dtype = _logits(session)
        self._ones_1L = np.ones((1, context), np.int64)

    def forward(self, ids: Sequence[int]) -> np.ndarray:
        """Runs the model on the next tokens, in one call.

        Args:
            ids: one or more token ids.

        Returns:
            logits [1, V] of the last token, or [S, V] of all when the model was converted with `--logits all`.

        Raises:
            Problem: the cache has no room for them, an id is not in the vocabulary, or the run failed; after a failed
                run the sequence is empty.
        """
        ids_1S = np.array([ids], np.int64)
        self._check(ids_1S)
        length = self.length + ids_1S.size
        logits_1SV = np.empty((1, ids_1S.size if self._all_logits else 1, self.vocab_size), self._logits_dtype)
        for name, value in (("input_ids", ids_1S), ("attention_mask", self._ones_1L[:, :length])):
            self._binding.bind_ortvalue_input(name, _ort_value(value))
        self._binding.bind_ortvalue_output("logits", _ort_value(logits_1SV))
        try:
            self._session.run_with_iobinding(self._binding)
            self._cache.advance()
        except Exception as error:
            tokens = f"tokens {self.length} to {length - 1}"
            self.reset()  # a run that stopped half-way may have overwritten rows
            raise ort_problem("onnxruntime could not run the model", tokens, error) from error
        self.length = length
        return logits_1SV[0, :]

    def prefill(self, ids: Sequence[int], chunk: int = PREFILL_CHUNK) -> np.ndarray:
        """Runs a prompt, `chunk` tokens a call; gives the logits [V] after its last token.

        Raises:
            Problem: as `forward`; what does not fit is refused before anything is run.
        """
        self._check(np.array([ids], np.int64))
        for start in range(0, len(ids), chunk):
            logits_SV = self.forward(ids[start : start + chunk])
        return logits_SV[-1, :]

    def step(self, token_id: int) -> np.ndarray:
        """Runs one token; gives the logits [V] after it. Raises as `forward`."""
        return self.forward([token_id])[-1, :]

    def reset(self) -> None:
        """Starts a new sequence in the same buffers."""
        self.length = 0
        self._cache.clear()

    def _check(self, ids_1S: np.ndarray) -> None:
        if ids_1S.size == 0:
            raise Problem("there is nothing to run", "token ids", "none", "give one or more")
        if self.length + ids_1S.size > self.context:
            raise Problem("the tokens do not fit the cache", f"context of {self.context} tokens",
                          f"{self.length} in the cache and {ids_1S.size} new ones",
                          "give a shorter prompt or a larger context")  # fmt: skip
        outside = ids_1S[(ids_1S < 0) | (ids_1S >= self.vocab_size)]
        if outside.size:
            raise Problem("this token id is not in the vocabulary", f"vocabulary of {self.vocab_size}", outside[0],
                          "use the tokenizer of this model folder")  # fmt: skip


def _ort_value(array: np.ndarray) -> ort.OrtValue:
    """A view of the array, which must live as long as it is bound."""
    from onnxruntime import OrtValue

    return OrtValue.ortvalue_from_numpy(array)


def _not_ours(where: str, found: object) -> Problem:
    return Problem("this model's inputs and outputs are not ours", where, found, "convert the model with `convert`")


def _kv_tensors(session: ort.InferenceSession) -> list[_KvTensor]:
    outputs = {output.name for output in session.get_outputs()}
    tensors = []
    for value in session.get_inputs():
        match = _PAST.fullmatch(value.name)
        if not match:
            continue
        present = f"present.{match[1]}.{match[2]}"
        if value.type not in _DTYPES:
            raise _not_ours(value.name, value.type)
        if len(value.shape) != 4 or not all(isinstance(value.shape[axis], int) for axis in (1, 3)):
            raise _not_ours(value.name, f"shape {value.shape}")
        if present not in outputs:
            raise _not_ours(present, "no such output")
        _, heads, _, head_dim = value.shape
        tensors.append(_KvTensor(value.name, present, int(match[1]), heads, head_dim, _DTYPES[value.type]))
    if not tensors:
        raise _not_ours("past_key_values", "no such input")
    return tensors


def _logits(session: ort.InferenceSession) -> tuple[bool, int, np.dtype]:
    """Whether all positions are given, the size of the vocabulary, and the type."""
    value = next((output for output in session.get_outputs() if output.name == "logits"), None)
    if value is None:
        raise _not_ours("logits", "no such output")
    if len(value.shape) != 3 or not isinstance(value.shape[2], int) or value.type not in _DTYPES:
        raise _not_ours("logits", f"{value.type} {value.shape}")
    return value.shape[1] != 1, value.shape[2], _DTYPES[value.type]
