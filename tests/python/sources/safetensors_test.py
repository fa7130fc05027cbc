from __future__ import annotations

import json
import math
import os
import re
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from transformers import Gemma3ForCausalLM

from onnxruntime_ep_ryzen_npu_gemma.sources import SourceError, open_source
from onnxruntime_ep_ryzen_npu_gemma.sources.hf_config import read_config

Json = dict[str, Any]


@pytest.fixture
def folder(tiny_hf_folder: Path, tmp_path: Path) -> Path:
    """A copy to damage."""
    return shutil.copytree(tiny_hf_folder, tmp_path / "damaged ü")


def expected_tensors(model: Gemma3ForCausalLM, dtype: torch.dtype = torch.float32) -> dict[str, np.ndarray]:
    """Canonical tensors after a round trip through `dtype`: norms are 1 + w."""
    tensors = {name: weight.detach().to(dtype).float().numpy() for name, weight in model.named_parameters()}
    return {
        name: values + np.float32(1) if name.endswith("norm.weight") else values for name, values in tensors.items()
    }


def check_equal(folder: Path, expected: dict[str, np.ndarray]) -> None:
    source = open_source(folder)
    assert set(source.names()) == set(expected)
    for name, values in expected.items():
        ours = source.tensor(name)
        assert ours.dtype == np.float32
        np.testing.assert_array_equal(ours, values, err_msg=name)


def rewrite_config(folder: Path, change: Callable[[Json], Json | None]) -> None:
    path = folder / "config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps(change(config) or config))


