"""The facts that kernels are written to, and those that the simulator and the contracts use, are the same."""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path

import pytest

from kernels import contract
from kernels.sim import hardware

HEADER = Path(__file__).resolve().parents[3] / "kernels" / "aie2p.h"


def _constant(name: str) -> int:
    found = re.search(rf"constexpr int {name} = ([^;]+);", HEADER.read_text())
    assert found, f"{HEADER.name} has no {name}"
    return int(eval(found[1], {"__builtins__": {}}))


def test_the_memory_of_a_core() -> None:
    assert _constant("kDataMemoryBytes") == hardware.MEMORY_BYTES["core"] == contract.L1_BYTES


def _contracts() -> list[contract.KernelContract]:
    modules = [
        import_module(f"kernels.{path.parent.name}.contract") for path in sorted(HEADER.parent.glob("*/contract.py"))
    ]
    return [promised for module in modules for promised in module.CONTRACTS]


@pytest.mark.parametrize("promised", _contracts(), ids=lambda promised: promised.symbol)
def test_a_contract_has_the_signature_of_its_kernel(promised: contract.KernelContract) -> None:
    source = (HEADER.parent / promised.source).read_text()
    signature = re.search(rf"AIE2P_KERNEL void {promised.symbol}\(([^)]*)\)", source)
    assert signature, f"{promised.source} does not define {promised.symbol}"
    parameters = [
        re.fullmatch(r"(const )?(\w+)(\* __restrict)? (\w+)", part.strip()) for part in signature[1].split(",")
    ]
    assert all(parameters), signature[1]
    types = {
        "bfloat16": "bfloat16",
        "float": "float32",
        "int32_t": "int32",
        "uint8_t": "uint8",
        "bfp16ebs8": "bfp16ebs8",
    }
    found = [(p[4], types[p[2]], bool(p[3]), bool(p[1])) for p in parameters if p]
    told = [(arg.name, arg.dtype, arg.role != "scalar", arg.role == "in") for arg in promised.args]
    assert found == told  # name, type, whether a pointer, whether const
