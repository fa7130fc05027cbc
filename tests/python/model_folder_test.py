"""Model folders: what is read, and one clear refusal for each way of not being one."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import onnx_ir as ir
import pytest

from onnxruntime_ep_ryzen_npu_gemma.errors import Problem
from onnxruntime_ep_ryzen_npu_gemma.graph_passes.opset import DOMAIN, FORMAT_KEY
from onnxruntime_ep_ryzen_npu_gemma.model_folder import open_model_folder

CONFIG = {"context_length": 32768, "bos_token_id": 2, "eos_token_id": [1, 106]}


def write_graph(path, metadata=((FORMAT_KEY, "1"),), layers=(("FlowQKV", 512), ("FlowKV", None), ("FlowQKV", 0))):
    """A graph of attention nodes alone: an operator and its window for each layer."""
    inputs, nodes = [], []
    for layer, (op_type, window) in enumerate(layers):
        past_k = ir.val(f"past_key_values.{layer}.key")
        inputs.append(past_k)
        attributes = {} if window is None else {"window": window}
        node = ir.node(op_type, [None, None, None, past_k], attributes, domain=DOMAIN if "Flow" in op_type else "")
        nodes.insert(0, node)  # not in the order of the layers
    graph = ir.Graph(inputs, [], nodes=nodes, opset_imports={"": 23, DOMAIN: 1}, name="graph")
    model = ir.Model(graph, ir_version=10)
    model.metadata_props.update(metadata)
    ir.save(model, path)


@pytest.fixture
def folder(tmp_path, tokenizer):
    """A folder with a space and letters beyond ASCII in its name."""
    folder = tmp_path / "modèle 日本"
    folder.mkdir()
    write_graph(folder / "model.onnx")
    (folder / "genai_config.json").write_text(json.dumps({"model": CONFIG}))
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


def test_a_converted_folder_opens(folder, tokenizer):
    model = open_model_folder(folder)
    assert model.model_path == folder / "model.onnx"
    assert (model.context_length, model.bos_id, model.eos_ids) == (32768, 2, {1, 106})
    assert model.windows == (512, 0, 0)
    assert model.tokenizer().get_vocab() == tokenizer.get_vocab()


def test_one_eos_id_is_enough(folder):
    (folder / "genai_config.json").write_text(json.dumps({"model": CONFIG | {"eos_token_id": 1}}))
    assert open_model_folder(folder).eos_ids == {1}


@pytest.mark.parametrize("layers", [(("FlowQKV", 512), ("Attention", None)), (("Attention", None),)])
def test_a_layer_whose_attention_is_not_ours_leaves_no_windows(folder, layers):
    write_graph(folder / "model.onnx", layers=layers)
    assert open_model_folder(folder).windows is None


@pytest.mark.parametrize("window", [-1, 1.5, "512"])
def test_a_window_that_is_no_count_is_refused(folder, window):
    write_graph(folder / "model.onnx", layers=(("FlowQKV", window),))
    with pytest.raises(Problem, match="attention window"):
        open_model_folder(folder)


def test_no_folder_and_a_file_are_refused(tmp_path):
    with pytest.raises(Problem, match=r"not a model folder: .*: found nothing there; make the folder"):
        open_model_folder(tmp_path / "absent")
    (tmp_path / "model.gguf").touch()
    with pytest.raises(Problem, match="found a file"):
        open_model_folder(tmp_path / "model.gguf")


@pytest.mark.parametrize("name", ["model.onnx", "genai_config.json", "tokenizer.json"])
def test_each_missing_file_is_named(folder, name):
    (folder / name).unlink()
    with pytest.raises(Problem, match=f"found no {name}"):
        open_model_folder(folder)


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ((), "not made by `convert`: .*no ryzen.npu.gemma.format in its metadata"),
        (((FORMAT_KEY, "2"),), "format is not the one .*found '2' for '1'; convert .* again, or install the version"),
        (((FORMAT_KEY, "one"),), "found 'one'"),
    ],
)
def test_a_foreign_or_newer_graph_is_refused(folder, metadata, message):
    write_graph(folder / "model.onnx", metadata)
    with pytest.raises(Problem, match=message):
        open_model_folder(folder)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"not protobuf",
        bytes(range(256)),
        b"\x3a\xff\xff\xff\xff\x07",
        b"\x3a\x04\x0a\x08\x08\x01",
        b"\x72\x02\x08\x01",
        b"\x08" + b"\xff" * 11,
        b"\x72\x03\x0a\x01\xff",
    ],
)
def test_a_damaged_graph_is_refused(folder, data):
    (folder / "model.onnx").write_bytes(data)
    with pytest.raises(Problem, match=r"model\.onnx"):
        open_model_folder(folder)


@pytest.mark.parametrize(
    "change",
    [
        {"context_length": 0},
        {"context_length": "32768"},
        {"context_length": True},
        {"bos_token_id": None},
        {"bos_token_id": -1},
        {"eos_token_id": None},
        {"eos_token_id": [1, "2"]},
        {"eos_token_id": []},
    ],
)
def test_each_bad_key_of_the_configuration_is_named(folder, change):
    (folder / "genai_config.json").write_text(json.dumps({"model": CONFIG | change}))
    with pytest.raises(Problem, match="configuration cannot be used: .*" + next(iter(change))):
        open_model_folder(folder)


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"model": []}', "[" * 100_000])
def test_a_damaged_configuration_is_refused(folder, text):
    (folder / "genai_config.json").write_text(text)
    with pytest.raises(Problem, match=r"genai_config\.json"):
        open_model_folder(folder)


@pytest.mark.parametrize("text", ["", "{}", '{"model": {"type": "BPE"}}'])
def test_a_damaged_tokenizer_is_refused(folder, text):
    (folder / "tokenizer.json").write_text(text)
    with pytest.raises(Problem, match=r"tokenizer cannot be read: .*tokenizer\.json"):
        open_model_folder(folder).tokenizer()


def test_running_a_model_takes_no_converter_into_the_process() -> None:
    """onnx_ir, onnxscript and what they import are 73 MiB; onnx alone is 12, and reads the graph."""
    package = "onnxruntime_ep_ryzen_npu_gemma"
    modules = ", ".join(
        f"{package}.{name}" for name in ("model_folder", "session", "decoder", "generation", "conversation")
    )
    code = f"import sys, {modules}; print([m for m in ('onnx_ir', 'onnxscript', 'sympy', 'gguf') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_parameters_are_the_weights_whatever_their_bits(tiny_model_folder: Path) -> None:
    from tests.tiny_gemma3 import make_hf_model  # imports torch

    assert open_model_folder(tiny_model_folder).parameters == sum(p.numel() for p in make_hf_model().parameters())
