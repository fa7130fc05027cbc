"""Codes that GGUF files hold, against the gguf package's own dequantisation."""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np
import pytest
from gguf import GGMLQuantizationType
from transformers import Gemma3ForCausalLM

from onnxruntime_ep_ryzen_npu_gemma.graph_passes import q4nx
from onnxruntime_ep_ryzen_npu_gemma.quantization import Quantizer, kept_blocks
from onnxruntime_ep_ryzen_npu_gemma.sources import SourceError, open_source
from onnxruntime_ep_ryzen_npu_gemma.sources.affine_codes import DECODERS, AffineCodes
from tests.tiny_gemma3 import write_gguf

ROW_BYTES = {"Q4_0": 18 * 8, "Q4_1": 20 * 8, "Q4_K": 144}  # of 256 weights
HALVES = {"Q4_0": (0,), "Q4_1": (0, 2), "Q4_K": (0, 2)}  # where a block's float16 values are


def random_rows(type_name: str) -> np.ndarray:
    """Any bytes are codes; the scales are made moderate numbers."""
    rng = np.random.default_rng(0)
    rows = rng.integers(0, 256, (40, ROW_BYTES[type_name]), np.uint8)
    blocks = rows.reshape(40, -1, 144 if type_name == "Q4_K" else ROW_BYTES[type_name] // 8)
    for offset in HALVES[type_name]:
        halves = rng.uniform(-0.1, 0.1, blocks.shape[:2]).astype(np.float16)
        blocks[..., offset : offset + 2] = halves[..., None].view(np.uint8)
    return rows


@pytest.mark.parametrize("type_name", ["Q4_0", "Q4_1", "Q4_K"])
def test_codes_mean_what_gguf_says(type_name: str) -> None:
    type_ = GGMLQuantizationType[type_name]
    rows = random_rows(type_name)
    scale_NG, min_NG, q_NK = DECODERS[type_](rows)
    assert q_NK.shape == (40, 256)
    assert q_NK.max() == 15
    values = np.repeat(scale_NG, 32, axis=1) * q_NK + np.repeat(min_NG, 32, axis=1)
    expected = gguf.quants.dequantize(rows, type_)
    np.testing.assert_allclose(values, expected, rtol=1e-6, atol=1e-6)  # d * (q - 8) is not rounded like d * q - 8 * d


@pytest.mark.parametrize("type_name", ["Q4_0", "Q4_1", "Q4_K"])
def test_kept_codes_lose_the_rounding_of_scale_and_minimum_only(type_name: str) -> None:
    type_ = GGMLQuantizationType[type_name]
    codes = DECODERS[type_](random_rows(type_name))
    blocks = kept_blocks(codes, "here")
    _, _, q_NK = q4nx.unpack(blocks, 40, 256)
    np.testing.assert_array_equal(q_NK, codes.q_NK)
    bound = 2**-8 * (np.repeat(np.abs(codes.scale_NG), 32, axis=1) * q_NK + np.repeat(np.abs(codes.min_NG), 32, axis=1))
    error = np.abs(q4nx.dequantize(blocks, 40, 256) - gguf.quants.dequantize(random_rows(type_name), type_))
    assert (error <= bound * 1.01 + 1e-7).all()  # half a unit in bfloat16's last place, 2^-8 at most, of each


def test_a_converted_gguf_keeps_its_codes(tiny_hf_model: Gemma3ForCausalLM, tmp_path: Path) -> None:
    write_gguf(tiny_hf_model, tmp_path / "model.gguf", quantized=GGMLQuantizationType.Q4_0)
    source = open_source(tmp_path / "model.gguf")
    name = "model.layers.1.mlp.up_proj.weight"
    quantizer = Quantizer(source, "search", {})
    quantizer(name, lambda: source.tensor(name), 4)
    line = quantizer.tensors[name]
    assert (line.source_type, line.how, line.bits) == ("Q4_0", "kept", 4)
    assert 0 < line.nmse < 1e-5  # a second quantisation loses 5e-3
    assert source.codes("model.norm.weight") is None


def test_refuses_a_scale_beyond_bfloat16() -> None:
    huge = np.full((1, 1), 3.4e38, np.float32)
    with pytest.raises(SourceError, match="a scale does not fit bfloat16: here"):
        kept_blocks(AffineCodes(huge, huge, np.zeros((1, 32), np.uint8)), "here")


def test_refuses_an_infinite_scale(tiny_hf_model: Gemma3ForCausalLM, tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    write_gguf(tiny_hf_model, path, quantized=GGMLQuantizationType.Q4_1)
    offset = next(t.data_offset for t in gguf.GGUFReader(path).tensors if t.name == "blk.2.attn_q.weight")
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(np.array(np.inf, "<f2").tobytes())
    with pytest.raises(SourceError, match=r"not a finite number.*blk\.2\.attn_q"):
        open_source(path).codes("model.layers.2.self_attn.q_proj.weight")
