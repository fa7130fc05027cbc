"""What is wrong with a design: what, where, found, the limit, and what to do."""

from __future__ import annotations


class DesignError(ValueError):
    """A design that the hardware, or upstream's compiler, would not take."""

    def __init__(self, what: str, *, where: str, found: object, limit: object = None, do: str) -> None:
        self.what, self.where, self.found, self.limit, self.do = what, where, found, limit, do
        bound = "" if limit is None else f", limit {limit}"
        super().__init__(f"{what}: {where}: found {found}{bound}. {do}")


class Deadlock(RuntimeError):
    """Nothing can happen any more and the sequence still waits. `waits` says who waits for what."""

    def __init__(self, message: str, waits: list[str]) -> None:
        self.waits = waits
        super().__init__("\n  ".join([message, *waits]))
