"""`simulate`, through the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from onnxruntime_ep_ryzen_npu_gemma.cli import main

DEMO = Path(__file__).parents[3] / "build/demo/gemma3-270m"


def test_the_table_says_that_it_is_a_prediction(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["simulate", "--model", "1b", "--context", "1k"]) == 0
    out, err = capsys.readouterr()
    assert "nothing here was measured" in out
    assert "41.1" in out and "0.95" in out, "the paper's figures are beside ours"
    assert out.count("row ") == 4 and "shim" in out
    assert "simulating 1b at 1024" in err


def test_json_of_a_converted_model(capsys: pytest.CaptureFixture[str]) -> None:
    if not DEMO.is_dir():
        pytest.skip("no demo model: run `make demo`")
    assert main(["simulate", str(DEMO), "--context", "512", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["model"] == "270m" and result["measured"] is False
    (row,) = result["rows"]
    decode, prompt = row["decode"], row["prefill"]
    assert 0.9 < decode["tokens_per_second"] / decode["roofline_tokens_per_second"] < 1
    assert sum(decode["seconds_of"].values()) == pytest.approx(decode["seconds"])
    assert sum(prompt["seconds_of"].values()) == pytest.approx(prompt["seconds"])
    assert prompt["roofline_seconds"] < prompt["cores_seconds"] < prompt["ddr_seconds"] < prompt["seconds"]
    assert decode["paper_npu"] is None, "the paper has no 270M"
    assert len(result["array"]) == 48


def test_a_faster_memory_is_a_faster_token(capsys: pytest.CaptureFixture[str]) -> None:
    speeds = []
    for ddr in ("40", "60"):
        assert main(["simulate", "--model", "270m", "--context", "64", "--ddr", ddr, "--json"]) == 0
        speeds.append(json.loads(capsys.readouterr().out)["rows"][0]["decode"]["tokens_per_second"])
    assert 1.3 < speeds[1] / speeds[0] < 1.5


@pytest.mark.parametrize("arguments", [[], [str(DEMO), "--model", "1b"]])
def test_one_model_is_asked_for(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["simulate", *arguments]) == 1
    assert "there is not one model to simulate" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments", [["--context", "0"], ["--context", "3x"], ["--context", "129k"], ["--ddr", "0"], ["--ddr", "nan"]]
)
def test_wrong_usage(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["simulate", "--model", "1b", *arguments])
    assert stop.value.code == 2
    assert "is not a" in capsys.readouterr().err


def test_a_folder_that_is_no_model_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["simulate", str(tmp_path), "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["error"]["what"] == "this is not a converted model"
