"""What of a design is compiled: everything but what its runtime sequence sends."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from kernels.sim import lower


@dataclass(frozen=True)
class Configuration:
    """Two designs with equal ones differ only in transfers and run-time parameters."""

    memories: list[Any]
    channels: list[Any]
    cores: list[list[str]]


def configuration(design: Any) -> Configuration:
    """That of a design."""
    program = lower(design)
    return Configuration(
        [(m.place, m.name, m.shape) for m in program.memories],
        [(c.place, c.direction, c.index, c.fifo, len(c.descriptors)) for c in program.channels],
        [_rendered(core.program) for core in program.cores],
    )


def _argument(given: Any) -> str:
    """A FIFO's element, a buffer or a number, as text."""
    return str(given.handle.name if hasattr(given, "handle") else getattr(given, "_name", given))


def _rendered(program: list[Any]) -> list[str]:
    """A core's program as text."""
    lines = []
    for op in program:
        match type(op).__name__:
            case "Loop":
                lines += [f"loop {op.start} {op.stop}", *_rendered(op.body), "end"]
            case "Call":
                lines.append(f"{op.kernel._name}({', '.join(map(_argument, op.arguments))})")
            case "Acquire" | "Release":
                lines.append(f"{type(op).__name__} {op.handle.name} {op.count}")
            case kind:
                lines.append(kind)
    return lines
