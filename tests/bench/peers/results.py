"""The file that samples gather in, and what is shown of it: medians, ratios to the best peer, a plot."""

from __future__ import annotations

import hashlib
import json
import statistics
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from onnxruntime_ep_ryzen_npu_gemma.errors import Problem
from onnxruntime_ep_ryzen_npu_gemma.machine import machine_stamp
from onnxruntime_ep_ryzen_npu_gemma.registration import get_library_path
from tests.bench.peers.contest import CELLS, CONTESTANTS, MEMORY, Sample

__all__ = ["Results"]

_ROOT = Path(__file__).parents[3]
_START = ("first token, s", "peak memory, MiB")  # less is better
_COLUMNS = (*(cell.name for cell in CELLS if cell.kind != "start"), *_START)
_OURS = tuple(contestant.name for contestant in CONTESTANTS if not contestant.environment)
_PEERS = tuple(contestant.name for contestant in CONTESTANTS if contestant.environment)


class Results:
    """All samples of one size of model. A column of a contestant that is measured again replaces what was there."""

    def __init__(self, size: str) -> None:
        self.path = _ROOT / "build/peers" / f"{size}.json"
        empty: dict[str, Any] = {"model": size, "cells": {}}
        self.data = json.loads(self.path.read_text(encoding="utf-8")) if self.path.is_file() else empty

    def add(self, samples: Sequence[Sample], threads: int) -> None:
        """Keeps the samples and writes the file."""
        stamp = {**machine_stamp(), "threads": threads, "commit": _commit(), "library": _library()}
        for column, name in dict.fromkeys((sample.column, sample.contestant) for sample in samples):
            same = [sample for sample in samples if (sample.column, sample.contestant) == (column, name)]
            cell = {"values": [sample.value for sample in same], "version": same[0].version, "stamp": stamp}
            self.data["cells"].setdefault(column, {})[name] = cell
        self.path.parent.mkdir(parents=True, exist_ok=True)
        part = self.path.with_suffix(".part")
        part.write_text(json.dumps(self.data, indent=1), encoding="utf-8")
        part.rename(self.path)

    def median(self, column: str, name: str) -> float | None:
        """None where it was not measured."""
        cell = self.data["cells"].get(column, {}).get(name)
        return statistics.median(cell["values"]) if cell else None

    def best_peer(self, column: str) -> float | None:
        """The best median of any peer."""
        values = [value for name in _PEERS if (value := self.median(column, name)) is not None]
        if not values:
            return None
        return min(values) if column in _START else max(values)

    def table(self) -> str:
        """Markdown: medians, then what ours are of the best peer's."""
        columns = [column for column in _COLUMNS if column in self.data["cells"]]
        names = [name for name in (*_OURS, *_PEERS) if any(self.median(c, name) is not None for c in columns)]
        rows = [(name, *(_figure(self.median(c, name)) for c in columns)) for name in names]
        best = [self.best_peer(column) for column in columns]
        for name in names:
            if name in _OURS and any(best):
                pairs = [(self.median(c, name), peer) for c, peer in zip(columns, best, strict=True)]
                ratios = [f"{ours / peer:.2f} ×" if ours and peer else "-" for ours, peer in pairs]
                rows.append((f"**{name} : best peer**", *ratios))
        if any(self.median(column, MEMORY) is not None for column in columns):
            rows.append((MEMORY, *(_figure(self.median(column, MEMORY)) for column in columns)))
        lines = [("tokens/s", *columns), ("---", *["---:"] * len(columns)), *rows]
        return "\n".join(f"| {' | '.join(line)} |" for line in lines)

    def plot(self, path: Path) -> None:
        """Decode speed as the context grows, and prefill; needs matplotlib."""
        import matplotlib

        matplotlib.use("Agg")
        matplotlib.rcParams["svg.hashsalt"] = "peers"  # the same numbers, the same file
        from matplotlib import pyplot

        figure, axes = pyplot.subplots(1, 2, figsize=(11, 4.5), layout="constrained")
        for axis, kind in zip(axes, ("decode", "prefill"), strict=True):
            for name in (*_OURS, *_PEERS):
                cells = [cell for cell in CELLS if cell.kind == kind]
                points = [(c.tokens, value) for c in cells if (value := self.median(c.name, name)) is not None]
                if points:
                    style = "o-" if name in _OURS else "s--"
                    axis.plot(*zip(*points, strict=True), style, label=name, markersize=4)
            axis.set_xscale("log", base=2)
            axis.set_ylim(bottom=0)
            axis.set_xlabel("tokens of context" if kind == "decode" else "tokens of prompt")
            axis.set_ylabel("tokens/s")
            axis.set_title(f"{kind}, {self.data['model']}")
            axis.grid(alpha=0.3)
        axes[0].legend(fontsize=7)
        figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)


def _figure(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def _library() -> str:
    """The start of the SHA-256 of the execution provider that runs: the tree may be ahead of it."""
    try:
        return hashlib.sha256(Path(get_library_path()).read_bytes()).hexdigest()[:16]
    except Problem:
        return "none"


def _commit() -> str:
    """Of this tree; + when it holds what is not committed."""
    git = subprocess.run(["git", "describe", "--always", "--dirty=+"], cwd=_ROOT, capture_output=True, text=True)
    return git.stdout.strip() or "unknown"
