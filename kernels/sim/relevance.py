"""Which arguments a cycle formula looks at: it is called with ints that notice, and with one that differs."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import cache
from typing import Any

VALUES = (0, 1, 2, 3, 8, 16, 31, 64, 256)  # a formula may branch; what any of these makes it look at counts
NOT_A_LOOK = {"__new__", "__getattribute__", "__getnewargs__", "__sizeof__", "__doc__"}


class _Watched(int):
    seen = False


def _looking(name: str) -> Callable[..., Any]:
    original = getattr(int, name)

    def look(self: _Watched, *others: Any) -> Any:
        self.seen = True
        return original(int.__add__(self, 0), *others)

    return look


for _name in sorted(set(vars(int)) - NOT_A_LOOK):
    if _name.startswith("__") and callable(getattr(int, _name)):
        setattr(_Watched, _name, _looking(_name))


@cache
def looked_at(function: Callable[..., Any], count: int) -> list[bool]:
    """For each of `count` int arguments whether the function's value can depend on it.

    Watching misses what C code does with an int (`range(n)`), so each argument is also varied alone.
    """
    seen = [False] * count
    answered = False
    for value in VALUES:
        watched = [_Watched(value) for _ in range(count)]
        with suppress(Exception):  # a formula that refuses this value, say by dividing by it, has looked at it
            function(*watched)
            answered = True
        varied = [_varies(function, [value] * count, i) for i in range(count)]
        seen = [a or b.seen or c for a, b, c in zip(seen, watched, varied, strict=True)]
    return seen if answered else [True] * count


def _varies(function: Callable[..., Any], arguments: list[int], position: int) -> bool:
    found = set()
    for value in VALUES:
        with suppress(Exception):
            found.add(function(*arguments[:position], value, *arguments[position + 1 :]))
    return len(found) > 1
