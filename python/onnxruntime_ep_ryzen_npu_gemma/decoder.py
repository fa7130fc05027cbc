"""Drives one session token by token: keeps the KV cache between calls and gives the logits of what comes next."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from .errors import Problem
from .kv_cache import GrowingCache, KvCache, KvTensor, SharedCache, ort_value
from .ort_problem import ort_problem

if TYPE_CHECKING:
    import onnxruntime as ort

__all__ = ["PREFILL_CHUNK", "Decoder"]

PREFILL_CHUNK = 512  # tokens a call: a prompt can be interrupted between calls, and buffers stay small

_PAST = re.compile(r"past_key_values\.(\d+)\.(key|value)")
_DTYPES: dict[str, np.dtype] = {"tensor(float16)": np.dtype(np.float16), "tensor(float)": np.dtype(np.float32)}


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
        self._tensors = tensors
        self._cache: KvCache = (
            GrowingCache(tensors, self._binding)
            if windows is None
            else SharedCache(tensors, context, windows, self._binding)
        )
        self._all_logits, self.vocab_size, self._logits_dtype = _logits(session)
        self._ones_1L = np.ones((1, context), np.int64)
        self._bind_rows(1)

    def forward(self, ids: Sequence[int]) -> np.ndarray:
        """Runs the model on the next tokens, in one call.

        Args:
            ids: one or more token ids.

        Returns:
            logits [1, V] of the last token, or [S, V] of all when the model was converted with `--logits all`. The
            next call may overwrite them.

        Raises:
            Problem: the cache has no room for them, an id is not in the vocabulary, or the run failed; after a failed
                run the sequence is empty.
        """
        self._check(ids)
        if len(ids) != self._ids_1S.size:
            self._bind_rows(len(ids))
        self._ids_1S[0] = ids
        length = self.length + len(ids)
        self._binding.bind_cpu_input("attention_mask", self._ones_1L[:, :length])
        try:
            self._session.run_with_iobinding(self._binding)
            self._cache.advance()
        except Exception as error:
            tokens = f"tokens {self.length} to {length - 1}"
            self.reset()  # a run that stopped half-way may have overwritten rows
            raise ort_problem("onnxruntime could not run the model", tokens, error) from error
        self.length = length
        return self._logits_1SV[0, :]

    def prefill(self, ids: Sequence[int], chunk: int = PREFILL_CHUNK) -> np.ndarray:
        """Runs a prompt, `chunk` tokens a call; gives the logits [V] after its last token.

        Raises:
            Problem: as `forward`; what does not fit is refused before anything is run.
        """
        self._check(ids)
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

    def rewind(self, length: int) -> bool:
        """Forgets the tokens from position `length` on.

        Returns:
            Whether it could be done; if not, because a sliding layer no longer holds what position `length` attends to,
            nothing has changed.
        """
        if not 0 <= length <= self.length:
            raise Problem("there is no such position to go back to", "length", length, f"give 0 to {self.length}")
        if length == 0:
            self.reset()
        elif length < self.length:
            if not self._cache.can_rewind(self.length, length):
                return False
            self._cache.rewind(length)
            self.length = length
        return True

    def rows(self) -> dict[str, np.ndarray]:
        """A copy of the cache: by the names of the inputs, [1, heads, rows, head_dim], in the order of positions."""
        names = [tensor.past for tensor in self._tensors]
        return dict(zip(names, self._cache.read(self.length), strict=True))

    def load(self, length: int, rows: dict[str, np.ndarray]) -> None:
        """Takes over what `rows` gave of another decoder at `length` tokens, in place of the sequence so far.

        Raises:
            Problem: they do not fit this model or this cache; the sequence is as before.
        """
        if not 0 <= length <= self.context:
            raise Problem("the saved tokens do not fit the cache", f"context of {self.context} tokens", length,
                          "give a larger context")  # fmt: skip
        wanted = {
            tensor.past: ((1, tensor.heads, self._cache.rows_kept(tensor, length), tensor.head_dim), tensor.dtype)
            for tensor in self._tensors
        }
        found = {name: (array.shape, array.dtype) for name, array in rows.items()}
        if found != wanted:
            name = next(iter(wanted.keys() ^ found.keys()), None) or next(n for n in wanted if wanted[n] != found[n])
            raise Problem("the saved cache does not fit this model", name, f"{found.get(name)} for {wanted.get(name)}",
                          "load it with the model that saved it")  # fmt: skip
        self._cache.write(length, [rows[tensor.past] for tensor in self._tensors])
        self.length = length

    def _bind_rows(self, rows: int) -> None:
        """Binds buffers for calls of so many tokens; a token after a token finds them bound."""
        ids_1S = np.zeros((1, rows), np.int64)
        logits_1SV = np.empty((1, rows if self._all_logits else 1, self.vocab_size), self._logits_dtype)
        self._binding.bind_ortvalue_input("input_ids", ort_value(ids_1S))
        self._binding.bind_ortvalue_output("logits", ort_value(logits_1SV))
        self._ids_1S, self._logits_1SV = ids_1S, logits_1SV  # last: what is bound must live, whatever fails above

    def _check(self, ids: Sequence[int]) -> None:
        if len(ids) == 0:
            raise Problem("there is nothing to run", "token ids", "none", "give one or more")
        if self.length + len(ids) > self.context:
            raise Problem("the tokens do not fit the cache", f"context of {self.context} tokens",
                          f"{self.length} in the cache and {len(ids)} new ones",
                          "give a shorter prompt or a larger context")  # fmt: skip
        if min(ids) < 0 or max(ids) >= self.vocab_size:
            outside = next(token for token in ids if not 0 <= token < self.vocab_size)
            raise Problem("this token id is not in the vocabulary", f"vocabulary of {self.vocab_size}", outside,
                          "use the tokenizer of this model folder")  # fmt: skip


def _not_ours(where: str, found: object) -> Problem:
    return Problem("this model's inputs and outputs are not ours", where, found, "convert the model with `convert`")


def _kv_tensors(session: ort.InferenceSession) -> list[KvTensor]:
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
        tensors.append(KvTensor(value.name, present, int(match[1]), heads, head_dim, _DTYPES[value.type]))
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
