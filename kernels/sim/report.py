"""A design's resources, and where a run's time went, as text: eight columns by six rows, and what each tile does."""

from __future__ import annotations

from collections import defaultdict

from . import hardware
from .checks import memory_use
from .program import ArrayProgram, Place
from .result import TimedRun

WIDTH = 9


def resources(program: ArrayProgram) -> str:
    """What the design takes of each kind of tile: the fullest tile beside the limit, and the memory of every tile."""
    use = memory_use(program)
    rows = [("", "used by the fullest tile", "limit")]
    for kind, label in (("core", "core"), ("mem", "mem tile"), ("shim", "shim")):
        for what, found, limit in _counts(program, kind):
            rows.append((f"{label} {what}", str(found), str(limit)))
    widths = [max(len(row[i]) for row in rows) for i in range(3)]
    table = [f"{a:<{widths[0]}}  {b:>{widths[1]}}  {c:>{widths[2]}}".rstrip() for a, b, c in rows]
    kilobytes = {place: sum(size for _, size in parts) / 1024 for place, parts in use.items()}
    total = {"core": len(program.cores), "streams": len(program.streams), "transfers": len(program.transfers)}
    head = f"{total['core']} cores, {total['streams']} streams, {total['transfers']} transfers of the sequence"
    picture = _grid(program.columns, {place: f"{size:.1f}K" for place, size in kilobytes.items()})
    return "\n".join([head, "", *table, "", "memory in use", picture])


def _counts(program: ArrayProgram, kind: str) -> list[tuple[str, int, int]]:
    """(resource, the most that a tile of this kind uses, limit)."""
    channels: dict[tuple[Place, str], int] = defaultdict(int)
    descriptors: dict[Place, int] = defaultdict(int)
    for channel in program.channels:
        channels[channel.place, channel.direction] += 1
        descriptors[channel.place] += len(channel.descriptors)
    for transfer in program.transfers:
        place = transfer.channel.place
        descriptors[place] = max(descriptors[place], transfer.descriptor + 1)
    locks: dict[Place, int] = defaultdict(int)
    for lock in program.locks:
        locks[lock.place] += 1

    def most(counted: dict[Place, int]) -> int:
        return max((number for place, number in counted.items() if place.kind == kind), default=0)

    found = []
    if kind != "shim":
        use = {place: sum(size for _, size in parts) for place, parts in memory_use(program).items()}
        found.append(("bytes", most(use), hardware.MEMORY_BYTES[kind]))
    for direction in ("S2MM", "MM2S"):
        used = {place: number for (place, d), number in channels.items() if d == direction}
        found.append((f"{direction} channels", most(used), hardware.CHANNELS[kind]))
    found.append(("descriptors", most(descriptors), hardware.DESCRIPTORS[kind]))
    if kind != "shim":
        found.append(("locks", most(locks), hardware.LOCKS[kind]))
    return found


def _grid(columns: int, cells: dict[Place, str]) -> str:
    """The array, row 5 on top."""
    lines = [" " * 6 + "".join(f"{f'col {col}':>{WIDTH}}" for col in range(columns))]
    for row in range(hardware.ROWS - 1, -1, -1):
        name = ("shim", "mem")[row] if row < 2 else f"row {row}"
        texts = [cells.get(Place(col, row), "·") for col in range(columns)]
        lines.append(f"{name:<6}" + "".join(f"{text:>{WIDTH}}" for text in texts))
    return "\n".join(lines)


def picture(run: TimedRun) -> str:
    """Every tile's use: a core's time in kernels, a mem tile's busiest stream, a shim's busiest channel."""
    return _grid(run.program.columns, {place: f"{share:.0%}" for place, share in tile_use(run).items()})


def tile_use(run: TimedRun) -> dict[Place, float]:
    """A fraction for each tile that the design uses."""
    use = {Place(*place): share for place, share in run.core_busy.items()}
    for stream in run.program.streams:
        for channel in (stream.source, *stream.sinks):
            if channel.place.kind != "core":
                use[channel.place] = max(use.get(channel.place, 0.0), run.stream_busy[stream.fifo])
    return use


def where_time_goes(run: TimedRun, most: int = 5) -> str:
    """The limits one after the other, then the FIFOs that cores wait for longest."""
    lines = []
    if run.seconds is not None:
        rate = run.ddr_bytes / run.seconds / 1e9 if run.seconds else 0.0
        lines.append(f"{run.seconds * 1e6:.1f} us; {run.ddr_bytes / 1e6:.2f} MB over the shim = {rate:.1f} GB/s")
    cores = run.core_busy.values()
    average = sum(cores) / len(cores) if cores else 0.0
    top = max(cores, default=0.0)
    lines.append(f"DDR in use {run.ddr_busy:.0%} of the time, cores in kernels {average:.0%} (busiest {top:.0%})")
    busiest = sorted(run.stream_busy.items(), key=lambda item: -item[1])[:most]
    lines.append("busiest streams: " + ", ".join(f"{name} {share:.0%}" for name, share in busiest))
    waits: dict[str, list[float]] = defaultdict(list)
    for by_fifo in run.core_waits.values():
        for name, share in by_fifo.items():
            waits[name].append(share)
    longest = sorted(((max(shares), name) for name, shares in waits.items()), reverse=True)[:most]
    if longest:
        lines.append("cores wait for: " + ", ".join(f"{name} {share:.0%}" for share, name in longest))
    return "\n".join(lines)


def report(run: TimedRun) -> str:
    """All of it."""
    return "\n\n".join([resources(run.program), "use of each tile", picture(run), where_time_goes(run)])
