"""The options of `convert` that choose the codes, and the report of what they cost."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gguf
import matplotlib
import matplotlib.image
import numpy as np
import pytest
from transformers import Gemma3ForCausalLM

from onnxruntime_ep_ryzen_npu_gemma.cli import main
from tests.tiny_gemma3 import LAYERS, write_gguf


def convert(capsys: pytest.CaptureFixture[str], *args: object) -> dict[str, Any]:
    main(["convert", *map(str, args), "--json"])
    result: dict[str, Any] = json.loads(capsys.readouterr().out)
    return result


def test_what_is_lost_is_said_by_type(
    tiny_hf_model: Gemma3ForCausalLM, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_gguf(tiny_hf_model, tmp_path / "model.gguf", quantized=gguf.GGMLQuantizationType.Q4_0)
    lost = convert(capsys, tmp_path / "model.gguf", tmp_path / "out")["quantized"]
    kept, head = sorted(lost, key=lambda row: row["bits"])
    assert (kept["source_type"], kept["how"], kept["tensors"]) == ("Q4_0", "kept", 7 * LAYERS)
    assert (head["source_type"], head["how"], head["tensors"]) == ("Q4_0", "rtn", 1)
    assert kept["nmse"] < 1e-5
    assert main(["convert", str(tmp_path / "model.gguf"), str(tmp_path / "again")]) == 0
    assert f"{7 * LAYERS} Q4_0 -> 4 bits, kept: squared error" in capsys.readouterr().out


def read_report(path: Path) -> list[dict[str, str]]:
    header, *lines = [line.split("\t") for line in path.read_text(encoding="utf-8").splitlines()]
    return [dict(zip(header, line, strict=True)) for line in lines]


@pytest.mark.parametrize("quantizer", ["search", "rtn"])
def test_report_has_a_line_a_tensor(
    tiny_gguf: Path, tmp_path: Path, quantizer: str, capsys: pytest.CaptureFixture[str]
) -> None:
    report = tmp_path / "report.tsv"
    convert(capsys, tiny_gguf, tmp_path / "out", "--quantizer", quantizer, "--report", report)
    rows = read_report(report)
    assert len(rows) == 7 * LAYERS + 1
    assert {row["how"] for row in rows if row["bits"] == "4"} == {quantizer}
    errors = [float(row["nmse"]) for row in rows if row["bits"] == "4"]
    expected = {"search": 0.0053, "rtn": 0.0062}[quantizer]  # Gaussian weights
    assert np.mean(errors) == pytest.approx(expected, rel=0.1)


def test_calibrated(tiny_gguf: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "text").write_text("the king of the sea is here, then there. 語 ü " * 20, encoding="utf-8")
    report = tmp_path / "report.tsv"
    options = ("--calibrate", tmp_path / "text", "--report", report)
    (row, head) = convert(capsys, tiny_gguf, tmp_path / "out", *options)["quantized"]
    assert (row["how"], row["bits"], head["bits"]) == ("calibrated", 4, 8)
    rows = read_report(report)
    assert all(0 < float(row["weighted_error"]) < 0.05 for row in rows)
    assert {row["why"] for row in rows if row["bits"] == "4"} == {""}
    (reason,) = (row["why"] for row in rows if row["bits"] == "8")
    assert reason == "the head, which is the embedding too: --lm-head q8"


def test_text_in_another_script(tiny_gguf: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """All of its tokens are bytes of the vocabulary: a text like any other."""
    (tmp_path / "text").write_text("海の歴史は長い。" * 30, encoding="utf-8")
    (row, _) = convert(capsys, tiny_gguf, tmp_path / "out", "--calibrate", tmp_path / "text")["quantized"]
    assert row["how"] == "calibrated"
    assert row["nmse"] < 0.03


@pytest.mark.parametrize("text", ["", "too short"])
def test_refuses_a_text_that_is_too_short(
    tiny_gguf: Path, tmp_path: Path, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "text").write_text(text)
    error = convert(capsys, tiny_gguf, tmp_path / "out", "--calibrate", tmp_path / "text")["error"]
    assert error["what"] == "the text is too short to calibrate on"
    assert not (tmp_path / "out").exists()


def test_plot(tiny_gguf: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "text").write_text("the king of the sea is here, then there. " * 20, encoding="utf-8")
    plot = tmp_path / "plot.svg"
    with matplotlib.rc_context({"svg.fonttype": "none"}):  # text as text
        convert(capsys, tiny_gguf, tmp_path / "out", "--calibrate", tmp_path / "text", "--plot", plot)
    picture = plot.read_text(encoding="utf-8")
    kinds = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
    titles = ("squared error of the weights", "squared error on the calibration text")
    for text in (*kinds, *titles, "model.embed_tokens.weight: 8 bits"):
        assert text in picture


def test_plot_as_pixels(tiny_gguf: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    convert(capsys, tiny_gguf, tmp_path / "out", "--plot", tmp_path / "plot.png")
    pixels = matplotlib.image.imread(tmp_path / "plot.png")
    assert pixels.shape[0] > 300 and pixels.std() > 0.05  # not blank


def test_plot_without_matplotlib(
    tiny_gguf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    error = convert(capsys, tiny_gguf, tmp_path / "out", "--plot", tmp_path / "plot.png")["error"]
    assert "[plot]" in error["do"]
    assert not (tmp_path / "out").exists()
