"""What a conversion lost, tensor by tensor: a table, a summary by type, a picture."""

from __future__ import annotations

import dataclasses
import importlib.util
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .errors import Problem
from .quantization import QuantizedTensor

__all__ = ["by_type", "check_drawing", "draw", "write_table"]

_LAYER = re.compile(r"model\.layers\.(\d+)\.(?:self_attn|mlp)\.(\w+)\.weight")


def write_table(tensors: Sequence[QuantizedTensor], path: Path) -> None:
    """Writes one line a tensor, tab-separated, a line of names first."""
    header = [field.name for field in dataclasses.fields(QuantizedTensor)]
    lines = [[f"{value:.6g}" if isinstance(value, float) else str(value) for value in dataclasses.astuple(tensor)]
             for tensor in tensors]  # fmt: skip
    path.write_text("".join("\t".join(line) + "\n" for line in [header, *lines]), encoding="utf-8")


def by_type(tensors: Sequence[QuantizedTensor]) -> list[dict[str, Any]]:
    """One entry for each (type in the source, bits, how): how many tensors, and their error weighted by size."""
    groups: dict[tuple[str, int, str], list[QuantizedTensor]] = {}
    for tensor in tensors:
        groups.setdefault((tensor.source_type, tensor.bits, tensor.how), []).append(tensor)
    return [
        {
            "source_type": source_type,
            "bits": bits,
            "how": how,
            "tensors": len(group),
            "nmse": sum(t.nmse * t.N * t.K for t in group) / sum(t.N * t.K for t in group),
        }
        for (source_type, bits, how), group in sorted(groups.items())
    ]


def check_drawing() -> None:
    """Raises `Problem` where `draw` cannot work."""
    if importlib.util.find_spec("matplotlib") is None:
        raise Problem("a plot needs matplotlib", "--plot", "it is not installed",
                      "pip install 'onnxruntime-ep-ryzen-npu-gemma[plot]'")  # fmt: skip


def draw(tensors: Sequence[QuantizedTensor], path: Path) -> None:
    """Draws the error of each matrix over the layers, one line a kind.

    `check_drawing` must have been called.
    """
    from matplotlib.figure import Figure

    lines: dict[str, list[tuple[int, float]]] = {}
    for tensor in tensors:
        if match := _LAYER.fullmatch(tensor.name):
            lines.setdefault(match[2], []).append((int(match[1]), tensor.nmse))
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.add_subplot(xlabel="layer", ylabel="squared error / squared weights", yscale="log")
    for kind, points in lines.items():
        axes.plot(*zip(*sorted(points), strict=True), marker="o", label=kind)
    axes.legend(ncols=2)
    axes.grid(alpha=0.3)
    figure.savefig(path)
