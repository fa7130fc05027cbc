"""The real Gemma3-270M, as `make demo` converts it: its weights for the designs, and the host device beside them."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import onnxruntime as ort
from ml_dtypes import bfloat16
from tokenizers import Tokenizer

import onnxruntime_ep_ryzen_npu_gemma as ryzen
from graph_passes import q4nx
from kernels.gemma3_shapes import GEMMA3_270M
from kernels.lm_head.design import pack_lm_head, plan_lm_head
from kernels.matmul_nbits.packing import units_of_blocks
from tests.kernels.designs.gemma3_reference import Model

FOLDER = Path(__file__).parents[3] / "build/demo/gemma3-270m"
SHAPE = GEMMA3_270M
HEAD = plan_lm_head(SHAPE, bits=8)

PROJECTIONS = {
    "o": ("self_attn.o_proj",),
    "gate": ("mlp.gate_proj",),
    "up": ("mlp.up_proj",),
    "down": ("mlp.down_proj",),
    "qkv": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
}
NORMS = {
    "input": "input_layernorm",
    "post_attention": "post_attention_layernorm",
    "pre_mlp": "pre_feedforward_layernorm",
    "post_mlp": "post_feedforward_layernorm",
    "q_norm": "self_attn.q_norm",
    "k_norm": "self_attn.k_norm",
}


def kl_divergence(truth: Any, found: Any) -> float:
    a, b = (x.astype(np.float64) - np.logaddexp.reduce(x.astype(np.float64)) for x in (truth, found))
    return float(np.sum(np.exp(a) * (a - b)))


@cache
def graph() -> ir.Graph:
    return ir.load(FOLDER / "model.onnx").graph


def array(name: str) -> Any:
    return graph().initializers[name].const_value.numpy()


@cache
def read_model() -> Model:
    """The converted model's own bytes; no position is cached."""

    def units(name: str) -> Any:
        node = next(n for n in graph() if n.name == name)
        rows, columns = node.attributes["N"].as_int(), node.attributes["K"].as_int()
        return units_of_blocks(array(f"{name}.weight.q4nx"), rows, columns)

    def norm(name: str) -> Any:
        return (array(f"{name}.weight") - 1).astype(bfloat16)

    prefixes = [f"model.layers.{layer}." for layer in range(SHAPE.layers)]
    return Model(
        SHAPE,
        past=0,
        units=[
            {name: np.concatenate([units(p + part) for part in parts]) for name, parts in PROJECTIONS.items()}
            for p in prefixes
        ],
        norms=[{name: norm(p + full) for name, full in NORMS.items()} for p in prefixes],
        keys=[],
        values=[],
        hidden=None,
        final_norm=norm("model.norm"),
    )


def embeddings(tokens: list[int]) -> Any:
    """fp32 `[tokens, hidden]`, as the host looks them up."""
    blocks = array("model.embed_tokens.weight.q8")
    each = len(blocks) // (SHAPE.vocab // 32)
    rows = [q4nx.dequantize(blocks[t // 32 * each :][:each], 32, SHAPE.hidden)[t % 32] for t in tokens]
    return (np.stack(rows) * np.float32(SHAPE.hidden**0.5)).astype(np.float32)


@cache
def packed_head() -> Any:
    head = units_of_blocks(array("model.embed_tokens.weight.q8"), SHAPE.vocab, SHAPE.hidden, bits=8)
    return pack_lm_head(HEAD, head)


def open_session(file: str = "model.onnx") -> ort.InferenceSession:
    """The same model on the host device, in float32."""
    ryzen.register()
    return ort.InferenceSession(FOLDER / file, providers=[("RyzenNPUGemmaEP", {"accuracy": "exact"})])


def tokenize(text: str) -> list[int]:
    return Tokenizer.from_file(str(FOLDER / "tokenizer.json")).encode(text).ids
