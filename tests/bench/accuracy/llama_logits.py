"""Runs MODEL.gguf in llama.cpp's environment: stdin has a count and ids, i32; stdout f32 logits of every position."""

from __future__ import annotations

import os
import sys

import llama_cpp
import numpy as np

_CHUNK = 128  # positions a call
_CONTEXT = 2048
_ERROR = 4  # GGML_LOG_LEVEL_ERROR


@llama_cpp.llama_log_callback
def print_errors(level: int, text: bytes, _: object) -> None:
    if level == _ERROR:
        sys.stderr.write(text.decode("utf-8", "replace"))


def main() -> None:
    path = sys.argv[1]
    llama_cpp.llama_log_set(print_errors, None)
    model = llama_cpp.llama_model_load_from_file(path.encode(), llama_cpp.llama_model_default_params())
    parameters = llama_cpp.llama_context_default_params()
    parameters.n_ctx, parameters.n_batch, parameters.n_ubatch = _CONTEXT, _CHUNK, _CHUNK
    parameters.n_threads = parameters.n_threads_batch = len(os.sched_getaffinity(0))
    context = llama_cpp.llama_init_from_model(model, parameters) if model else None
    if not context:
        raise SystemExit(f"llama.cpp cannot open {path}")
    vocabulary = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(model))
    batch = llama_cpp.llama_batch_init(_CHUNK, 0, 1)
    while header := sys.stdin.buffer.read(4):
        count = int.from_bytes(header, "little")
        ids = np.frombuffer(sys.stdin.buffer.read(4 * count), "<i4")
        llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(context), True)
        for start in range(0, count, _CHUNK):
            rows = min(_CHUNK, count - start)
            batch.n_tokens = rows
            for row in range(rows):
                batch.token[row] = int(ids[start + row])
                batch.pos[row] = start + row
                batch.n_seq_id[row], batch.seq_id[row][0], batch.logits[row] = 1, 0, 1
            if llama_cpp.llama_decode(context, batch):
                raise SystemExit(f"llama_decode failed at position {start}")
            logits = np.ctypeslib.as_array(llama_cpp.llama_get_logits(context), (rows, vocabulary))
            sys.stdout.buffer.write(logits.data)
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
