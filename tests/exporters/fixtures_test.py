"""Every exporter's graph as stored: it is valid, and onnxruntime's CPU EP computes with it what transformers does."""

from __future__ import annotations

import functools
import hashlib
import lzma
import tempfile
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch

from tests.exporters import exported_run, fixtures, make_fixtures, readme, tiny_model
from tests.exporters.variants import VARIANTS

LENGTH = 60  # nearly four windows
IDS = np.random.default_rng(3).integers(0, tiny_model.CONFIG["vocab_size"], LENGTH)
CHUNKS = {"whole": [LENGTH], "decode": [40] + [1] * 20, "chunks": [10, 30, 1, 19]}

# Graphs for another EP, that onnxruntime's CPU EP says it cannot run.
REFUSED = {
    "genai_fp16_cuda": "q_norm_weight / k_norm_weight inputs are not supported",
    "genai_int4_cuda": "q_norm_weight / k_norm_weight inputs are not supported",
    "genai_bf16_cuda": "Could not find an implementation for Mul",
}

# Bounds of a logit's difference from transformers on the same weights; logits reach 135.
EXACT = 2e-4  # measured 4.6e-5: the order of sums
ROUNDED_SCALE = 0.03  # measured 7.0e-3: the embedding scale in two decimals, or in bfloat16
FLOAT16 = 0.2  # measured 0.049: activations and cache in float16
INT8_ACTIVATIONS = 1.0  # measured 0.38: accuracy_level 4, the builder's default on CPU
TOLERANCES = {
    "genai_fp": ROUNDED_SCALE,
    "genai_fp16": FLOAT16,
    "genai_int4": INT8_ACTIVATIONS,
    "genai_int4_level0": ROUNDED_SCALE,
    "mobius": ROUNDED_SCALE,
    "optimum": EXACT,
    "own": EXACT,
    "torch_dynamo": EXACT,
}

# What transformers must be told to compute the same as a graph that is wrong as Gemma3.
WRONG = {"mobius_cpu": {"sliding_window": 1 << 20, "rope_theta": tiny_model.CONFIG["rope_local_base_freq"]}}


def tolerance(name: str) -> float:
    """By the longest beginning of the name that has one."""
    return TOLERANCES[max((prefix for prefix in TOLERANCES if name.startswith(prefix)), key=len)]


@functools.cache
def truth(name: str, wrong: bool) -> np.ndarray:
    """Transformers' logits [L, V] with the weights that the graph stands for; wrong: as Gemma3, and as the graph is."""
    changes = {**VARIANTS[name].config, **(WRONG[name] if wrong else {})}
    model = tiny_model.make_hf_model(fixtures.hf_weights(name), **changes)
    with torch.no_grad():
        logits: np.ndarray = model(torch.tensor(IDS[None])).logits[0].numpy()
    return logits


def run(session: ort.InferenceSession, chunks: list[int]) -> np.ndarray:
    config = tiny_model.CONFIG
    return exported_run.logits(session, IDS, chunks, head_dim=config["head_dim"], window=config["sliding_window"])


def test_every_variant_has_its_file() -> None:
    assert fixtures.names() == sorted(VARIANTS)


@pytest.mark.parametrize("name", VARIANTS)
def test_is_small_and_valid(name: str) -> None:
    assert fixtures.path(name).stat().st_size <= make_fixtures.MAX_FILE_BYTES
    assert tempfile.gettempdir().encode() not in lzma.decompress(fixtures.path(name).read_bytes())
    model = fixtures.load(name)
    for node in model.graph.node:
        if node.op_type == "SimplifiedLayerNormalization":  # onnxruntime's own, yet in ONNX's domain
            node.domain = "com.microsoft"
    onnx.checker.check_model(model)


@pytest.mark.parametrize("chunks", CHUNKS)
@pytest.mark.parametrize("name", [name for name in VARIANTS if name not in REFUSED])
def test_computes_what_transformers_does(name: str, chunks: str) -> None:
    logits = run(exported_run.session(fixtures.load(name)), CHUNKS[chunks])
    expected = truth(name, name in WRONG)
    if len(logits) != LENGTH:
        expected = expected[np.cumsum(CHUNKS[chunks]) - 1]
    np.testing.assert_allclose(logits, expected, rtol=0, atol=tolerance(name))


@pytest.mark.parametrize("name", WRONG)
def test_wrong_graph_is_wrong(name: str) -> None:
    logits = run(exported_run.session(fixtures.load(name)), [LENGTH])
    window = tiny_model.CONFIG["sliding_window"]
    assert np.abs(logits - truth(name, False))[window:].max() > 10


@pytest.mark.parametrize("name", REFUSED)
def test_onnxruntime_says_why_it_cannot_run(name: str) -> None:
    with pytest.raises(Exception, match=REFUSED[name]):
        run(exported_run.session(fixtures.load(name)), [LENGTH])


def test_weights_are_the_same_everywhere() -> None:
    digest = hashlib.sha256(b"".join(w.tobytes() for w in tiny_model.weights().values())).hexdigest()
    assert digest[:16] == "e5a724cfc80e56cd"


def test_readme_is_current() -> None:
    path = Path(readme.__file__).with_name("README.md")
    assert path.read_text(encoding="utf-8") == readme.text(), (
        "run python -m tests.exporters.readme > tests/exporters/README.md"
    )
