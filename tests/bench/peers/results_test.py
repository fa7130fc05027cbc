"""What the table of peers says of samples: medians, the best peer, ratios, and that cells can be measured in pieces."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.bench.peers import results as module
from tests.bench.peers.contest import Sample
from tests.bench.peers.results import Results

OURS, OTHER, LLAMA, GENAI = (
    "ours, 5-bit head, exact",
    "ours, 5-bit head, fast",
    "llama.cpp Q4_0",
    "onnxruntime-genai int4",
)


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Results:
    monkeypatch.setattr(module, "_ROOT", tmp_path)
    results = Results("270m")
    for column, figures in {
        "decode@64": {OURS: [3.0, 30.0, 31.0], OTHER: [50.0], LLAMA: [10.0, 20.0], GENAI: [12.0]},
        "peak memory, MiB": {OURS: [300.0], LLAMA: [200.0], GENAI: [400.0]},
    }.items():
        results.add([Sample(column, name, x, "v1") for name, values in figures.items() for x in values], threads=2)
    return results


def test_ratios_are_to_the_best_peer_of_the_cell(results: Results) -> None:
    assert results.median("decode@64", OURS) == 30
    assert results.best_peer("decode@64") == 15
    assert results.best_peer("peak memory, MiB") == 200
    rows = {line.split(" | ")[0].strip("|* "): line.split(" | ")[1:] for line in results.table().splitlines()}
    assert rows["tokens/s"] == ["decode@64", "peak memory, MiB |"]
    assert rows[LLAMA] == ["15.0", "200 |"]
    assert rows[f"{OURS} : best peer"] == ["2.00 ×", "1.50 × |"]
    assert rows[f"{OTHER} : best peer"] == ["3.33 ×", "- |"]


def test_a_cell_that_is_measured_again_replaces_its_own_values_alone(results: Results) -> None:
    results.add([Sample("decode@64", GENAI, 60.0, "v2")], threads=2)
    again = Results("270m")
    assert again.median("decode@64", GENAI) == 60
    assert again.median("decode@64", LLAMA) == 15
    assert again.data["cells"]["decode@64"][GENAI]["version"] == "v2"
    assert again.data["cells"]["decode@64"][LLAMA]["stamp"]["cores"] >= 1


def test_no_peer_no_ratio(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_ROOT", tmp_path)
    results = Results("1b")
    results.add([Sample("prefill@512", OURS, 100.0, "v1")], threads=2)
    assert results.best_peer("prefill@512") is None
    assert "best peer" not in results.table()
