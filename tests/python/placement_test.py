"""The placement report: what is read from it, how it adds up, and what is refused."""

from __future__ import annotations

import pytest

from onnxruntime_ep_ryzen_npu_gemma.errors import Problem
from onnxruntime_ep_ryzen_npu_gemma.placement import COLUMNS, Node, Placement, group_nodes, read_placement

OURS = "ryzen.npu.gemma"
NODES = (
    Node(OURS, "MatMulNBits", "model.layers.0.mlp.down_proj", "host", "", "", 600),
    Node(OURS, "MatMulNBits", "model.layers.1.mlp.down_proj", "npu", "", "", 300),
    Node("", "MatMul", "lm_head", "cpu", "the weight is not constant", "float32 [640, 262144]", 100),
    Node("", "Shape", "shape", "cpu", "not ours", "", 0),
)


def write(path, nodes=NODES, header=COLUMNS):
    lines = ["\t".join(header), *("\t".join(map(str, vars(node).values())) for node in nodes)]
    path.write_text("".join(line + "\n" for line in lines), "utf-8")
    return path


def test_every_node_is_read_in_order(tmp_path):
    assert read_placement(write(tmp_path / "report.tsv")).nodes == NODES


def test_a_report_of_no_nodes_is_an_empty_placement(tmp_path):
    assert read_placement(write(tmp_path / "report.tsv", nodes=())).nodes == ()


def test_the_summary_counts_nodes_and_multiply_adds():
    assert Placement(NODES).summary() == {
        "device": "host",
        "nodes": 4,
        "nodes_taken": 2,
        "share_of_multiply_adds": 0.9,
    }
    assert Placement(NODES).sentence() == "host (RyzenNPUGemmaEP took 2 of 4 nodes and 90.0 % of the multiply-adds)"


def test_no_report_is_said_to_be_a_fallback(tmp_path):
    placement = read_placement(tmp_path / "absent.tsv")
    assert placement.summary() == {"device": "cpu", "nodes": 0, "nodes_taken": 0, "share_of_multiply_adds": 0.0}
    assert "onnxruntime left it out" in placement.sentence()


def test_nothing_taken_is_device_cpu():
    assert Placement(NODES[2:]).summary() == {
        "device": "cpu",
        "nodes": 2,
        "nodes_taken": 0,
        "share_of_multiply_adds": 0.0,
    }


def test_groups_keep_the_graph_order_and_shares_add_up():
    groups = group_nodes(NODES, lambda node: node.domain)
    assert [(group.nodes, group.macs_per_token, group.share) for group in groups] == [
        (NODES[:2], 900, 0.9),
        (NODES[2:], 100, 0.1),
    ]


@pytest.mark.parametrize(
    ("name", "module"),
    [
        ("model.layers.17.self_attn.q_proj", "model.layers.*.self_attn.q_proj"),
        ("/model/layers.3/Add_1", "/model/layers.*/Add_*"),
        ("q4nx.head2", "q4nx.head2"),
        ("", ""),
    ],
)
def test_a_module_is_a_name_without_its_numbers(name, module):
    assert Node("", "Add", name, "cpu", "", "", 0).module == module


def test_reason_and_value_read_as_one_text():
    assert NODES[2].why == "the weight is not constant: float32 [640, 262144]"
    assert NODES[3].why == "not ours"


@pytest.mark.parametrize(
    "lines",
    [
        "",
        "domain\top_type\n",
        "\t".join(COLUMNS) + "\na\tb\n",
        "\t".join(COLUMNS) + "\n\tAdd\tname\tgpu\t\t\t0\n",
        "\t".join(COLUMNS) + "\n\tAdd\tname\tcpu\t\t\t-1\n",
        "\t".join(COLUMNS) + "\n\tAdd\tname\tcpu\t\t\t0\textra\n",
        "\t".join(COLUMNS) + "\n\n",
    ],
)
def test_a_damaged_report_is_refused(tmp_path, lines):
    (tmp_path / "report.tsv").write_text(lines)
    with pytest.raises(Problem, match="placement report cannot be read"):
        read_placement(tmp_path / "report.tsv")
