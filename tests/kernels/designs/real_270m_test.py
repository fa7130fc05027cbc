"""The real Gemma3-270M through the simulated NPU, a token and a prompt, all layers and the head; against the host."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
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
from kernels.prefill_layer.launches import handover_launch, head_launch, plan_prompt
from tests.kernels.designs.decode_token import run_token
from tests.kernels.designs.gemma3_reference import Model, decode, prefill, to_bf16
from tests.kernels.designs.prefill_prompt import model_in_ddr, run_prompt
from tests.kernels.designs.running import execute, relative_error
from tests.models import cached_run

FOLDER = Path(__file__).parents[3] / "build/demo/gemma3-270m"
TEXT = (
    "Water boils at one hundred degrees Celsius at sea level. On a high mountain the air is thinner and the pressure "
    "is lower, so that water boils"
)
LICENSE = (FOLDER.parents[2] / "LICENSE").read_text(encoding="utf-8")
SHAPE = GEMMA3_270M
HEAD = plan_lm_head(SHAPE, bits=8)

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


def open_session() -> ort.InferenceSession:
    """The same model on the host device, in float32."""
    ryzen.register()
    return ort.InferenceSession(FOLDER / "model.onnx", providers=[("RyzenNPUGemmaEP", {"accuracy": "exact"})])


def tokenize(text: str) -> list[int]:
    return Tokenizer.from_file(str(FOLDER / "tokenizer.json")).encode(text).ids


def check(what: str, found: Any, truth: Any, ideal: Any) -> None:
    """Hidden states against float64, within twice what ideal arithmetic in the same formats is off."""
    error, allowed = relative_error(found, truth), 2 * relative_error(ideal, truth)
    print(f"{what}: error {error:.2e}, allowed {allowed:.2e}")
    assert error <= allowed


def check_logits(what: str, npu: Any, host: Any, divergence: float) -> None:
    """The host device's top-1, and a KL divergence that was measured."""
    measured = kl_divergence(host, npu[: SHAPE.vocab])
    print(f"{what}: KL to the host device {measured:.2e}")
    assert np.argmax(npu) == np.argmax(host)
    assert measured < divergence


def run_head(hidden: Any) -> Any:
    logits = np.zeros(HEAD.padded_rows, np.float32)
    execute(lm_head(HEAD), packed_head(), pack_activation(HEAD, hidden.astype(bfloat16)), logits)
    return logits


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(TEXT, id="30 tokens"),
        pytest.param(LICENSE, id="620 tokens, past the window"),
    ],
)
def test_a_token_of_the_real_model_through_the_simulated_npu(text: str) -> None:
    session, prompt = open_session(), tokenize(text)[:620]
    _, cache = cached_run.run(session, prompt[:-1], cached_run.pasts(session, 0), 0)
    logits, _ = cached_run.run(session, prompt[-1:], cache, len(prompt) - 1)

    def cached(kind: str) -> list[Any]:
        return [np.asarray(cache[f"past_key_values.{i}.{kind}"])[0].astype(bfloat16) for i in range(SHAPE.layers)]

    keys, values, hidden = cached("key"), cached("value"), embeddings(prompt[-1:])[0]
    model = replace(read_model(), past=len(prompt) - 1, keys=keys, values=values, hidden=hidden)
    found, _, _ = run_token(model, len(prompt))
    check("hidden state", found, decode(model)[0], to_bf16(decode(model, to_bf16)[0]))
    check_logits("logits", run_head(found), np.asarray(logits).reshape(-1), 1e-3)  # measured 4.4e-5 and 1.7e-4


@pytest.mark.parametrize("tokens", [64, pytest.param(620, id="620, past the window", marks=pytest.mark.slow)])
def test_a_prompt_of_the_real_model_and_a_token_after_it(tokens: int) -> None:
    session, ids, model = open_session(), tokenize(LICENSE)[:tokens], read_model()
    prompt, capacity = plan_prompt(SHAPE, tokens), tokens + 100
    host, cache = cached_run.run(session, ids, cached_run.pasts(session, 0), 0)
    after, _ = cached_run.run(session, [int(host[-1].argmax())], cache, tokens)

    ddr, embedded = model_in_ddr(model), embeddings(ids)
    ddr.write({"head": packed_head()})
    following = head_launch(prompt, bits=8), handover_launch(prompt, capacity)
    hidden = run_prompt(ddr, prompt, embedded, *following)
    truth, ideal = prefill(model, embedded), prefill(model, embedded, ideal=True)
    check("hidden states", hidden, truth[0], ideal[0])
    check("of the last token", hidden[-1], truth[0][-1], ideal[0][-1])
    check_logits("logits", ddr["logits"].view(np.float32), host[-1], 7e-3)  # measured 5.3e-3 and 2.2e-4

    model = replace(model, past=tokens, hidden=embeddings([int(host[-1].argmax())])[0])
    exact, rounded = (replace(model, keys=keys, values=values) for _, keys, values in (truth, ideal))
    found, _, _ = run_token(exact, capacity, cache=ddr["cache"].view(np.uint16))
    check("the next token's", found, decode(exact)[0], to_bf16(decode(rounded, to_bf16)[0]))
    check_logits("its logits", run_head(found), after[-1], 4e-3)  # measured 3.0e-3 and 1.2e-4
