from __future__ import annotations

import dataclasses
import re
import struct
import tracemalloc
from pathlib import Path

import gguf
import numpy as np
import pytest
from gguf import GGMLQuantizationType

from onnxruntime_ep_ryzen_npu_gemma.sources import SourceError, open_source
from onnxruntime_ep_ryzen_npu_gemma.sources.gguf_header import read_header
from tests.python.sources.gguf_faults import Fault, build
from tests.tiny_gemma3 import write_gguf


def test_same_model_as_the_hf_folder(tiny_gguf: Path, tiny_hf_folder: Path) -> None:
    ours, hf = open_source(tiny_gguf), open_source(tiny_hf_folder)
    # GGUF has epsilon in float32, JSON in decimal.
    assert dataclasses.replace(ours.config, rms_eps=np.float32(ours.config.rms_eps).item()) == dataclasses.replace(
        hf.config, rms_eps=np.float32(hf.config.rms_eps).item()
    )
    assert ours.names() == hf.names()
    for name in ours.names():
        assert ours.shape(name) == hf.shape(name)
        np.testing.assert_array_equal(ours.tensor(name), hf.tensor(name), err_msg=name)


@pytest.mark.parametrize("type_name", ["F16", "BF16", "Q4_0", "Q4_1", "Q5_0", "Q8_0"])
def test_quantized_tensors_equal_the_gguf_package(tiny_hf_model: object, tmp_path: Path, type_name: str) -> None:
    path = tmp_path / "model.gguf"
    write_gguf(tiny_hf_model, path, quantized=GGMLQuantizationType[type_name])  # type: ignore[arg-type]
    source = open_source(path)
    tensors = {tensor.name: tensor for tensor in gguf.GGUFReader(path).tensors}
    for ours, theirs in (
        ("model.embed_tokens", "token_embd"),
        ("model.layers.3.mlp.down_proj", "blk.3.ffn_down"),
        ("model.layers.7.self_attn.o_proj", "blk.7.attn_output"),
    ):
        tensor = tensors[f"{theirs}.weight"]
        assert tensor.tensor_type.name == type_name
        expected = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
        np.testing.assert_array_equal(source.tensor(f"{ours}.weight"), expected)


@pytest.mark.parametrize("type_name", ["Q4_K", "Q5_K", "Q6_K"])
def test_k_quants_equal_the_gguf_package(tmp_path: Path, type_name: str) -> None:
    type_ = GGMLQuantizationType[type_name]
    rows, row_bytes = 5000, gguf.quant_shape_to_byte_shape((512,), type_)[0]  # more than one chunk of reading
    blocks = np.random.default_rng(5).integers(0, 0x3C, (rows, row_bytes), np.uint8)  # no NaN in any f16 scale
    writer = gguf.GGUFWriter(tmp_path / "k.gguf", "any")
    writer.add_tensor("w", blocks, raw_dtype=type_)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    tensor = read_header(tmp_path / "k.gguf").tensors["w"]
    assert (tensor.type, tensor.span.shape) == (type_, (rows, 512))
    values = tensor.span.read(lambda data: gguf.quants.dequantize(data, type_))
    np.testing.assert_array_equal(values, gguf.quants.dequantize(blocks, type_))


def test_facts_that_the_file_leaves_out(tmp_path: Path) -> None:
    (tmp_path / "m.gguf").write_bytes(build())
    config = open_source(tmp_path / "m.gguf").config
    assert (config.rope_theta_local, config.rope_factor_global, config.query_scale) == (1e4, 1.0, 32**-0.5)
    assert config.layer_types == ("sliding",)
    assert config.eos_token_ids == (1,)


@pytest.mark.parametrize("fault", Fault, ids=lambda fault: fault.name)
def test_damaged_file_is_refused(tmp_path: Path, fault: Fault) -> None:
    path = tmp_path / "ü damaged.gguf"
    path.write_bytes(build(fault))
    tracemalloc.start()
    try:
        with pytest.raises(SourceError) as caught:
            open_source(path)
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()
    message = str(caught.value)
    assert re.search(fault.text, message), message
    assert str(path) in message and "\n" not in message and caught.value.do


def test_file_cut_anywhere_is_refused(tmp_path: Path) -> None:
    whole = build()
    for length in [*range(0, 2048, 7), *range(2048, len(whole) - 32, 997)]:
        (tmp_path / "m.gguf").write_bytes(whole[:length])
        with pytest.raises(SourceError):
            open_source(tmp_path / "m.gguf")


def test_flipped_bytes_give_a_model_or_a_refusal(tmp_path: Path) -> None:
    rng, whole = np.random.default_rng(7), build()
    header_end = whole.index(b"output_norm") + 48
    path = tmp_path / "m.gguf"
    refused = 0
    for _ in range(400):
        damaged = bytearray(whole)
        damaged[rng.integers(header_end)] = rng.integers(256)
        path.write_bytes(damaged)
        try:
            source = open_source(path)
            for name in source.names():
                source.tensor(name)
        except SourceError:
            refused += 1
    assert 100 < refused < 400


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_weights_that_are_not_finite_are_refused_when_read(tmp_path: Path, bad: float) -> None:
    (tmp_path / "m.gguf").write_bytes(build()[:-36] + struct.pack("<f", bad) + bytes(32))
    source = open_source(tmp_path / "m.gguf")
    with pytest.raises(SourceError, match=r"output_norm.*NaN or infinity"):
        source.tensor("model.norm.weight")


def test_file_cut_after_it_was_opened(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(build())
    source = open_source(path)
    path.write_bytes(build()[:-36])
    with pytest.raises(SourceError, match="cut while it was read"):
        source.tensor("model.norm.weight")


def test_missing_and_unreadable_paths(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="no such model"):
        open_source(tmp_path / "missing.gguf")
    with pytest.raises(SourceError, match=r"config\.json"):
        open_source(tmp_path)
