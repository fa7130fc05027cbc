"""Predicted prompts: the goals, and that two short runs stand for a long one."""

from __future__ import annotations

import pytest

from kernels.flow_attention.passes import Span, passes_of, plan_flow_qkv
from kernels.gemma3_shapes import SHAPES
from kernels.matmul_bf16.design import BLOCK_M, plan_matmul
from kernels.predict import paper, prefill
from kernels.prefill_layer.launches import Attention, Plan
from kernels.prefill_rows.design import plan_rows
from kernels.sim import hardware


@pytest.mark.parametrize("name", ["1b", "4b"])
@pytest.mark.parametrize("tokens", [1024, 8192, 32768])
def test_a_prompt_is_faster_than_the_papers(name: str, tokens: int) -> None:
    prompt = prefill.prefill(SHAPES[name], tokens)
    measured = paper.measured(paper.TTFT, name, "npu", tokens)
    print(name, tokens, prompt)
    assert measured is not None
    assert prompt.seconds <= measured / 1.3
    assert prompt.seconds > prompt.ddr > prompt.cores > prompt.roofline


def test_a_short_prompt_costs_less_than_a_block() -> None:
    short, full = (prefill.prefill(SHAPES["1b"], tokens) for tokens in (64, BLOCK_M))
    print(short, full, sep="\n")
    assert short.parts["projections"] < 0.6 * full.parts["projections"]
    assert short.parts["attention"] < full.parts["attention"]
    assert short.parts["rows"] < full.parts["rows"]
    assert short.parts["dequantise"] == full.parts["dequantise"]


def check_the_line(plan: Plan, within: float) -> None:
    """What two short runs say of a launch that is not simulated whole."""
    whole = prefill.whole_times(plan, hardware.TIMES)
    assert prefill.launch_times(plan, hardware.TIMES) == pytest.approx(whole, rel=within), plan


def test_a_projection_of_many_blocks_is_on_the_line() -> None:
    shape = SHAPES["1b"]
    check_the_line(plan_matmul(12 * BLOCK_M, shape.hidden, shape.qkv), 0.01)


@pytest.mark.parametrize("step", ["attention_residual", "gelu_mul", "qk_norm_rope"])
def test_rows_of_many_blocks_are_on_the_line(step: str) -> None:
    check_the_line(plan_rows(SHAPES["1b"], step, 12 * BLOCK_M), 0.01)


@pytest.mark.parametrize(("name", "tokens", "window"), [("1b", 2048, 0), ("1b", 3072, 512), ("4b", 2048, 1024)])
def test_attention_is_the_sum_of_its_passes(name: str, tokens: int, window: int) -> None:
    flow, span = plan_flow_qkv(SHAPES[name]), Span(0, tokens, window)
    check_the_line(Attention(flow, span, passes_of(flow, span).rows), 0.03)
