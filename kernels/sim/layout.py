"""Where mlir-aie puts the buffers of a core: largest first, round the four banks; one after the other if that fails.

Vector loads and stores need aligned addresses; the allocator does not align, so sizes must.
"""

from __future__ import annotations

from . import hardware
from .errors import DesignError
from .program import ArrayProgram, Core, Memory

BANKS = 4
VECTOR = 64  # bytes of an aligned 512-bit access


def addresses(core: Core, memories: list[Memory]) -> dict[Memory, int]:
    """The address of each buffer in the core's memory."""
    ordered = sorted(memories, key=lambda memory: -memory.nbytes)
    bank_bytes = hardware.MEMORY_BYTES["core"] // BANKS
    free = [bank * bank_bytes for bank in range(BANKS)]
    free[0] += core.stack
    found: dict[Memory, int] = {}
    bank = 0
    for memory in ordered:
        fits = [(bank + step) % BANKS for step in range(BANKS)]
        chosen = next((b for b in fits if free[b] + memory.nbytes <= (b + 1) * bank_bytes), None)
        if chosen is None:
            return _sequential(core.stack, ordered)
        found[memory] = free[chosen]
        free[chosen] += memory.nbytes
        bank = (chosen + 1) % BANKS
    return found


def _sequential(stack: int, ordered: list[Memory]) -> dict[Memory, int]:
    found = {}
    for memory in ordered:
        found[memory] = stack
        stack += memory.nbytes
    return found


def check_alignment(program: ArrayProgram) -> None:
    """Refuses buffers that vector instructions could not address."""
    for core in program.cores:
        memories = [memory for memory in program.memories if memory.place == core.place]
        for memory, address in addresses(core, memories).items():
            if memory.nbytes >= VECTOR and address % VECTOR:
                raise DesignError(
                    "buffer not aligned for vectors",
                    where=f"{core.name}, {memory.name}",
                    found=f"address {address}",
                    limit=f"multiples of {VECTOR}",
                    do=f"Make the stack ({core.stack} bytes) and the larger buffers multiples of {VECTOR} bytes.",
                )
