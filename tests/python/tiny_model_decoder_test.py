"""The decoder on the converted tiny model: each cache, each way of cutting the tokens, each provider, one result.

The tokens are several times the window of the sliding layers, so that their rings turn over.
"""

from __future__ import annotations

import numpy as np
import onnxruntime as ort
import pytest

from onnxruntime_ep_ryzen_npu_gemma.decoder import Decoder
from onnxruntime_ep_ryzen_npu_gemma.model_folder import open_model_folder
from onnxruntime_ep_ryzen_npu_gemma.session import open_session

WINDOW = 16
PROMPT, REST = np.split(np.random.default_rng(0).integers(6, 500, 4 * WINDOW + 3), [3 * WINDOW + 5])

# Measured: at most 0.0014, from keys and values that round to another float16; one wrong token moves logits by 0.4.
TOLERANCE = 0.01


@pytest.fixture(scope="module", params=["cpu", "ours"])
def session(request, tiny_model_folder):
    model = tiny_model_folder / "model.onnx"
    if request.param == "cpu":
        return ort.InferenceSession(str(model), providers=["CPUExecutionProvider"])
    request.getfixturevalue("ep_library")
    return open_session(model, device="host", accuracy="exact")[0]


@pytest.fixture(scope="module")
def windows(tiny_model_folder):
    windows = open_model_folder(tiny_model_folder).windows
    assert windows == (WINDOW,) * 5 + (0,) + (WINDOW,) * 2
    return windows


def run(decoder: Decoder, chunk: int) -> np.ndarray:
    """Logits [1 + rest, V] after the prompt and after each further token."""
    return np.array([decoder.prefill(PROMPT, chunk).copy(), *(decoder.step(token).copy() for token in REST)])


@pytest.fixture(scope="module")
def expected(session):
    """A growing cache and the prompt in one call: the fewest parts."""
    return run(Decoder(session, len(PROMPT) + len(REST), windows=None), chunk=len(PROMPT))


@pytest.mark.parametrize(
    ("cache", "chunk"),
    [
        ("growing", 7),
        ("shared", 512),
        ("shared", WINDOW + 1),
        ("shared", WINDOW),
        ("shared", 7),
        ("shared", 1),
        ("shared, no rings", 7),
    ],
)
def test_every_cache_and_chunk_gives_the_same_logits(session, windows, expected, cache, chunk):
    sizes = {"shared": windows, "shared, no rings": (0,) * len(windows), "growing": None}[cache]
    logits = run(Decoder(session, len(PROMPT) + len(REST), sizes), chunk)
    np.testing.assert_allclose(logits, expected, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("changed", [0, len(PROMPT) - 1])
def test_one_wrong_token_shows(session, windows, expected, changed):
    """Or the test above would pass with any cache; the windows of the last token do not reach the first."""
    ids = np.concatenate([PROMPT, REST])
    ids[changed] += 1
    logits = Decoder(session, len(ids), windows).prefill(ids)
    assert np.abs(logits - expected[-1]).max() > 10 * TOLERANCE


def test_a_repeated_run_is_bit_identical(session, windows, expected):
    decoder = Decoder(session, len(PROMPT) + len(REST), windows)
    first = run(decoder, 512)
    decoder.reset()
    np.testing.assert_array_equal(run(decoder, 512), first)
