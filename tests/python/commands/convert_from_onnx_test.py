"""`convert --from-onnx` and `--split`: exporters' graphs to folders that run, hostile files to one clear line."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from onnxruntime_ep_ryzen_npu_gemma.cli import main
from tests.exporters import exported_run, fixtures, tiny_model
from tests.models import cached_run
from tests.tiny_gemma3 import LAYERS

GENAI: dict[str, Any] = {
    "model": {
        "type": "gemma3_text",
        "bos_token_id": 2,
        "eos_token_id": [1, 5],
        "pad_token_id": 0,
        "context_length": 128,
        "vocab_size": 512,
        "decoder": {"filename": "graph.onnx"},
    }
}


def export_to(folder: Path, name: str, *, genai: bool = True) -> Path:
    """A fixture as its exporter leaves it: graph, external data, tokenizer, configuration."""
    tiny_model.write_hf_folder(folder)
    for unused in folder.glob("*.safetensors"):
        unused.unlink()
    if genai:
        (folder / "config.json").unlink()
        (folder / "genai_config.json").write_text(json.dumps(GENAI))
    onnx.save_model(
        fixtures.load(name), folder / "graph.onnx", save_as_external_data=True, location="graph.data", size_threshold=64
    )
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return export_to(tmp_path / "exporté", "genai_int4")


def convert(source: Path, out: Path, *options: str) -> int:
    return main(["convert", str(source), str(out), "--from-onnx", *options])


@pytest.mark.parametrize(
    ("name", "genai"), [("genai_int4", True), ("genai_fp16_cuda", True), ("torch_dynamo_23", False)]
)
def test_graph_of_an_exporter_becomes_a_folder(name: str, genai: bool, tmp_path: Path) -> None:
    source = export_to(tmp_path / "in", name, genai=genai)
    assert convert(source, tmp_path / "out", "--kv", "f32") == 0
    config = json.loads((tmp_path / "out" / "genai_config.json").read_text())
    decoder = config["model"]["decoder"]
    sizes = [decoder[key] for key in ("hidden_size", "head_size", "num_attention_heads", "num_key_value_heads")]
    assert (sizes, decoder["num_hidden_layers"]) == ([128, 64, 4, 2], LAYERS)
    assert config["model"]["eos_token_id"] == [1, 5] and config["model"]["context_length"] == 128
    session = ort.InferenceSession(tmp_path / "out" / "model.onnx", providers=["CPUExecutionProvider"])
    ids = np.random.default_rng(4).integers(0, 512, 40)
    logits, _ = cached_run.run(session, ids, cached_run.pasts(session, 0), 0)
    assert logits.shape == (1, 512)
    if name == "genai_int4":
        exported = exported_run.session(fixtures.load(name))
        before = exported_run.logits(exported, ids, [40], head_dim=64, window=16)
        np.testing.assert_allclose(
            logits, before[-1:], rtol=0, atol=1.0
        )  # as tests/graph_passes/contrib_graphs_test.py


def test_codes_are_kept_and_the_error_is_told(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert convert(folder / "graph.onnx", tmp_path / "out", "--json") == 0
    result = json.loads(capsys.readouterr().out)
    assert result["operators"] == {"MatMulNBits": 7 * LAYERS + 1, "FlowQKV": LAYERS, "EmbedNBits": 1}
    assert result["lm_head"] == "q4nx"
    [row] = result["quantized"]
    assert (row["source_type"], row["bits"], row["how"], row["tensors"]) == ("int4 in 32s", 4, "kept", 57)
    assert 0 < row["nmse"] < 1e-5


def test_split_is_over_one_data_file(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert convert(folder, out, "--split", "--logits", "all", "--kv", "f32") == 0
    places, ops = {}, {}
    for name in ("model.onnx", "prefill.onnx", "decode.onnx", "model_all_logits.onnx"):
        model = onnx.load(out / name, load_external_data=False)
        external = {t.name: {e.key: e.value for e in t.external_data} for t in model.graph.initializer}
        places[name] = {key: place for key, place in external.items() if place}
        ops[name] = {node.op_type for node in model.graph.node if node.op_type.startswith("Flow")}
    assert len(places["model.onnx"]) >= 7 * LAYERS + 1
    assert all(place == places["model.onnx"] for place in places.values())
    assert ops == {name: {"FlowKV" if name == "decode.onnx" else "FlowQKV"} for name in ops}
    model = json.loads((out / "genai_config.json").read_text())["model"]
    [stages] = model["decoder"]["pipeline"]
    assert model["type"] == "decoder-pipeline"
    for stage, on_prompt in (("prefill", True), ("decode", False)):
        graph = onnx.load(out / stages[stage]["filename"], load_external_data=False).graph
        assert stages[stage]["filename"] == f"{stage}.onnx"
        assert (stages[stage]["run_on_prompt"], stages[stage]["run_on_token_gen"]) == (on_prompt, not on_prompt)
        assert sorted(stages[stage]["inputs"]) == sorted(value.name for value in graph.input)
        assert sorted(stages[stage]["outputs"]) == sorted(value.name for value in graph.output)
    prefill, decode = (
        ort.InferenceSession(out / f"{name}.onnx", providers=["CPUExecutionProvider"]) for name in ("prefill", "decode")
    )
    ids = np.random.default_rng(6).integers(0, 512, 24)
    _, cache = cached_run.run(prefill, ids[:-1], cached_run.pasts(prefill, 0), 0)
    found, _ = cached_run.run(decode, ids[-1:], cache, 23)
    whole, _ = cached_run.run(prefill, ids, cached_run.pasts(prefill, 0), 0)
    np.testing.assert_allclose(found, whole, rtol=0, atol=1e-3)  # measured 6e-5: the order of sums


def test_a_pruned_graph_has_no_other_logits(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = export_to(tmp_path / "in", "genai_int4_prune")
    fails(capsys, "the last position's logits only", source, tmp_path / "out", "--logits", "all")
    assert convert(source, tmp_path / "out") == 0


# --- failures: one clear line, exit code 1, and nothing left behind ---------------------------------------------------


def fails(capsys: pytest.CaptureFixture[str], text: str, source: Path, out: Path, *options: str) -> None:
    capsys.readouterr()
    assert convert(source, out, "--json", *options) == 1
    error = json.loads(capsys.readouterr().out)["error"]
    assert text in " | ".join(error.values()), error
    assert not os.path.lexists(out) and not [x for x in out.parent.iterdir() if x.name.startswith(".out")]


def set_location(location: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        model = onnx.load(folder / "graph.onnx", load_external_data=False)
        for entry in model.graph.initializer[0].external_data:
            if entry.key == "location":
                entry.value = location.replace("{folder}", str(folder))
        (folder / "graph.onnx").write_bytes(model.SerializeToString())

    return change


def set_entry(key: str, value: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        model = onnx.load(folder / "graph.onnx", load_external_data=False)
        for entry in model.graph.initializer[0].external_data:
            if entry.key == key:
                entry.value = value
        (folder / "graph.onnx").write_bytes(model.SerializeToString())

    return change


def linked_data(folder: Path) -> None:
    (folder / "graph.data").rename(folder.parent / "elsewhere.data")
    (folder / "graph.data").symlink_to(folder.parent / "elsewhere.data")


def linked_folder(folder: Path) -> None:
    (folder.parent / "elsewhere").mkdir()
    (folder / "graph.data").rename(folder.parent / "elsewhere" / "graph.data")
    (folder / "data").symlink_to(folder.parent / "elsewhere")
    set_location("data/graph.data")(folder)


def cut_data(folder: Path) -> None:
    data = (folder / "graph.data").read_bytes()
    (folder / "graph.data").write_bytes(data[: len(data) // 2])


def not_onnx(folder: Path) -> None:
    (folder / "graph.onnx").write_bytes(b"no graph" * 100)


def invalid(folder: Path) -> None:
    model = onnx.load(folder / "graph.onnx", load_external_data=False)
    model.graph.node[0].op_type = "NoSuchOperator"
    (folder / "graph.onnx").write_bytes(model.SerializeToString())


def another_model(folder: Path) -> None:
    x, y = (onnx.helper.make_tensor_value_info(name, 1, [1]) for name in "xy")
    graph = onnx.helper.make_graph([onnx.helper.make_node("Abs", ["x"], ["y"])], "g", [x], [y])
    onnx.save_model(
        onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 21)]), folder / "graph.onnx"
    )


def genai(change: Callable[[dict[str, Any]], None]) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        config = json.loads(json.dumps(GENAI))
        change(config["model"])
        (folder / "genai_config.json").write_text(json.dumps(config))

    return write


BAD_INPUTS: dict[str, tuple[Callable[[Path], None], str]] = {
    "absolute path": (set_location("/etc/passwd"), "external data outside the model's folder"),
    "absolute path inside": (set_location("{folder}/graph.data"), "external data outside the model's folder"),
    "parent folder": (set_location("../graph.data"), "external data outside the model's folder"),
    "parent folder, hidden": (set_location("data/../../x"), "external data outside the model's folder"),
    "backslashes": (set_location("..\\x"), "external data outside the model's folder"),
    "no path": (set_location(""), "external data outside the model's folder"),
    "linked file": (linked_data, "external data behind a symbolic link"),
    "linked folder": (linked_folder, "external data behind a symbolic link"),
    "missing file": (set_location("other.data"), "a file of external data is missing"),
    "folder as a file": (set_location("."), "external data outside the model's folder"),
    "cut file": (cut_data, "external data is cut short"),
    "large offset": (set_entry("offset", str(1 << 62)), "external data is cut short"),
    "negative offset": (set_entry("offset", "-4096"), "a bad offset of external data"),
    "offset no number": (set_entry("offset", "0x10"), "a bad offset of external data"),
    "no graph": (not_onnx, "this is not an ONNX model"),
    "invalid graph": (invalid, "the graph is not valid ONNX"),
    "another model": (another_model, "does not fuse as Gemma3 must"),
    "no tokenizer": (lambda folder: (folder / "tokenizer.json").unlink(), "a file is missing"),
    "no configuration": (
        lambda folder: (folder / "genai_config.json").unlink(),
        "nothing says which tokens end a text",
    ),
    "graph elsewhere": (genai(lambda m: m["decoder"].update(filename="../graph.onnx")), "names no graph"),
    "graph missing": (genai(lambda m: m["decoder"].update(filename="other.onnx")), "names no graph"),
    "token no number": (genai(lambda m: m.update(eos_token_id="1")), "it must be an integer"),
    "token too large": (genai(lambda m: m.update(bos_token_id=512)), "bos_token_id"),
}


@pytest.mark.parametrize("kind", BAD_INPUTS)
def test_bad_inputs(kind: str, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    change, text = BAD_INPUTS[kind]
    change(folder)
    fails(capsys, text, folder, tmp_path / "out")


def test_two_graphs_in_a_folder(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "genai_config.json").unlink()
    (folder / "config.json").write_text(json.dumps(tiny_model.CONFIG))
    (folder / "other.onnx").write_bytes(b"")
    fails(capsys, "which graph is meant is not said", folder, tmp_path / "out")
    assert convert(folder / "graph.onnx", tmp_path / "out") == 0


def test_options_for_other_sources(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = "an exported graph has no tensors by name"
    fails(capsys, text, folder, tmp_path / "out", "--format", "q4nx")
    fails(capsys, text, folder, tmp_path / "out", "--calibrate", str(folder / "genai_config.json"))
    fails(capsys, "no such model", folder / "nothing.onnx", tmp_path / "out")


def test_a_near_miss_says_why(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = onnx.load(folder / "graph.onnx", load_external_data=False)
    attention = next(node for node in model.graph.node if node.op_type == "GroupQueryAttention")
    next(attr for attr in attention.attribute if attr.name == "softcap").f = 50.0
    (folder / "graph.onnx").write_bytes(model.SerializeToString())
    fails(capsys, f"{attention.name!r}: softcap is not 0: 50.0", folder, tmp_path / "out")
