"""What the hardware has too little of, and core programs that cannot go on for ever."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

from . import hardware
from .errors import DesignError
from .layout import check_alignment
from .program import ArrayProgram, Core, Memory, Place
from .routing import route


def check_program(program: ArrayProgram) -> None:
    """Memory, locks, descriptors and streams."""
    _spill(program)
    _check_memory(program)
    check_alignment(program)
    _check_locks(program)
    _check_descriptors(program)
    route(program)


def memory_use(program: ArrayProgram) -> dict[Place, list[tuple[str, int]]]:
    """What lies in each tile's memory: (name, bytes), the stack first."""
    use: dict[Place, list[tuple[str, int]]] = defaultdict(list)
    for core in program.cores:
        use[core.place].append(("stack", core.stack))
    for memory in program.memories:
        use[memory.place].append((memory.name, memory.nbytes))
    return use


def _spill(program: ArrayProgram) -> None:
    """Buffers that a full mem tile cannot hold go to a neighbour's memory, as upstream's do."""
    used: dict[Place, int] = defaultdict(int)
    moved: set[Memory] = set()
    capacity = hardware.MEMORY_BYTES["mem"]
    for memory in program.memories:
        home = memory.place
        if home.kind == "mem" and used[home] + memory.nbytes > capacity:
            neighbours = [Place(home.col + step, 1) for step in (-1, 1) if 0 <= home.col + step < program.columns]
            memory.place = next((n for n in neighbours if used[n] + memory.nbytes <= capacity), home)
            if memory.place != home:
                moved.add(memory)
        used[memory.place] += memory.nbytes
    for channel in program.channels:
        if channel.index >= hardware.NEIGHBOUR_CHANNELS and any(d.memory in moved for d in channel.descriptors):
            raise DesignError(
                "channel cannot reach a neighbour's memory",
                where=str(channel),
                found=f"channel {channel.index}",
                limit=f"channels 0 to {hardware.NEIGHBOUR_CHANNELS - 1}",
                do="Use less memory on this mem tile.",
            )


def _check_memory(program: ArrayProgram) -> None:
    for place, parts in sorted(memory_use(program).items()):
        total, limit = sum(size for _, size in parts), hardware.MEMORY_BYTES[place.kind]
        if total > limit:
            largest = sorted(_grouped(parts).items(), key=lambda item: -item[1])[:4]
            listed = ", ".join(f"{name} {size}" for name, size in largest)
            raise DesignError(
                f"{'L1' if place.kind == 'core' else 'L2'} overflow",
                where=str(place),
                found=f"{total} bytes ({listed})",
                limit=f"{limit} bytes",
                do="Use smaller objects or a smaller depth.",
            )


def _grouped(parts: Iterable[tuple[str, int]]) -> dict[str, int]:
    total: dict[str, int] = defaultdict(int)
    for name, size in parts:
        total[name.split("_buff_")[0]] += size
    return total


def _check_locks(program: ArrayProgram) -> None:
    count: dict[Place, int] = defaultdict(int)
    for lock in program.locks:
        count[lock.place] += 1
    for place, number in sorted(count.items()):
        limit = hardware.LOCKS[place.kind]
        if number > limit:
            raise DesignError(
                "too many locks",
                where=str(place),
                found=number,
                limit=limit,
                do="Each FIFO end takes two, each part of a split or join two, each barrier one: use fewer.",
            )


