"""Runs an exported graph as its exporter's own runtime would: token ids in, logits out, whatever inputs it asks for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import onnx
import onnxruntime as ort

__all__ = ["logits", "session", "stream_logits"]

_DTYPES = {"tensor(float)": np.float32, "tensor(float16)": np.float16}
_SLIDING_LENGTH = "past_sliding_length"  # genai's builder names a cache of one window so, whose rows must be there


def session(model: onnx.ModelProto) -> ort.InferenceSession:
    """On onnxruntime's CPU EP."""
    return ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])


def logits(
    session: ort.InferenceSession, ids: np.ndarray, chunks: Sequence[int], *, head_dim: int, window: int
) -> np.ndarray:
    """Those of `stream_logits`, joined."""
    return np.concatenate(list(stream_logits(session, ids, chunks, head_dim=head_dim, window=window)))


def stream_logits(
    session: ort.InferenceSession, ids: np.ndarray, chunks: Sequence[int], *, head_dim: int, window: int
) -> Iterator[np.ndarray]:
    """Feeds `ids` in chunks through the graph's cache, batch 1.

    Args:
        session: of a graph with input_ids, attention_mask, past_key_values.*, and perhaps position_ids.
        ids: tokens, i64 [L].
        chunks: tokens of each call; their sum is L.
        head_dim: of the caches, whose last dimension may be a name.
        window: rows of the caches that must not be empty at the start.

    Yields:
        float32 [rows, V]: every position of a call, or its last where the graph gives only that.
    """
    inputs = {value.name: value for value in session.get_inputs()}
    names = [output.name for output in session.get_outputs()]
    cache = {
        name: np.zeros((1, value.shape[1], _rows(value, window), head_dim), _DTYPES[value.type])
        for name, value in inputs.items()
        if name.startswith("past_key_values.")
    }
    past_len = 0
    for count in chunks:
        total = past_len + count
        feed = {"input_ids": ids[None, past_len:total], "attention_mask": np.ones((1, total), np.int64)}
        if "position_ids" in inputs:
            feed["position_ids"] = np.arange(past_len, total)[None]
        results = dict(zip(names, session.run(names, feed | cache), strict=True))
        cache = {name: results[name.replace("past_key_values", "present")] for name in cache}
        yield results["logits"][0].astype(np.float32, copy=False)
        past_len = total


def _rows(past: ort.NodeArg, window: int) -> int:
    return window if past.shape[2] == _SLIDING_LENGTH else 0
