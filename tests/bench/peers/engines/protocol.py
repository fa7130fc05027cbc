"""What an engine's process does: reads one JSON command a line, runs it, answers with one line.

An adapter is a script beside this one. It runs in its engine's own environment, so only the standard library and numpy
are imported here, and the adapters are started by path: python engines/X.py MODEL --threads 2 --context 4096 [...].

    {"load": ids}          the model is loaded and the ids are run; seconds until the next token is known
    {"prefill": ids}       a new sequence; seconds until the token after it is known
    {"decode": n}          n more tokens of that sequence, each the likeliest one, one by one; seconds
    {"memory": true}       peak resident set of the process, bytes
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
import time
from collections.abc import Callable, Sequence
from typing import Protocol


class Engine(Protocol):
    """One loaded model. The imports that it needs are done before it is made, so that they are not timed."""

    def prefill(self, ids: Sequence[int]) -> None:
        """Forgets everything, runs the ids, chooses the token after them."""

    def decode(self, tokens: int) -> float | None:
        """Runs that many tokens. An engine that cannot do that alone gives the seconds of the part that did."""


def serve(make: Callable[[argparse.Namespace], Engine], version: str, parser: argparse.ArgumentParser) -> None:
    """Answers commands until stdin ends."""
    parser.add_argument("model")
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--context", type=int, required=True, help="tokens that the cache must hold")
    args = parser.parse_args()
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # engines print as they please
    engine: Engine | None = None
    answers.write(json.dumps({"version": version}) + "\n")
    for line in sys.stdin:
        ((command, value),) = json.loads(line).items()
        start = time.perf_counter()
        seconds = None
        if command == "load":
            engine = make(args)
            engine.prefill(value)
        elif command == "memory":
            answers.write(json.dumps({"bytes": _peak_resident()}) + "\n")
            continue
        else:
            assert engine is not None, "load comes first"
            seconds = engine.prefill(value) if command == "prefill" else engine.decode(value)
        if seconds is None:
            seconds = time.perf_counter() - start
        answers.write(json.dumps({"seconds": seconds}) + "\n")


def _peak_resident() -> int:
    with open("/proc/self/status", encoding="ascii") as file:
        kilobytes = re.search(r"VmHWM:\s+(\d+) kB", file.read())
    assert kilobytes is not None
    return int(kilobytes[1]) * 1024
