"""Runs designs in the array simulator with the host-compiled tile kernels."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import numpy as np

from kernels.sim import run
from kernels.sim.checks import memory_use
from kernels.sim.compiled import CompiledKernels


class Compiled(dict[str, Any]):
    """Every symbol of the library, looked up when a design calls it."""

    def __init__(self) -> None:
        super().__init__()
        self._library = CompiledKernels()

    def __contains__(self, symbol: object) -> bool:
        return symbol in self._library.library

    def __missing__(self, symbol: str) -> Any:
        self[symbol] = self._library.symbol(symbol)
        return self[symbol]


def execute(design: Any, *arguments: Any) -> Any:
    """Moves the real bytes; says what it used."""
    result = run(design, *arguments, kernels=Compiled())
    print(resources(result.program))
    return result


def resources(program: Any) -> str:
    """The fullest core and memtile, and the busiest descriptors."""
    used = {place: sum(size for _, size in parts) for place, parts in memory_use(program).items()}
    descriptors: dict[Any, int] = defaultdict(int)
    for channel in program.channels:
        descriptors[channel.place] += len(channel.descriptors)
    lines = []
    for kind, limit in (("core", 64 * 1024), ("mem", 512 * 1024)):
        places = [place for place in used if place.kind == kind]
        if not places:
            continue
        place = max(places, key=lambda p: used[p])
        lines.append(f"{kind} ({place.col}, {place.row}): {used[place]} of {limit} bytes, {descriptors[place]} BDs")
    return f"{len(program.cores)} cores; " + "; ".join(lines) + f"; {len(program.transfers)} shim transfers"


def relative_error(actual: Any, truth: Any) -> float:
    """Euclidean."""
    a, t = (np.asarray(x, dtype=np.float64).ravel() for x in (actual, truth))
    return float(np.linalg.norm(a - t) / np.linalg.norm(t))
