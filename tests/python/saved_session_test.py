"""Saved sessions: what is loaded is what was saved, or nothing is."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from onnxruntime_ep_ryzen_npu_gemma.decoder import Decoder
from onnxruntime_ep_ryzen_npu_gemma.errors import Problem
from onnxruntime_ep_ryzen_npu_gemma.saved_session import SavedSession, load_session, model_hash, save_session
from tests.python.decoder_test import IDS, VOCAB, WINDOWS, expected, toy_session

MODEL = "a" * 64
MAGIC = b"ryzen-npu-gemma session 1\n"


@pytest.fixture(scope="module", params=["shared", "growing"])
def make_decoder(request: pytest.FixtureRequest) -> Callable[[int], Decoder]:
    shared = request.param == "shared"
    session = toy_session(shared)
    return lambda context: Decoder(session, context, WINDOWS if shared else None)


@pytest.fixture
def saved(make_decoder: Callable[[int], Decoder], tmp_path: Path) -> Path:
    """All but the last two tokens, of which one is named in the file and not run."""
    decoder = make_decoder(30)
    decoder.prefill(IDS[:-2])
    path = tmp_path / "séance.kv"
    save_session(path, SavedSession(IDS[:-1], [{"role": "user", "content": "ü"}]), decoder, MODEL)
    return path


@pytest.mark.parametrize("context", [len(IDS), 30, 100])
def test_a_loaded_sequence_goes_on_as_if_it_had_been_run(
    make_decoder: Callable[[int], Decoder], saved: Path, context: int
) -> None:
    decoder = make_decoder(context)
    decoder.prefill([7, 7, 7])  # forgotten
    session = load_session(saved, decoder, MODEL)
    assert session == SavedSession(IDS[:-1], [{"role": "user", "content": "ü"}])
    assert decoder.length == len(IDS) - 2
    np.testing.assert_array_equal(decoder.prefill(IDS[-2:]), expected(IDS))


def test_an_empty_sequence(make_decoder: Callable[[int], Decoder], tmp_path: Path) -> None:
    save_session(tmp_path / "empty", SavedSession([], None), make_decoder(8), MODEL)
    decoder = make_decoder(8)
    assert load_session(tmp_path / "empty", decoder, MODEL) == SavedSession([], None)
    np.testing.assert_array_equal(decoder.prefill([1, 2]), expected([1, 2]))


def test_a_file_is_its_owners_and_takes_the_place_of_another(saved: Path) -> None:
    assert saved.stat().st_mode & 0o777 == 0o600
    assert os.listdir(saved.parent) == [saved.name]


def test_a_failed_save_leaves_the_old_file(
    make_decoder: Callable[[int], Decoder], saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = saved.read_bytes()

    def no_space(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", no_space)
    with pytest.raises(OSError, match="No space"):
        save_session(saved, SavedSession([], None), make_decoder(8), MODEL)
    assert saved.read_bytes() == before
    assert os.listdir(saved.parent) == [saved.name]


def test_another_model_is_refused(make_decoder: Callable[[int], Decoder], saved: Path) -> None:
    refused(make_decoder, saved, "another model's", model="b" * 64)


def test_a_context_too_small_is_refused(make_decoder: Callable[[int], Decoder], saved: Path) -> None:
    decoder = make_decoder(4)
    with pytest.raises(Problem, match="do not fit the cache: context of 4 tokens: found 9"):
        load_session(saved, decoder, MODEL)


def test_the_other_kind_of_cache_is_refused(tmp_path: Path) -> None:
    ring, growing = Decoder(toy_session(True), 30, WINDOWS), Decoder(toy_session(False), 30, None)
    ring.prefill(IDS)
    save_session(tmp_path / "ring", SavedSession(IDS, None), ring, MODEL)
    with pytest.raises(Problem, match=r"does not fit this model: past_key_values\.0\.key"):
        load_session(tmp_path / "ring", growing, MODEL)


def refused(make_decoder: Callable[[int], Decoder], path: Path, words: str, model: str = MODEL) -> None:
    decoder = make_decoder(30)
    decoder.prefill([3, 1])
    with pytest.raises(Problem, match=words):
        load_session(path, decoder, model)
    np.testing.assert_array_equal(decoder.step(4), expected([3, 1, 4]))  # as it was


def test_every_cut_is_refused(make_decoder: Callable[[int], Decoder], saved: Path) -> None:
    data = saved.read_bytes()
    for length in [*range(0, 60), *range(60, len(data), 97), len(data) - 1]:
        saved.write_bytes(data[:length])
        refused(make_decoder, saved, "damaged|not a saved session of this version")
    saved.write_bytes(data + b"x")
    refused(make_decoder, saved, "damaged")


def test_every_changed_byte_is_refused(make_decoder: Callable[[int], Decoder], saved: Path) -> None:
    data = saved.read_bytes()
    for at in [*range(0, 60), *range(60, len(data), 31)]:
        saved.write_bytes(data[:at] + bytes([data[at] ^ 0x41]) + data[at + 1 :])
        refused(make_decoder, saved, "saved session")


@pytest.mark.parametrize(
    "change",
    [
        {"tokens": None},
        {"tokens": [1.5] * 9},
        {"tokens": [-1] * 9},
        {"tokens": [VOCAB] * 9},
        {"tokens": [1]},  # fewer than have keys
        {"length": 10**9},
        {"length": -1},
        {"length": True},
        {"messages": {}},
        {"messages": [{"role": [], "content": "x"}]},
        {"messages": [{"role": "root", "content": "x"}]},
        {"messages": [{"role": "user", "content": "x", "more": 1}]},
        {"model": 7},
        {"tensors": [["past_key_values.0.key", "float16", [1, 1, 1 << 40, 1 << 40]]]},
        {"tensors": [["past_key_values.0.key", "object", [1, 1, 9, 11]]]},
        {"tensors": [["past_key_values.0.key", [], [1, 1, 9, 11]]]},
        {"tensors": [["past_key_values.0.key", "float16", [1, 99]]]},
        {"tensors": [["x", "float16", [1, 1, 0, 0]], ["x", "float16", [1, 1, 0, 0]]]},
        {"tensors": []},
    ],
)
def test_a_header_that_lies_is_refused_even_with_the_right_hash(
    make_decoder: Callable[[int], Decoder], saved: Path, change: dict[str, object]
) -> None:
    data = saved.read_bytes()
    start = len(MAGIC) + 8
    end = start + int.from_bytes(data[len(MAGIC) : start], "little")
    header = json.dumps(json.loads(data[start:end]) | change).encode()
    rest = b"" if "tensors" in change else data[end:-32]
    body = MAGIC + len(header).to_bytes(8, "little") + header + rest
    saved.write_bytes(body + hashlib.sha256(body).digest())
    refused(make_decoder, saved, "damaged|does not fit this model|do not fit the cache")


def test_a_huge_header_is_refused(make_decoder: Callable[[int], Decoder], saved: Path) -> None:
    saved.write_bytes(MAGIC + (2**63).to_bytes(8, "little"))
    refused(make_decoder, saved, "damaged")


def test_a_newer_version_and_another_file_are_refused(make_decoder: Callable[[int], Decoder], saved: Path) -> None:
    saved.write_bytes(saved.read_bytes().replace(b"session 1", b"session 2"))
    refused(make_decoder, saved, "not a saved session of this version: .*session 2")
    saved.write_bytes(b"\x89PNG\r\n")
    refused(make_decoder, saved, "not a saved session of this version")
    saved.unlink()
    refused(make_decoder, saved, "cannot be read: .*No such file")


def test_the_hash_is_of_graph_and_weights(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"graph")
    (tmp_path / "model.onnx.data").write_bytes(b"weights")
    (tmp_path / "tokenizer.json").write_bytes(b"{}")
    first = model_hash(tmp_path)
    (tmp_path / "tokenizer.json").write_bytes(b"{ }")
    assert model_hash(tmp_path) == first
    (tmp_path / "model.onnx.data").write_bytes(b"Weights")
    assert model_hash(tmp_path) != first
