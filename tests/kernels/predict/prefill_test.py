"""Predicted prompts: the goals, and that two short runs stand for a long one."""

from __future__ import annotations

import pytest

from kernels.flow_attention.design import Span, flow_qkv, passes_of, plan_flow_qkv
from kernels.gemma3_shapes import SHAPES
from kernels.matmul_bf16.design import BLOCK_M, matmul, plan_matmul
from kernels.predict import paper, prefill
from kernels.predict.costs import kernel_costs
from kernels.prefill_rows.design import plan_rows, rows
from kernels.sim import hardware, time_design


@pytest.mark.parametrize("name", ["1b", "4b"])
@pytest.mark.parametrize("tokens", [1024, 8192, 32768])
def test_a_prompt_is_faster_than_the_papers(name: str, tokens: int) -> None:
    prompt = prefill.prefill(SHAPES[name], tokens)
    measured = paper.measured(paper.TTFT, name, "npu", tokens)
    print(name, tokens, prompt)
    assert measured is not None
    assert prompt.seconds <= measured / 1.3
    assert prompt.seconds > prompt.roofline


def test_a_projection_of_many_blocks_is_on_the_line() -> None:
    shape, blocks = SHAPES["1b"], 12
    whole = time_design(matmul(plan_matmul(blocks * BLOCK_M, shape.hidden, shape.qkv)), kernels=kernel_costs()).seconds
    assert prefill._projection(shape.hidden, shape.qkv, blocks, hardware.TIMES) == pytest.approx(whole, rel=0.01)


def test_rows_of_many_blocks_are_on_the_line() -> None:
    shape, blocks = SHAPES["1b"], 12
    for step in ("attention_residual", "gelu_mul", "qk_norm_rope"):
        whole = time_design(rows(plan_rows(shape, step, blocks * BLOCK_M)), kernels=kernel_costs()).seconds
        assert prefill._rows(shape, step, blocks, hardware.TIMES) == pytest.approx(whole, rel=0.01), step


@pytest.mark.parametrize(("name", "tokens", "window"), [("1b", 2048, 0), ("1b", 3072, 512), ("4b", 2048, 1024)])
def test_attention_is_the_sum_of_its_passes(name: str, tokens: int, window: int) -> None:
    shape = SHAPES[name]
    plan, span = plan_flow_qkv(shape), Span(0, tokens, window)
    whole = time_design(flow_qkv(plan, span, passes_of(plan, span).rows), kernels=kernel_costs()).seconds
    assert prefill._attention(shape, tokens, window, hardware.TIMES) == pytest.approx(whole, rel=0.03)
