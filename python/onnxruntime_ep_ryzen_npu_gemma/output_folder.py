"""A folder that appears whole or not at all: written beside its final place under another name, then renamed."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from .errors import Problem

__all__ = ["check_output", "output_folder"]


def check_output(out: Path, *, force: bool, must_have: Sequence[str], keep: Path) -> None:
    """Refuses an output folder that must not be written.

    Args:
        out: the folder to make.
        force: whether an existing one may be replaced.
        must_have: names that a replaceable folder holds, so that a slip of the pen deletes nothing else.
        keep: the input, which the output must not replace.

    Raises:
        Problem: see above, or the parent folder is missing.
    """
    if not out.parent.is_dir():
        raise Problem("no folder for the output", out.parent, "nothing there", "make the folder, or check the path")
    if not os.path.lexists(out):
        return
    if keep.resolve().is_relative_to(out.resolve()):
        raise Problem("the output would replace the input", out, str(keep), "give another output folder")
    if not force:
        raise Problem("the output exists", out, "something there", "give another folder, or --force to replace it")
    if out.is_symlink() or not out.is_dir() or not all((out / name).is_file() for name in must_have):
        found = f"something else than a folder with {' and '.join(must_have)}"
        raise Problem(
            "--force replaces converted models only", out, found, "remove it yourself, or give another folder"
        )


@contextmanager
def output_folder(out: Path) -> Iterator[Path]:
    """Gives a new folder to write into; it takes the place of `out` on success and vanishes on any failure."""
    parts = Path(tempfile.mkdtemp(prefix=f".{out.name[:64]}.", dir=out.parent))
    try:
        new, old = parts / "new", parts / "old"
        new.mkdir()  # unlike mkdtemp's, with the user's own permissions
        yield new
        for file in (*new.iterdir(), new):
            _sync(file)
        if out.exists():
            out.rename(old)
        try:
            new.rename(out)
        except OSError:
            if old.exists():
                old.rename(out)
            raise
    finally:
        shutil.rmtree(parts, ignore_errors=True)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
