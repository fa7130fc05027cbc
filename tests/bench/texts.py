"""English texts in the public domain, out of Debian packages: one author to measure on, another to calibrate on.

    persuasion    Jane Austen, Persuasion (r-cran-janeaustenr): 83 000 words of prose
    devil         Ambrose Bierce, The Devil's Dictionary (dict-devil): 61 000 words

Packages are downloaded with apt-get and unpacked under build/texts; nothing is installed.
"""

from __future__ import annotations

import gzip
import struct
import subprocess
import zlib
from collections.abc import Iterator
from pathlib import Path

__all__ = ["devil", "persuasion"]

_FOLDER = Path(__file__).parents[2] / "build/texts"
_AUSTEN = "usr/lib/R/site-library/janeaustenr/data/Rdata.rdb"
_DEVIL = "usr/share/dictd/devil.dict.dz"


def persuasion() -> Path:
    """The novel as a text file."""
    path = _FOLDER / "persuasion.txt"
    if not path.exists():
        novels = _novels(_unpacked("r-cran-janeaustenr", _AUSTEN).read_bytes())
        text = next(novel for novel in novels if novel.startswith("Persuasion\n"))
        path.write_text(text, encoding="utf-8")
    return path


def devil() -> Path:
    """The dictionary as a text file."""
    path = _FOLDER / "devil.txt"
    if not path.exists():
        path.write_bytes(gzip.decompress(_unpacked("dict-devil", _DEVIL).read_bytes()))
    return path


def _unpacked(package: str, member: str) -> Path:
    folder = _FOLDER / package
    if not (folder / member).exists():
        folder.mkdir(parents=True, exist_ok=True)
        subprocess.run(["apt-get", "download", "-qq", package], cwd=folder, check=True)
        (archive,) = folder.glob(f"{package}_*.deb")
        subprocess.run(["dpkg-deb", "-x", archive, folder], check=True)
    return folder / member


def _novels(database: bytes) -> Iterator[str]:
    """The character vectors of R's lazy-load database: each a big-endian length and a zlib stream of R's XDR format."""
    while database:
        stream = zlib.decompressobj()
        data = stream.decompress(database[4:])
        database = stream.unused_data
        yield "\n".join(_strings(data))


def _strings(data: bytes) -> Iterator[str]:
    """The strings of a serialised STRSXP (type 16): a count, then for each its flags, its length and its bytes."""
    at = data.index(b"\0\0\0\x10") + 4
    (count,) = struct.unpack_from(">I", data, at)
    at += 4
    for _ in range(count):
        _, length = struct.unpack_from(">Ii", data, at)
        yield data[at + 8 : at + 8 + max(length, 0)].decode("utf-8")
        at += 8 + max(length, 0)
