"""`bench` on the tiny model: what it prints, and values that it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import onnxruntime
import pytest

from onnxruntime_ep_ryzen_npu_gemma import cli

pytestmark = pytest.mark.usefixtures("ep_library")


def test_json_has_every_run(tiny_model_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = cli.main(["bench", str(tiny_model_folder), "-p", "8,40", "-n", "4", "-d", "0,20", "--reps", "2", "--json"])
    assert code == 0
    result = json.loads(capsys.readouterr().out)
    assert [(test["name"], test["depth"]) for test in result["tests"]] == [
        (name, depth) for depth in (0, 20) for name in ("pp8", "pp40", "tg4")
    ]
    for test in result["tests"]:
        assert len(test["seconds"]) == len(test["depth_seconds"]) == 2
        assert test["tokens_per_second"] == pytest.approx(
            sum(test["tokens"] / seconds for seconds in test["seconds"]) / 2
        )
    assert result["placement"]["device"] == "host"
    assert result["machine"]["cores"] >= 1
    assert result["machine"]["onnxruntime"] == onnxruntime.__version__
    assert result["bytes"] >= (tiny_model_folder / "model.onnx.data").stat().st_size


def test_text_has_both_tables(tiny_model_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["bench", str(tiny_model_folder), "-p", "8,12", "-n", "2", "-d", "0,16", "--reps", "1"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["model", "size", "params", "backend", "threads", "test", "t/s"]
    assert [line.split("auto")[1].split("  ")[1].strip() for line in lines[1:7]] == [
        "pp8",
        "pp12",
        "tg2",
        "pp8 @ d16",
        "pp12 @ d16",
        "tg2 @ d16",
    ]
    assert lines[8].split() == ["Context", "TTFT", "Prefill", "Decode"]
    assert [line.split()[0] for line in lines[9:13]] == ["8", "12", "24", "28"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--reps", "0"], "--reps: found 0"),
        (["-p", "0", "-n", "0"], "there is nothing to measure: -p and -n"),
        (["-d", "100000"], "longer than the model's context"),
    ],
)
def test_refused_values(
    tiny_model_folder: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], words: str
) -> None:
    assert cli.main(["bench", str(tiny_model_folder), *arguments]) == 1
    assert words in capsys.readouterr().err


@pytest.mark.parametrize("value", ["-1", "x", "", "1,,2"])
def test_lengths_that_are_no_numbers_are_wrong_usage(tiny_model_folder: Path, value: str) -> None:
    with pytest.raises(SystemExit) as stop:
        cli.main(["bench", str(tiny_model_folder), f"-p={value}"])
    assert stop.value.code == 2
