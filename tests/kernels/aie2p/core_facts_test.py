"""The facts that kernels are written to, and those that the simulator and the contracts use, are the same."""

from __future__ import annotations

import re
from pathlib import Path

from kernels import contract
from kernels.sim import hardware

HEADER = Path(__file__).resolve().parents[3] / "kernels" / "aie2p.h"


def _constant(name: str) -> int:
    found = re.search(rf"constexpr int {name} = ([^;]+);", HEADER.read_text())
    assert found, f"{HEADER.name} has no {name}"
    return int(eval(found[1], {"__builtins__": {}}))


def test_the_memory_of_a_core() -> None:
    assert _constant("kDataMemoryBytes") == hardware.MEMORY_BYTES["core"] == contract.L1_BYTES


def test_every_contract_names_a_file_and_a_symbol_in_it() -> None:
    from kernels.dequantize_q4nx import contract as dequantize
    from kernels.matmul_bf16 import contract as matmul
    from kernels.matmul_nbits import contract as fused

    for promised in (*dequantize.CONTRACTS, *matmul.CONTRACTS, *fused.CONTRACTS):
        source = (HEADER.parent / promised.source).read_text()
        signature = re.search(rf"AIE2P_KERNEL void {promised.symbol}\(([^)]*)\)", source)
        assert signature, f"{promised.source} does not define {promised.symbol}"
        names = [re.search(r"(\w+)\s*$", part.strip())[1] for part in signature[1].split(",")]  # type: ignore[index]
        assert names == [arg.name for arg in promised.args]
