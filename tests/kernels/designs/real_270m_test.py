"""A token of the real Gemma3-270M through the simulated NPU: all layers, then the head; against the host device."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import onnxruntime as ort
import pytest
from ml_dtypes import bfloat16
from tokenizers import Tokenizer

import onnxruntime_ep_ryzen_npu_gemma as ryzen
from graph_passes import q4nx
from kernels.gemma3_shapes import GEMMA3_270M
from kernels.lm_head.design import lm_head, pack_lm_head, plan_lm_head
from kernels.matmul_nbits.design import pack_activation
from kernels.matmul_nbits.packing import units_of_blocks
from tests.kernels.designs.decode_token import run_token
from tests.kernels.designs.gemma3_reference import Model, decode, to_bf16
from tests.kernels.designs.running import execute, relative_error
from tests.models import cached_run

FOLDER = Path(__file__).parents[3] / "build/demo/gemma3-270m"
TEXT = (
    "Water boils at one hundred degrees Celsius at sea level. On a high mountain the air is thinner and the pressure "
    "is lower, so that water boils"
)

pytestmark = pytest.mark.skipif(
    not (FOLDER / "model.onnx").is_file(), reason=f"{FOLDER} is not there; `make demo` makes it"
)

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


def read_model(graph: ir.Graph, token: int, keys: list[Any], values: list[Any]) -> Model:
    """The converted model's own bytes, and a cache."""
    shape = GEMMA3_270M

    def array(name: str) -> Any:
        return graph.initializers[name].const_value.numpy()

    def units(name: str) -> Any:
        node = next(n for n in graph if n.name == name)
        rows, columns = node.attributes["N"].as_int(), node.attributes["K"].as_int()
        return units_of_blocks(array(f"{name}.weight.q4nx"), rows, columns)

    def norm(name: str) -> Any:
        return (array(f"{name}.weight") - 1).astype(bfloat16)

    prefixes = [f"model.layers.{layer}." for layer in range(shape.layers)]
    embedding = q4nx.dequantize(array("model.embed_tokens.weight.q8"), shape.vocab, shape.hidden)[token]
    return Model(
        shape,
        keys[0].shape[1],
        units=[
            {name: np.concatenate([units(p + part) for part in parts]) for name, parts in PROJECTIONS.items()}
            for p in prefixes
        ],
        norms=[{name: norm(p + full) for name, full in NORMS.items()} for p in prefixes],
        keys=keys,
        values=values,
        hidden=(embedding * np.float32(shape.hidden**0.5)).astype(np.float32),
        final_norm=norm("model.norm"),
    )


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(TEXT, id="30 tokens"),
        pytest.param((FOLDER.parents[2] / "LICENSE").read_text(encoding="utf-8"), id="620 tokens, past the window"),
    ],
)
def test_a_token_of_the_real_model_through_the_simulated_npu(text: str) -> None:
    ryzen.register()
    session = ort.InferenceSession(FOLDER / "model.onnx", providers=["RyzenNPUGemmaEP"])
    prompt = Tokenizer.from_file(str(FOLDER / "tokenizer.json")).encode(text).ids[:620]
    _, cache = cached_run.run(session, prompt[:-1], cached_run.pasts(session, 0), 0)
    logits, _ = cached_run.run(session, prompt[-1:], cache, len(prompt) - 1)
    host = np.asarray(logits).reshape(-1)

    def cached(kind: str) -> list[Any]:
        return [np.asarray(cache[f"past_key_values.{i}.{kind}"])[0].astype(bfloat16) for i in range(GEMMA3_270M.layers)]

    graph = ir.load(FOLDER / "model.onnx").graph
    model = read_model(graph, prompt[-1], cached("key"), cached("value"))
    hidden, _, _ = run_token(model, len(prompt))
    truth, ideal = decode(model)[0], to_bf16(decode(model, to_bf16)[0])
    error, allowed = relative_error(hidden, truth), 2 * relative_error(ideal, truth)

    plan = plan_lm_head(GEMMA3_270M, bits=8)
    head = graph.initializers["model.embed_tokens.weight.q8"].const_value.numpy()
    weights = pack_lm_head(plan, units_of_blocks(head, GEMMA3_270M.vocab, GEMMA3_270M.hidden, bits=8))
    npu = np.zeros(plan.padded_rows, np.float32)
    execute(lm_head(plan), weights, pack_activation(plan, hidden.astype(bfloat16)), npu)
    divergence = kl_divergence(host, npu[: GEMMA3_270M.vocab])
    print(f"hidden state: error {error:.2e}, allowed {allowed:.2e}; KL to the host device {divergence:.2e}")
    assert error <= allowed
    assert np.argmax(npu) == np.argmax(host)
    assert divergence < 1e-3  # measured 9e-5 and 1.4e-4
