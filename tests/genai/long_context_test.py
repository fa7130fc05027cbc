"""The whole context of the real model in genai, in bounded memory.  Slow: `make test-slow`."""

from __future__ import annotations

import resource
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.genai.generating import greedy, make

pytestmark = pytest.mark.slow

_CONTEXT, _NEW = 32768, 64


def test_the_whole_context(on_ep: Any) -> None:
    """Three global layers of 32768 rows, fifteen of 1023, 1 kB each: 112 MB, and what a chunk of 512 takes."""
    greedy(make(on_ep, [2, 818]), 2)  # what is allocated once
    before = _resident_bytes()
    ids = np.random.default_rng(0).integers(1000, 200_000, _CONTEXT - _NEW)
    generator = make(on_ep, ids, max_length=_CONTEXT, min_length=_CONTEXT)
    assert len(greedy(generator, 10 * _NEW)) == _NEW
    grown = _resident_bytes() - before
    print("resident bytes", grown)
    assert grown < 200e6


def _resident_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()
