"""llama.cpp by its C API, as llama-bench calls it: no sampler, the likeliest token is found by numpy, as for ours."""

from __future__ import annotations

import argparse
import ctypes
import sys
from collections.abc import Sequence

import llama_cpp
import numpy as np
import protocol

_BATCH = 2048  # llama-bench's
_ERROR = 4


@llama_cpp.llama_log_callback
def _log(level: int, text: bytes, _: object) -> None:
    """Keeps the errors of what is a page of text for each model."""
    if level >= _ERROR:
        print(text.decode(errors="replace"), end="", file=sys.stderr)


class LlamaCpp:
    """See `protocol.Engine`."""

    def __init__(self, args: argparse.Namespace) -> None:
        llama_cpp.llama_log_set(_log, None)
        llama_cpp.llama_backend_init()
        self._model = llama_cpp.llama_model_load_from_file(args.model.encode(), llama_cpp.llama_model_default_params())
        assert self._model, f"llama.cpp cannot load {args.model}"
        parameters = llama_cpp.llama_context_default_params()
        parameters.n_ctx = args.context
        parameters.n_batch = _BATCH
        parameters.n_threads = parameters.n_threads_batch = args.threads
        parameters.swa_full = False  # sliding layers keep their window alone, which is faster and smaller
        self._context = llama_cpp.llama_init_from_model(self._model, parameters)
        assert self._context, "llama.cpp cannot make a context"
        vocabulary = llama_cpp.llama_model_get_vocab(self._model)
        self._vocab_size = llama_cpp.llama_vocab_n_tokens(vocabulary)
        self._next = 0

    def prefill(self, ids: Sequence[int]) -> None:
        llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(self._context), True)
        for start in range(0, len(ids), _BATCH):
            self._run(ids[start : start + _BATCH])

    def decode(self, tokens: int) -> None:
        for _ in range(tokens):
            self._run([self._next])

    def _run(self, ids: Sequence[int]) -> None:
        array = (llama_cpp.llama_token * len(ids))(*ids)
        failed = llama_cpp.llama_decode(self._context, llama_cpp.llama_batch_get_one(array, len(ids)))
        assert not failed, f"llama_decode: {failed}"
        logits = llama_cpp.llama_get_logits_ith(self._context, -1)
        address = ctypes.cast(logits, ctypes.POINTER(ctypes.c_float))
        self._next = int(np.argmax(np.ctypeslib.as_array(address, (self._vocab_size,))))


if __name__ == "__main__":
    system = llama_cpp.llama_print_system_info().decode()
    protocol.serve(LlamaCpp, f"llama-cpp-python {llama_cpp.__version__}: {system}", argparse.ArgumentParser())
