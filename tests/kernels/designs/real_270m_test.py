"""The real Gemma3-270M through the simulated NPU, a token and a prompt, all layers and the head; against the host."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from ml_dtypes import bfloat16

from kernels.lm_head.design import lm_head
from kernels.matmul_nbits.design import pack_activation
from kernels.prefill_layer.launches import handover_launch, head_launch, plan_prompt
from tests.kernels.designs.decode_token import run_token
from tests.kernels.designs.gemma3_reference import decode, prefill, to_bf16
from tests.kernels.designs.prefill_prompt import model_in_ddr, run_prompt
from tests.kernels.designs.real_270m import (
    FOLDER,
    HEAD,
    SHAPE,
    embeddings,
    kl_divergence,
    open_session,
    packed_head,
    read_model,
    tokenize,
)
from tests.kernels.designs.running import execute, relative_error
from tests.models import cached_run

TEXT = (
    "Water boils at one hundred degrees Celsius at sea level. On a high mountain the air is thinner and the pressure "
    "is lower, so that water boils"
)
LICENSE = (FOLDER.parents[2] / "LICENSE").read_text(encoding="utf-8")

pytestmark = pytest.mark.skipif(
    not (FOLDER / "model.onnx").is_file(), reason=f"{FOLDER} is not there; `make demo` makes it"
)


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
    check_logits("logits", run_head(found), np.asarray(logits).reshape(-1), 1e-3)  # measured 4.4e-5 and 1.4e-5


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
