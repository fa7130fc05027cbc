"""What a conversion lost, tensor by tensor: a table, a summary by type, a picture."""

from __future__ import annotations

import dataclasses
import importlib.util
import itertools
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .errors import Problem
from .quantization import QuantizedTensor

__all__ = ["by_type", "check_drawing", "draw", "write_table"]

# Okabe and Ito's colours: told apart by colour-blind readers too; markers, by readers of a grey print.
_STYLES = {
    "q_proj": ("#0072B2", "o"),
    "k_proj": ("#56B4E9", "s"),
    "v_proj": ("#009E73", "^"),
    "o_proj": ("#000000", "v"),
    "gate_proj": ("#E69F00", "D"),
    "up_proj": ("#D55E00", "P"),
    "down_proj": ("#CC79A7", "X"),
}
_LAYER = re.compile(r"layers\.(\d+)\..*?([a-z]+(?:_[a-z]+)*_proj)")  # of our names and of exporters'


def write_table(tensors: Sequence[QuantizedTensor], path: Path) -> None:
    """Writes one line a tensor, tab-separated, a line of names first; what is not known is empty."""
    header = [field.name for field in dataclasses.fields(QuantizedTensor)]
    lines = [[_cell(value) for value in dataclasses.astuple(tensor)] for tensor in tensors]
    path.write_text("".join("\t".join(line) + "\n" for line in [header, *lines]), encoding="utf-8")


def _cell(value: object) -> str:
    return "" if value is None else f"{value:.6g}" if isinstance(value, float) else str(value)


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
    """Draws the errors of the matrices over the layers, one line a kind; the head in the title.

    There is a second picture for the errors on the calibration text if there was one.  `check_drawing` must have been
    called.
    """
    from matplotlib.figure import Figure

    errors = {"squared error of the weights": {tensor.name: tensor.nmse for tensor in tensors}}
    weighted = {tensor.name: tensor.weighted_error for tensor in tensors if tensor.weighted_error is not None}
    if weighted:
        errors["squared error on the calibration text"] = weighted
    figure = Figure(figsize=(2 + 5 * len(errors), 4.5), layout="constrained")
    for axes, (title, values) in zip(figure.subplots(1, len(errors), squeeze=False)[0], errors.items(), strict=True):
        axes.set(xlabel="layer", ylabel="of the original's squares", yscale="log")
        axes.set_title(title, fontsize="medium")
        for kind, points in _by_kind(values).items():
            style = dict(zip(("color", "marker"), _STYLES.get(kind, ("black", ".")), strict=True))
            axes.plot(*zip(*sorted(points), strict=True), label=kind, linewidth=1, markersize=5, **style)
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.grid(alpha=0.3)
    figure.legend(*axes.get_legend_handles_labels(), loc="outside right center", frameon=False)
    others = (f"{t.name}: {t.bits} bits, {t.nmse:.1e}" for t in tensors if not _LAYER.search(t.name))
    figure.suptitle("; ".join(itertools.islice(others, 2)), fontsize="small")
    figure.savefig(path, dpi=150)


def _by_kind(values: dict[str, float]) -> dict[str, list[tuple[int, float]]]:
    """(layer, error) of the decoder's matrices by their kind; errors of 0 have no place on a logarithmic axis."""
    lines: dict[str, list[tuple[int, float]]] = {}
    for name, error in values.items():
        if (match := _LAYER.search(name)) and error > 0:
            lines.setdefault(match[2], []).append((int(match[1]), error))
    return lines
