"""All launches of a prompt on models of a layer or two; real_270m_test.py has a whole one."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from kernels.gemma3_shapes import GEMMA3_1B, GEMMA3_4B, GEMMA3_270M, SHAPES, Gemma3Shape
from kernels.prefill_layer.launches import handover_launch, head_launch, layer_launches, plan_prompt
from tests.kernels.designs.gemma3_reference import prefill, random_model
from tests.kernels.designs.prefill_prompt import lowered, model_in_ddr, run_prompt
from tests.kernels.designs.running import relative_error


def embeddings(tokens: int, hidden: int) -> Any:
    return (3 * np.random.default_rng(tokens).standard_normal((tokens, hidden))).astype(np.float32)


@pytest.mark.parametrize(
    ("shape", "tokens"),
    [
        pytest.param(replace(GEMMA3_270M, layers=2), 64, id="270m"),
        pytest.param(replace(GEMMA3_270M, layers=1, window=64), 140, id="270m, past a window"),
        pytest.param(replace(GEMMA3_1B, layers=1), 64, id="1b"),
        pytest.param(replace(GEMMA3_4B, layers=1, inter=1024), 64, id="4b, narrow"),
    ],
)
def test_a_prompt_equals_the_reference(shape: Gemma3Shape, tokens: int) -> None:
    model, x = random_model(shape, 0), embeddings(tokens, shape.hidden)
    hidden = run_prompt(model_in_ddr(model), plan_prompt(shape, tokens), x)
    truth, ideal = prefill(model, x)[0], prefill(model, x, ideal=True)[0]
    error, allowed = relative_error(hidden, truth), 2 * relative_error(ideal, truth)
    print(f"hidden states: error {error:.2e}, allowed {allowed:.2e}")
    assert error <= allowed


def test_a_prompt_in_two_calls_is_the_prompt_in_one() -> None:
    shape, tokens, first = replace(GEMMA3_270M, layers=2), 200, 128
    model, x = random_model(shape, 0), embeddings(tokens, shape.hidden)
    whole = run_prompt(model_in_ddr(model), plan_prompt(shape, tokens), x)
    ddr, last = model_in_ddr(model), plan_prompt(shape, tokens - first, first)
    parts = [
        run_prompt(ddr, plan_prompt(shape, first, kv_rows=last.kv_rows), x[:first]),
        run_prompt(ddr, last, x[first:]),
    ]
    assert np.array_equal(np.concatenate(parts), whole)


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("tokens", [64, 512])
def test_every_launch_fits_the_array(shape: Gemma3Shape, tokens: int) -> None:
    prompt = plan_prompt(shape, tokens)
    for layer in (0, 5):  # sliding, global
        for launch in layer_launches(prompt, layer):
            lowered(launch.plan)
    lowered(head_launch(prompt).plan)
    lowered(handover_launch(prompt, tokens + 1).plan)


def test_columns_that_would_be_padded_are_refused() -> None:
    prompt = plan_prompt(replace(GEMMA3_270M, inter=1184), 64)
    with pytest.raises(ValueError, match="gate_up of 2368 columns would be padded to 2432"):
        list(layer_launches(prompt, 0))


def test_too_few_rows_of_keys_are_refused() -> None:
    with pytest.raises(ValueError, match="64 rows of keys and values; 64 tokens from 100 on need 280"):
        plan_prompt(GEMMA3_270M, 64, 100, kv_rows=64)