def test_configuration(tiny_hf_folder: Path, tiny_hf_model: Gemma3ForCausalLM) -> None:
    ours, hf = open_source(tiny_hf_folder).config, tiny_hf_model.config
    assert (ours.vocab_size, ours.hidden_size, ours.num_layers) == (512, 64, 8)
    assert (ours.num_heads, ours.num_kv_heads, ours.head_dim, ours.intermediate_size) == (4, 2, 32, 160)
    assert ours.sliding_window == hf.sliding_window
    assert [f"{kind}_attention" for kind in ours.layer_types] == hf.layer_types
    assert (ours.rope_theta_global, ours.rope_theta_local, ours.rope_factor_global) == (1e6, 1e4, 8.0)
    assert math.isclose(ours.query_scale, 32**-0.5)
    assert (ours.bos_token_id, ours.eos_token_ids, ours.pad_token_id) == (2, (1, 5), 0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
def test_dtypes(folder: Path, tiny_hf_model: Gemma3ForCausalLM, dtype: torch.dtype) -> None:
    state = {name: weight.detach().to(dtype).contiguous() for name, weight in tiny_hf_model.named_parameters()}
    safetensors.torch.save_file(state, folder / "model.safetensors")
    check_equal(folder, expected_tensors(tiny_hf_model, dtype))


def test_shards(folder: Path, tiny_hf_model: Gemma3ForCausalLM) -> None:
    (folder / "model.safetensors").unlink()
    tiny_hf_model.save_pretrained(folder, max_shard_size="200KB")
    assert len(list(folder.glob("model-*.safetensors"))) > 2
    check_equal(folder, expected_tensors(tiny_hf_model))


@pytest.mark.parametrize("prefix", ["language_model.model.", "model.language_model."])
def test_text_part_of_a_multimodal_folder(folder: Path, tiny_hf_model: Gemma3ForCausalLM, prefix: str) -> None:
    state = {name.replace("model.", prefix, 1): weight.detach() for name, weight in tiny_hf_model.named_parameters()}
    state["vision_tower.vision_model.post_layernorm.weight"] = torch.ones(4)
    state["multi_modal_projector.mm_soft_emb_norm.weight"] = torch.ones(4)
    safetensors.torch.save_file(state, folder / "model.safetensors")
    rewrite_config(folder, lambda text: {"model_type": "gemma3", "text_config": text, "vision_config": {}})
    check_equal(folder, expected_tensors(tiny_hf_model))


def test_hub_form_of_the_configuration_with_its_omissions(folder: Path) -> None:
    """Google's own 4B file leaves out all but these keys."""
    text = {"hidden_size": 2560, "intermediate_size": 10240, "model_type": "gemma3_text", "num_hidden_layers": 34,
            "rope_scaling": {"factor": 8.0, "rope_type": "linear"}, "sliding_window": 1024}  # fmt: skip
    outer = {"model_type": "gemma3", "text_config": text, "eos_token_id": [1, 106]}
    (folder / "config.json").write_text(json.dumps(outer))
    (folder / "generation_config.json").unlink()
    config, tied = read_config(folder)
    assert tied
    assert (config.num_heads, config.num_kv_heads, config.head_dim, config.vocab_size) == (8, 4, 256, 262208)
    assert [i for i, kind in enumerate(config.layer_types) if kind == "full"] == [5, 11, 17, 23, 29]
    assert (config.rope_theta_global, config.rope_theta_local, config.rope_factor_global) == (1e6, 1e4, 8.0)
    assert (config.query_scale, config.max_positions, config.eos_token_ids) == (1 / 16, 131072, (1, 106))


def test_own_head_is_a_tensor_only_if_it_is_not_tied(folder: Path, tiny_hf_model: Gemma3ForCausalLM) -> None:
    expected = expected_tensors(tiny_hf_model)
    head = torch.randn(512, 64, generator=torch.Generator().manual_seed(1))
    state = {name: weight.detach() for name, weight in tiny_hf_model.named_parameters()} | {"lm_head.weight": head}
    safetensors.torch.save_file(state, folder / "model.safetensors")
    check_equal(folder, expected)
    rewrite_config(folder, lambda config: config.update(tie_word_embeddings=False))
    check_equal(folder, expected | {"lm_head.weight": head.numpy()})


# --- bad input --------------------------------------------------------------------------------------------------------


def split(file: Path) -> tuple[Json, bytes]:
    raw = file.read_bytes()
    (length,) = struct.unpack_from("<Q", raw)
    return json.loads(raw[8 : 8 + length]), raw[8 + length :]


def join(header: str, data: bytes, length: int | None = None) -> bytes:
    raw = header.encode()
    return struct.pack("<Q", len(raw) if length is None else length) + raw + data


NORM, UP = "model.norm.weight", "model.layers.0.mlp.up_proj.weight"


def header_fault(change: Callable[[Json, int], Any]) -> Callable[[Path], None]:
    """Changes the header's JSON; `change` also gets the number of data bytes."""

    def damage(folder: Path) -> None:
        header, data = split(folder / "model.safetensors")
        change(header, len(data))
        (folder / "model.safetensors").write_bytes(join(json.dumps(header), data))

    return damage


def raw_fault(change: Callable[[Json, bytes], bytes]) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        (folder / "model.safetensors").write_bytes(change(*split(folder / "model.safetensors")))

    return damage


def config_fault(**changes: Any) -> Callable[[Path], None]:
    return lambda folder: rewrite_config(folder, lambda config: config.update(changes))


def index_fault(weight_map: Any) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        (folder / "model.safetensors").rename(folder / "a.safetensors")
        names = split(folder / "a.safetensors")[0].keys() - {"__metadata__"}
        content = {"weight_map": weight_map(dict.fromkeys(names, "a.safetensors"))}
        (folder / "model.safetensors.index.json").write_text(json.dumps(content))

    return damage


def add_empty(header: Json, name: str, end: int) -> None:
    header[name] = {"dtype": "F32", "shape": [0], "data_offsets": [end, end]}


def rope_fault(full: Json, sliding: Json) -> Callable[[Path], None]:
    return config_fault(rope_parameters={"full_attention": full, "sliding_attention": sliding})


def put(name: str, key: str, value: Any) -> Callable[[Path], None]:
    return header_fault(lambda header, size: header[name].update({key: value}))


FAULTS: dict[str, tuple[str, Callable[[Path], Any]]] = {
    # the header
    "empty": ("a header length that cannot be", raw_fault(lambda h, d: b"")),
    "header length 0": ("a header length that cannot be", raw_fault(lambda h, d: join(json.dumps(h), d, 0))),
    "header length past end": (
        "a header length that cannot be",
        raw_fault(lambda h, d: join(json.dumps(h), d, 1 << 40)),
    ),
    "header length 2^64-1": ("a header length that cannot be", raw_fault(lambda h, d: join("{}", d, 2**64 - 1))),
    "header over the limit": ("a header length that cannot be", raw_fault(lambda h, d: join(" " * (9 << 20), d))),
    "header not UTF-8": ("not valid JSON", raw_fault(lambda h, d: join("{}", d).replace(b"{}", b"\xff\xff"))),
    "header not JSON": ("not valid JSON", raw_fault(lambda h, d: join("{'a'", d))),
    "header a list": ("not a JSON object", raw_fault(lambda h, d: join("[]", d))),
    "header too deep": ("not valid JSON.*recursion", raw_fault(lambda h, d: join("[" * 100_000, d))),
    "key twice": ("twice", raw_fault(lambda h, d: join('{"a": 1, "a": 2}', d))),
    "entry a number": ("a bad header entry", header_fault(lambda h, n: h.update({NORM: 3}))),
    "entry without dtype": ("a bad header entry", header_fault(lambda h, n: h[NORM].pop("dtype"))),
    "dtype unknown": ("unsupported dtype.*Q4", put(NORM, "dtype", "Q4")),
    "dtype I8": ("unsupported dtype.*I8", put(NORM, "dtype", "I8")),
    "dtype of half the size": ("a bad header entry", put(NORM, "dtype", "F16")),
    "shape negative": ("a bad header entry", put(NORM, "shape", [-64])),
    "shape of floats": ("a bad header entry", put(NORM, "shape", [64.0])),
    "shape huge": ("a bad header entry", put(NORM, "shape", [1 << 62, 1 << 62])),
    "shape overflows to 0": ("a bad header entry", put(NORM, "shape", [1 << 32, 1 << 32])),
    "offsets backwards": ("a bad header entry", header_fault(lambda h, n: h[NORM]["data_offsets"].reverse())),
    "offsets three": ("a bad header entry", header_fault(lambda h, n: h[NORM]["data_offsets"].append(0))),
    "offsets past end": ("outside of the file", header_fault(lambda h, n: h[NORM].update(data_offsets=[n, n + 256]))),
    "offsets overlap": ("two tensors overlap", header_fault(lambda h, n: h[NORM].update(data_offsets=[0, 256]))),
    "data cut": ("outside of the file", raw_fault(lambda h, d: join(json.dumps(h), d[:-1]))),
    "tensor missing": ("a tensor is missing", header_fault(lambda h, n: h.pop(NORM))),
    "tensor extra": ("no place in Gemma3", header_fault(lambda h, n: add_empty(h, "model.layers.0.bias", n))),
    "tensor transposed": ("shape does not match", header_fault(lambda h, n: h[UP]["shape"].reverse())),
    "tensor in two forms": ("two tensors with", header_fault(lambda h, n: add_empty(h, f"language_model.{NORM}", n))),
    # files
    "no weights": (r"no model\.safetensors", lambda f: (f / "model.safetensors").unlink()),
    "pickled weights": ("can run code", lambda f: (f / "model.safetensors").rename(f / "pytorch_model.bin")),
    "weights a folder": (
        "no regular file",
        lambda f: ((f / "model.safetensors").unlink(), (f / "model.safetensors").mkdir()),
    ),
    "weights a pipe": (
        "no regular file",
        lambda f: ((f / "model.safetensors").unlink(), os.mkfifo(f / "model.safetensors")),
    ),
    "shard missing": (
        r"b\.safetensors: found no regular file",
        index_fault(lambda m: dict.fromkeys(m, "b.safetensors")),
    ),
    "shard another": ("index and shard disagree", index_fault(lambda m: m | {NORM: "b.safetensors"})),
    "shard outside": ("a shard outside of the folder", index_fault(lambda m: m | {NORM: "../a.safetensors"})),
    "shard absolute": ("a shard outside of the folder", index_fault(lambda m: m | {NORM: "/etc/passwd"})),
    "shard a number": ("a bad shard index", index_fault(lambda m: m | {NORM: 3})),
    "index a list": ("a bad shard index", index_fault(lambda m: list(m))),
    "index too small": ("index and shard disagree", index_fault(lambda m: {k: v for k, v in m.items() if k != NORM})),
    "index empty": ("a tensor is missing", index_fault(lambda m: {})),
    # config.json
    "config missing": ("a file is missing", lambda f: (f / "config.json").unlink()),
    "config not JSON": ("not valid JSON", lambda f: (f / "config.json").write_text("{")),
    "config huge": ("too large", lambda f: (f / "config.json").write_text(" " * (9 << 20))),
    "another model": ("model_type: found 'llama'", config_fault(model_type="llama")),
    "no model type": ("model_type: found None", config_fault(model_type=None)),
    "hidden missing": ("hidden_size: found None", config_fault(hidden_size=None)),
    "hidden a text": ("hidden_size: found '64'", config_fault(hidden_size="64")),
    "hidden a float": ("hidden_size: found 64.0", config_fault(hidden_size=64.0)),
    "hidden huge": ("hidden_size", config_fault(hidden_size=1 << 40)),
    "vocabulary negative": ("vocab_size", config_fault(vocab_size=-1)),
    "layers huge": ("num_hidden_layers", config_fault(num_hidden_layers=1 << 40)),
    "layers true": ("num_hidden_layers: found True", config_fault(num_hidden_layers=True)),
    "layer types short": ("layer_types", config_fault(layer_types=["full_attention"])),
    "layer types unknown": ("layer_types", config_fault(layer_types=["chunked_attention"] * 8)),
    "layer types nested": ("layer_types", config_fault(layer_types=[[]] * 8)),
    "heads do not divide": ("num_kv_heads", config_fault(num_key_value_heads=3)),
    "head size odd": ("RoPE rotates halves", config_fault(head_dim=31)),
    "window null": ("sliding_window: found None", config_fault(sliding_window=None)),
    "epsilon NaN": ("rms_eps: found nan", config_fault(rms_norm_eps=float("nan"))),
    "scale infinite": ("query_pre_attn_scalar: found inf", config_fault(query_pre_attn_scalar=float("inf"))),
    "scale zero": ("query_pre_attn_scalar: found 0", config_fault(query_pre_attn_scalar=0)),
    "rope a list": ("rope_parameters", config_fault(rope_parameters=[])),
    "rope yarn": ("rope_type: found 'yarn'", rope_fault({"rope_type": "yarn"}, {})),
    "rope local scaled": ("sliding layers have no", rope_fault({}, {"rope_type": "linear", "factor": 8.0})),
    "rope factor missing": ("rope_factor_global: found None", rope_fault({"rope_type": "linear"}, {})),
    "rope base NaN": ("rope_theta_global: found nan", rope_fault({"rope_theta": math.nan}, {})),
    "softcap": ("final_logit_softcapping", config_fault(final_logit_softcapping=30.0)),
    "attention bias": ("attention_bias", config_fault(attention_bias=True)),
    "bidirectional": ("use_bidirectional_attention", config_fault(use_bidirectional_attention=True)),
    "activation": ("hidden_activation", config_fault(hidden_activation="silu")),
    "quantized": ("quantization_config", config_fault(quantization_config={"quant_method": "gptq"})),
    "bos out of range": ("bos_token_id", config_fault(bos_token_id=512)),
    "eos a text": ("eos_token_ids", config_fault(eos_token_id="</s>")),
    "text config a list": ("model_type", config_fault(model_type="gemma3", text_config=[])),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_damaged_folder_is_refused(folder: Path, fault: str) -> None:
    text, damage = FAULTS[fault]
    damage(folder)
    with pytest.raises(SourceError) as caught:
        open_source(folder)
    message = str(caught.value)
    assert re.search(text, message), message
    assert str(folder) in message and "\n" not in message and caught.value.do


def test_weights_that_are_not_finite_are_refused_when_read(folder: Path) -> None:
    header, data = split(folder / "model.safetensors")
    start, _ = header[NORM]["data_offsets"]
    damaged = data[:start] + struct.pack("<f", math.nan) + data[start + 4 :]
    (folder / "model.safetensors").write_bytes(join(json.dumps(header), damaged))
    with pytest.raises(SourceError, match=r"model\.norm\.weight: found NaN or infinity"):
        open_source(folder).tensor(NORM)


def test_flipped_bytes_give_a_model_or_a_refusal(folder: Path) -> None:
    rng = np.random.default_rng(9)
    file = folder / "model.safetensors"
    whole = file.read_bytes()
    (length,) = struct.unpack_from("<Q", whole)
    refused = 0
    for _ in range(300):
        damaged = bytearray(whole)
        damaged[rng.integers(8 + length)] = rng.integers(256)
        file.write_bytes(damaged)
        try:
            open_source(folder).tensor(NORM)
        except SourceError:
            refused += 1
    assert refused > 100
