"""Who waits for whom, when nothing moves any more."""

from __future__ import annotations

from typing import Any


def explain_deadlock(engine: Any) -> list[str]:
    """One line for everyone that stands still in the middle of something; the sequence first."""
    lines = []
    waiting = engine.sequence.waiting
    if waiting is not None:
        run, end = engine.shim_ends[waiting.channel]
        left = end.left if end.queue and end.queue[0] is waiting else waiting.nbytes
        lines.append(f"the runtime sequence waits for {waiting}: {left} of {waiting.pattern.nbytes} bytes are missing")
    for core in engine.cores:
        if core.blocked is not None:
            lines.append(_core_line(engine, core))
    for run in engine.streams:
        line = _stream_line(engine, run)
        if line:
            lines.append(line)
    return lines


def _core_line(engine: Any, core: Any) -> str:
    wait = core.blocked
    name = core.core.name
    rounds = f" after {core.rounds} rounds" if core.core.forever else ""
    if wait.port is None:
        return f"{name}{rounds} waits for its barrier: it is {wait.lock.v}, wanted {wait.objects}"
    port = wait.port
    wanted = "room for" if port.is_producer else "an object of" if wait.objects == 1 else f"{wait.objects} objects of"
    state = f"{wait.lock.v} of {port.depth} {'free' if port.is_producer else 'full'}"
    return f"{name}{rounds} waits for {wanted} fifo {port.name} ({state}): {_who_releases(engine, wait.lock, core)}"


def _who_releases(engine: Any, lock: Any, waiter: Any) -> str:
    for run in engine.streams:
        for end in run.ends:
            if any(step[2] is lock for step in getattr(end, "steps", ())):
                return f"stream {run.stream.fifo} must {'send' if end is run.source else 'bring'} it"
    for core in engine.cores:
        for port in core.core.ports.values():
            if engine.locks[port.release_lock] is lock:
                held = "itself, which holds them" if core is waiter else "and has not released it"
                return f"{core.core.name} must release it {held}"
    return "nobody releases it"


def _stream_line(engine: Any, run: Any) -> str:
    missing = [end for end in run.ends if not end.left]
    started = any(end.left for end in run.ends) or any(getattr(end, "queue", None) for end in run.ends)
    if run.moving or not started:
        return ""
    reasons = []
    for end in missing:
        if hasattr(end, "queue"):
            verb = "fill" if end is run.source else "drain"
            if not end.queue:
                reasons.append(f"no {verb} is queued at {end.channel.place}")
        else:
            lock, count, *_ = end.steps[end.position]
            if lock.v < count:
                wanted = "a full object" if end is run.source else "a free object"
                reasons.append(f"{end.channel.place} has no {wanted} ({lock.v} of {len(end.steps)})")
    return f"stream {run.stream.fifo} waits: {'; '.join(reasons)}" if reasons else ""
