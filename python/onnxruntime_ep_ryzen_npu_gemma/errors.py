"""The one error that users see: what failed, where, what was found there, and what to do about it.

Every check of outside input raises a `Problem`. Commands print it as one line, or as JSON with `--json`; nothing else
about it is formatted anywhere.
"""

from __future__ import annotations

__all__ = ["Problem"]


class Problem(Exception):
    """A failure that can be explained to the person who caused it or must repair it.

    Attributes:
        what: what could not be done, as a short clause without a full stop.
        where: the file, tensor, key, option or node that it is about.
        found: what was there instead of what was expected.
        do: the next step for the reader.
    """

    def __init__(self, what: str, where: object, found: object, do: str) -> None:
        super().__init__(what, where, found, do)
        self.what = what
        self.where = str(where)
        self.found = str(found)
        self.do = do

    def __str__(self) -> str:
        """One line; control characters of hostile file names and keys are escaped."""
        line = f"{self.what}: {self.where}: found {self.found}; {self.do}"
        return "".join(c if c.isprintable() else repr(c)[1:-1] for c in line)

    def to_json(self) -> dict[str, dict[str, str]]:
        """The object that `--json` prints on failure."""
        return {"error": {"what": self.what, "where": self.where, "found": self.found, "do": self.do}}
