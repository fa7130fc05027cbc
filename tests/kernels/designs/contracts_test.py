"""Designs call kernels as their contracts say, from the object file of their folder, on a stack that is deep enough."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kernels.decode_layer.design import decode_layer
from kernels.decode_layer.plan import make_plan
from kernels.decode_layer.token import Token
from kernels.dequantize_q4nx.design import dequantize, plan_dequantize
from kernels.flow_attention.design import flow_qkv
from kernels.flow_attention.passes import Span, plan_flow_qkv
from kernels.gemma3_shapes import GEMMA3_1B, GEMMA3_4B
from kernels.lm_head.design import lm_head, plan_lm_head
from kernels.matmul_bf16.design import matmul, plan_matmul
from kernels.matmul_nbits.design import plan_projection, projection
from kernels.prefill_rows.design import FIRST_STEP, STEPS, plan_rows, rows
from kernels.sim import lower

KERNELS = Path(__file__).parents[3] / "kernels"
CONTRACTS = {
    contract.symbol: contract
    for folder in sorted(KERNELS.iterdir())
    if (folder / "contract.py").is_file()
    for contract in import_module(f"kernels.{folder.name}.contract").CONTRACTS
}
DESIGNS = {
    "decode, 1b": lambda: decode_layer(make_plan(GEMMA3_1B), Token(100, 1024)),
    "decode, 4b": lambda: decode_layer(make_plan(GEMMA3_4B), Token(100, 1024)),
    "head, 4 bits": lambda: lm_head(plan_lm_head(GEMMA3_1B)),
    "head, 8 bits": lambda: lm_head(plan_lm_head(GEMMA3_4B, bits=8)),
    "projection": lambda: projection(plan_projection(1536, 640)),
    "dequantise": lambda: dequantize(plan_dequantize(plan_matmul(512, 640, 640))),
    "matmul": lambda: matmul(plan_matmul(512, 640, 640)),
    "FlowQKV": lambda: flow_qkv(plan_flow_qkv(GEMMA3_1B), Span(0, 1024)),
    **{step: lambda step=step: rows(plan_rows(GEMMA3_1B, step, 512)) for step in (FIRST_STEP, *STEPS)},
}


def calls(program: list[Any]) -> Iterator[Any]:
    for op in program:
        match type(op).__name__:
            case "Call":
                yield op
            case "Loop":
                yield from calls(op.body)
            case "If":
                yield from calls(op.then)
                yield from calls(op.orelse)


@pytest.mark.parametrize("name", DESIGNS)
def test_kernels_are_called_by_their_contracts(name: str) -> None:
    program = lower(DESIGNS[name]())
    used = {call.kernel._name: call.kernel for core in program.cores for call in calls(core.program)}
    assert used
    for symbol, kernel in used.items():
        contract = CONTRACTS[symbol]
        op = contract.source.split("/")[0]
        assert kernel.object_file_name == f"{op}_aie2p.o"
        types = kernel.arg_types()
        assert len(types) == len(contract.args), f"{symbol} takes {[arg.name for arg in contract.args]}"
        for kind, arg in zip(types, contract.args, strict=True):
            assert (kind is np.int32) == (arg.role == "scalar"), f"{symbol}: {arg.name}"
    deepest = max(CONTRACTS[symbol].stack_bytes for symbol in used)
    for core in program.cores:
        assert core.stack >= deepest, f"{name}: a kernel needs {deepest} bytes of stack, {core.place} has {core.stack}"