def _check_descriptors(program: ArrayProgram) -> None:
    count: dict[tuple[Place, int], int] = defaultdict(int)
    users: dict[tuple[Place, int], list[str]] = defaultdict(list)
    for channel in program.channels:
        parity = channel.index % 2 if channel.place.kind == "mem" else 0
        count[channel.place, parity] += len(channel.descriptors)
        users[channel.place, parity].append(f"{channel.fifo} {channel.direction} {len(channel.descriptors)}")
    for (place, parity), number in sorted(count.items()):
        limit = hardware.DESCRIPTORS_PER_PARITY if place.kind == "mem" else hardware.DESCRIPTORS[place.kind]
        if number > limit:
            which = f", {'odd' if parity else 'even'} channels" if place.kind == "mem" else ""
            raise DesignError(
                "too many buffer descriptors",
                where=f"{place}{which}",
                found=f"{number} ({', '.join(users[place, parity])})",
                limit=limit,
                do="Reduce depths; a split or join takes depth × parts on its whole side.",
            )


def check_core_program(core: Core) -> None:
    """Counts what a core holds of each FIFO, in program order as upstream does; fills `acquires` and `positions`.

    An acquire takes only what is missing to its count. So a loop must release what it acquires: else its next round
    takes another number than the compiler assumed, and in the end it waits for an object that never comes.
    """
    held: dict[Any, int] = defaultdict(int)
    _walk(core, core.program, held, "the core function" if core.forever else "")
    if core.forever:
        _check_round(core, {}, held, "the core function, which runs for ever,")


def _walk(core: Core, program: list[Any], held: dict[Any, int], where: str) -> None:
    for op in program:
        match type(op).__name__:
            case "Acquire":
                core.acquires[op] = max(0, op.count - held[op.handle])
                held[op.handle] = max(op.count, held[op.handle])
            case "Release":
                if op.count > held[op.handle]:
                    raise DesignError(
                        "release of what is not held",
                        where=f"{core.name}, fifo {op.handle.name}",
                        found=f"release({op.count}) with {held[op.handle]} held",
                        do="Acquire before, or release fewer.",
                    )
                held[op.handle] -= op.count
            case "Loop":
                before = dict(held)
                _walk(core, op.body, held, where)
                if not _runs_once(op):
                    _check_round(core, before, held, "a loop")
            case "If":
                other = defaultdict(int, held)
                _walk(core, op.then, held, where)
                _walk(core, op.orelse, other, where)
                for handle in {*held, *other}:
                    if held[handle] != other[handle]:
                        raise DesignError(
                            "branches hold different numbers",
                            where=f"{core.name}, fifo {handle.name}",
                            found=f"{held[handle]} and {other[handle]} objects",
                            do="Acquire and release outside of if_.",
                        )
            case "Call" | "Store":
                _check_held(core, op, held)


def _check_held(core: Core, op: Any, held: dict[Any, int]) -> None:
    used = op.arguments if type(op).__name__ == "Call" else (op.target,)
    for element in used:
        if type(element).__name__ == "Element" and held[element.handle] == 0:
            raise DesignError(
                "object used after its release",
                where=f"{core.name}, fifo {element._label}",
                found="0 objects held",
                do="Release after the last use.",
            )


def _runs_once(loop: Any) -> bool:
    bounds = (loop.start, loop.stop, loop.step)
    if any(bound.kind != "const" for bound in bounds):
        return False
    return len(range(*(bound.operands[0] for bound in bounds))) <= 1


def _check_round(core: Core, before: dict[Any, int], after: dict[Any, int], where: str) -> None:
    for handle, count in after.items():
        grown = count - before.get(handle, 0)
        if grown > 0:
            verb = "a missing release" if before.get(handle, 0) == 0 else "releases too few"
            raise DesignError(
                verb,
                where=f"{core.name}, fifo {handle.name}: {where} holds {grown} more after every round",
                found=f"{count} objects held at its end",
                limit=f"{before.get(handle, 0)}, as at its start",
                do=f"Call {handle.name}'s release({grown}) before the round ends.",
            )
        if grown < 0:
            raise DesignError(
                "releases too many",
                where=f"{core.name}, fifo {handle.name}: {where} holds {-grown} fewer after every round",
                found=f"{count} objects held at its end",
                limit=f"{before.get(handle, 0)}, as at its start",
                do="Acquire as many as are released.",
            )
