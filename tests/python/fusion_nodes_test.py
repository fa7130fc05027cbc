"""`explain` of exported graphs: every node with the passes' decision, reason and value, and its share of the work."""

from __future__ import annotations

import json
from pathlib import Path

import onnx
import pytest

from onnxruntime_ep_ryzen_npu_gemma import cli
from tests.exporters import fixtures


def explained(model: onnx.ModelProto, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> dict[str, object]:
    onnx.save(model, tmp_path / "model.onnx")
    assert cli.main(["explain", str(tmp_path / "model.onnx"), "--json"]) == 0
    result: dict[str, object] = json.loads(capsys.readouterr().out)
    return result


def test_a_graph_that_fuses(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = explained(fixtures.load("torch_dynamo_23"), tmp_path, capsys)
    nodes = result["nodes"]
    assert isinstance(nodes, list) and result["share_of_multiply_adds"] == 1
    fused = [node["op"].split("::")[1] for node in nodes if node["decision"] == "fused"]
    assert (fused.count("FlowQKV"), fused.count("MatMulNBits"), fused.count("EmbedNBits")) == (8, 57, 1)
    assert not [node for node in nodes if node["decision"] == "declined"]


def test_a_decline_has_its_pass_reason_and_value(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = fixtures.load("torch_dynamo_23")
    attention = [node for node in model.graph.node if node.op_type == "Attention"][3]
    softcap = next(attribute for attribute in attention.attribute if attribute.name == "softcap")
    softcap.f = 30.0
    result = explained(model, tmp_path, capsys)
    assert isinstance(result["nodes"], list)
    [declined] = [node for node in result["nodes"] if node["decision"] == "declined" and node["op"] == "Attention"]
    assert declined["name"] == attention.name and "softcap" in declined["reason"] and declined["value"] == "30.0"
    assert cli.main(["explain", str(tmp_path / "model.onnx")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith("declined") and "softcap" in line for line in lines)
    assert lines[-1].endswith("of the multiply-adds with weights are fused")


def test_a_missing_graph_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["explain", str(tmp_path / "no.onnx")]) == 1
    assert "no such model" in capsys.readouterr().err
