"""Text for people: aligned tables and quantities, safe to print whatever a model file put into its names."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["count", "percent", "printable", "table"]


def printable(text: str) -> str:
    """The text with control characters escaped, so that a name cannot steer the terminal."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def percent(share: float) -> str:
    """A share of 1, as "99.9 %"; only what is everything shows as 100.0."""
    tenths = int(share * 1000 + 0.5)
    return f"{min(tenths, 999) / 10 if share < 1 else 100.0:.1f} %"


def count(number: int) -> str:
    """A large count with three digits or more: "987", "12.3 k", "268 M"."""
    for exponent, unit in ((9, "G"), (6, "M"), (3, "k")):
        value = number / 10**exponent
        if value >= 1:
            return f"{value:.0f} {unit}" if value >= 100 else f"{value:.1f} {unit}"
    return str(number)


def table(header: Sequence[str], rows: Sequence[Sequence[str]], right: frozenset[str] = frozenset()) -> str:
    """Columns as wide as their widest cell, two spaces apart.

    Args:
        header: the columns' names.
        rows: as many cells each.
        right: the names of the columns to align to the right.
    """
    lines = [header, *([printable(cell) for cell in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if name in right else cell.ljust(width)
            for name, cell, width in zip(header, line, widths, strict=True)
        ).rstrip()
        for line in lines
    )
