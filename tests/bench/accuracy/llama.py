"""llama.cpp as a peer: its own quantiser, and its own run, 8-bit activations included, in an environment of its own."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from tests.bench.peers.environments import environment

__all__ = ["LlamaCppModel", "quantize"]

_LOGITS = Path(__file__).with_name("llama_logits.py")
_QUANTIZE = Path(__file__).parents[1] / "peers" / "quantize_gguf.py"
_CHUNK = 128  # positions, as the child gives them


def quantize(source: Path, out: Path, ftype: str, *, pure: bool) -> None:
    """Writes a GGUF file of the source's weights, as llama-quantize does.

    Args:
        source: a GGUF file in float32.
        out: the file to write.
        ftype: as llama-quantize calls it.
        pure: all matrices get that type; else llama.cpp gives some of them more bits.
    """
    command = [environment("llama_cpp"), _QUANTIZE, source, out, ftype, *(["--pure"] if pure else [])]
    subprocess.run(command, check=True, stdout=sys.stderr)


class LlamaCppModel:
    """A GGUF file that llama.cpp runs, in a process of its own that ends with this one."""

    def __init__(self, path: Path, vocab_size: int) -> None:
        self._vocab_size = vocab_size
        self._process = subprocess.Popen(
            [environment("llama_cpp"), _LOGITS, path],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )

    def logits(self, ids: Sequence[int]) -> Iterator[np.ndarray]:
        """Runs a sequence from its start; gives float32 logits [T, V], T positions after T, in order."""
        assert self._process.stdin is not None
        self._process.stdin.write(np.array([len(ids), *ids], "<i4").tobytes())
        self._process.stdin.flush()
        for start in range(0, len(ids), _CHUNK):
            yield self._read(min(_CHUNK, len(ids) - start))

    def close(self) -> None:
        """Ends the process."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait()

    def _read(self, rows: int) -> np.ndarray:
        assert self._process.stdout is not None
        logits_TV = np.empty((rows, self._vocab_size), np.float32)
        view = memoryview(logits_TV).cast("B")
        at = 0
        while at < len(view):
            count = self._process.stdout.readinto(view[at:])  # type: ignore[attr-defined]
            if not count:
                raise RuntimeError(f"llama.cpp stopped: exit code {self._process.wait()}")
            at += count
        return logits_TV
