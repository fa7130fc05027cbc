"""Runs a fused model by hand over onnxruntime, as a user's script would: numpy in, numpy out, either cache convention.

Also a program, `python cached_run.py MODEL.onnx LIBRARY.so IDS.json`, that prints greedy tokens as JSON: it needs
nothing but onnxruntime and numpy, so that it runs under the oldest onnxruntime we support.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence

import numpy as np
import onnxruntime as ort

_DTYPES = {"tensor(float16)": np.float16, "tensor(float)": np.float32}


def pasts(session: ort.InferenceSession, rows: int) -> dict[str, np.ndarray]:
    """Empty caches of `rows` rows by input name; rows that nobody has written hold a number that must not be read."""
    return {
        value.name: np.full((1, value.shape[1], rows, value.shape[3]), 99, _DTYPES[value.type])
        for value in session.get_inputs()
        if value.name.startswith("past_key_values.")
    }


def run(
    session: ort.InferenceSession, ids: Sequence[int], cache: dict[str, np.ndarray], past_len: int
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """One call: logits [rows, V] and the next call's cache."""
    feed = {"input_ids": np.array([ids], np.int64), "attention_mask": np.ones((1, past_len + len(ids)), np.int64)}
    names = [output.name for output in session.get_outputs()]
    results = dict(zip(names, session.run(names, feed | cache), strict=True))
    presents = {name: results[name.replace("past_key_values", "present")] for name in cache}
    return results["logits"][0], presents


def run_in_place(
    session: ort.InferenceSession, ids: Sequence[int], cache: dict[str, ort.OrtValue], past_len: int
) -> np.ndarray:
    """One call with every past bound as its own present: logits [rows, V]; the cache holds the new rows."""
    binding = session.io_binding()
    binding.bind_cpu_input("input_ids", np.array([ids], np.int64))
    binding.bind_cpu_input("attention_mask", np.ones((1, past_len + len(ids)), np.int64))
    for name, value in cache.items():
        binding.bind_ortvalue_input(name, value)
        binding.bind_ortvalue_output(name.replace("past_key_values", "present"), value)
    binding.bind_output("logits")
    session.run_with_iobinding(binding)
    return binding.get_outputs()[-1].numpy()[0]


def greedy(
    session: ort.InferenceSession, prompt: Sequence[int], count: int, *, chunk: int | None = None, rows: int = 0
) -> list[int]:
    """`count` greedy tokens after `prompt`, prefilled in chunks; rows: of a shared cache, 0 for a growing one."""
    cache, past_len, tokens = pasts(session, rows), 0, list(prompt)
    step = chunk or len(tokens)
    while len(tokens) < len(prompt) + count:
        todo = tokens[past_len:][:step]
        logits, cache = run(session, todo, cache, past_len)
        past_len += len(todo)
        if past_len == len(tokens):
            tokens.append(int(logits[-1].argmax()))
    return tokens[len(prompt) :]


if __name__ == "__main__":
    model, library, ids_file = sys.argv[1:]
    ort.register_execution_provider_library("RyzenNPUGemmaEP", library)
    with open(ids_file, encoding="utf-8") as file:
        prompts = json.load(file)
    made = ort.InferenceSession(model, providers=[("RyzenNPUGemmaEP", {"accuracy": "exact"})])
    answer = {"onnxruntime": ort.__version__, "providers": made.get_providers()}
    print(json.dumps(answer | {"tokens": [greedy(made, prompt, 16) for prompt in prompts]}))
