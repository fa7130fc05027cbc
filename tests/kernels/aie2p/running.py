"""Runs a host-compiled tile kernel by its contract, and judges it by that."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from kernels import bfp16
from kernels.aie_emulation import host_library
from kernels.contract import Arg, KernelContract

CONV_EVEN = 12

Arrays = dict[str, np.ndarray[Any, Any]]


@dataclass(frozen=True)
class Run:
    """What a call left behind: arrays as float64 (bytes stay bytes), and what it cost."""

    outputs: Arrays
    counters: host_library.Counters


def run(contract: KernelContract, **args: Any) -> Run:
    """Calls the kernel on a core that has just powered up. Arrays hold values; bfp16 buffers hold bytes."""
    library = host_library.load()
    raw = [_to_memory(arg, args[arg.name]) for arg in contract.args]
    library.reset_core()
    library.call(contract.symbol, *raw)
    counters = library.counters()
    assert counters.misaligned == 0, f"{contract.symbol} made accesses that a core would truncate"
    assert library.rounding() == CONV_EVEN, f"{contract.symbol} does not set the rounding mode"
    outputs = {
        a.name: _from_memory(a, m) for a, m in zip(contract.args, raw, strict=True) if a.role in ("out", "inout")
    }
    return Run(outputs, counters)


def judge(contract: KernelContract, shape: dict[str, int], **args: Any) -> Run:
    """Runs it; its results, its cycles and its L1 bytes must be what the contract says."""
    contract.check(**shape)
    for arg in contract.args:
        if arg.shape:
            size = np.asarray(args[arg.name]).nbytes if arg.dtype in ("uint8", "bfp16ebs8") else None
            assert size is None or size == arg.bytes(**shape), (
                f"{arg.name}: {size} bytes, {arg.bytes(**shape)} promised"
            )
    result = run(contract, **args)
    truth, ideal = contract.reference(**args), (contract.ideal or contract.reference)(**args)
    for name, expected in truth.items():
        excess = contract.tolerance.excess(result.outputs[name], expected, ideal[name])
        assert excess <= 1, f"{contract.symbol} {shape}: {name} has {excess:.3f} of the error that is allowed"
    assert result.counters.cycles == contract.cycles(**shape), f"{contract.symbol} {shape}: {result.counters}"
    return result


def _to_memory(arg: Arg, value: Any) -> Any:
    if arg.role == "scalar":
        return int(value)
    if arg.dtype == "bfloat16":
        return host_library.aligned_copy(host_library.bfloat16_bits(value))
    dtype = {"float32": np.float32, "int32": np.int32, "uint8": np.uint8, "int8": np.int8, "bfp16ebs8": np.uint8}
    return host_library.aligned_copy(np.asarray(value, dtype[arg.dtype]))


def _from_memory(arg: Arg, memory: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    if arg.dtype == "bfloat16":
        return host_library.bfloat16_values(memory).astype(np.float64)
    if arg.dtype == "bfp16ebs8":
        return bfp16.decode(memory)
    return memory.astype(np.float64)
