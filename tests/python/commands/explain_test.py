"""`explain` on the converted tiny model: every node with its place, the sums, and a table that people can read."""

from __future__ import annotations

import json

import pytest

from onnxruntime_ep_ryzen_npu_gemma import cli
from onnxruntime_ep_ryzen_npu_gemma.commands import explain
from onnxruntime_ep_ryzen_npu_gemma.placement import COLUMNS, Placement

pytestmark = pytest.mark.usefixtures("ep_library")

LAYERS = 8  # the tiny model's


@pytest.fixture
def run(tiny_model_folder, capsys):
    def run(*arguments: str) -> str:
        assert cli.main(["explain", str(tiny_model_folder), *arguments]) == 0
        out, err = capsys.readouterr()
        assert err == ""
        return out

    return run


@pytest.fixture
def result(run):
    return json.loads(run("--json"))


def test_json_lists_every_node_with_its_place(result):
    nodes = result["nodes"]
    assert all(tuple(node) == COLUMNS for node in nodes)
    heavy = [node for node in nodes if node["op_type"] in ("MatMulNBits", "FlowQKV", "EmbedNBits")]
    assert len(heavy) == 7 * LAYERS + 1 + LAYERS + 1
    assert {node["device"] for node in heavy} <= {"host", "npu"}
    assert all(node["reason"] for node in nodes if node["device"] == "cpu")


def test_json_sums_add_up(result):
    nodes, placement = result["nodes"], result["placement"]
    macs = sum(node["macs_per_token"] for node in nodes)
    # 4 heads of 32 and 2 x 2 of keys and values on a hidden size of 64, 3 x 160 of the MLP, and a head of 512 tokens
    assert macs == LAYERS * 64 * (2 * 128 + 2 * 64 + 3 * 160) + 512 * 64
    assert placement["nodes"] == len(nodes)
    assert placement["nodes_taken"] == sum(node["device"] != "cpu" for node in nodes)
    assert placement["share_of_multiply_adds"] >= 0.99
    for sums in (result["by_device"], result["by_op"]):
        assert sum(group["nodes"] for group in sums) == len(nodes)
        assert sum(group["macs_per_token"] for group in sums) == macs
        assert sum(group["share_of_multiply_adds"] for group in sums) == pytest.approx(1)


def test_the_table_has_one_line_for_equal_nodes_of_all_layers(run, result):
    text = run()
    (line,) = (line for line in text.splitlines() if "self_attn.q_proj" in line)
    assert line.split()[:4] == ["host", "ryzen.npu.gemma::MatMulNBits", "model.layers.*.self_attn.q_proj", str(LAYERS)]
    assert len(text.splitlines()) < len(result["nodes"]) / 2


def test_all_lists_every_node(run, result):
    lines = run("--all").splitlines()
    assert all(any(node["name"] in line for line in lines) for node in result["nodes"])


def test_a_session_without_the_provider_is_said_to_be_one(monkeypatch, run):
    from onnxruntime_ep_ryzen_npu_gemma import session

    monkeypatch.setattr(session, "open_session", lambda *_, **__: (None, Placement()))
    assert "onnxruntime left it out" in run()
    assert json.loads(run("--json"))["placement"]["nodes_taken"] == 0


def test_a_folder_that_is_none_is_refused(capsys):
    assert cli.main(["explain", "absent"]) == 1
    assert "not a model folder: absent" in capsys.readouterr().err
    assert explain.__doc__
