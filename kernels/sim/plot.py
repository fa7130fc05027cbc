"""The array as a drawing: one square a tile, shaded by its use, with the streams' load between the rows."""

from __future__ import annotations

from pathlib import Path

from . import hardware
from .program import Place
from .report import tile_use
from .result import TimedRun


def plot(run: TimedRun, path: Path, title: str = "") -> None:
    """Writes the drawing of a run; needs matplotlib (`pip install onnxruntime-ep-ryzen-npu-gemma[plot]`)."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot
    from matplotlib.patches import Rectangle

    use = tile_use(run)
    columns = run.program.columns
    figure, axes = pyplot.subplots(figsize=(1.1 * columns + 2.5, 1.1 * hardware.ROWS + 1.2))
    shades = pyplot.get_cmap("viridis")
    for col in range(columns):
        for row in range(hardware.ROWS):
            share = use.get(Place(col, row))
            face = "white" if share is None else shades(min(share, 1.0))
            axes.add_patch(Rectangle((col, row), 0.92, 0.92, facecolor=face, edgecolor="0.4"))
            if share is not None:
                ink = "black" if share > 0.6 else "white"
                axes.text(col + 0.46, row + 0.46, f"{share:.0%}", ha="center", va="center", color=ink, fontsize=9)
    axes.set_xlim(-0.1, columns)
    axes.set_ylim(-0.1, hardware.ROWS)
    axes.set_xticks([col + 0.46 for col in range(columns)], [f"col {col}" for col in range(columns)])
    names = ["shim", "mem tile", *[f"row {row}" for row in range(2, hardware.ROWS)]]
    axes.set_yticks([row + 0.46 for row in range(hardware.ROWS)], names)
    axes.tick_params(length=0)
    axes.set_aspect("equal")
    axes.spines[:].set_visible(False)
    scale = pyplot.cm.ScalarMappable(cmap=shades)
    scale.set_clim(0, 1)
    figure.colorbar(scale, ax=axes, label="cores: time in kernels; mem and shim: busiest stream", shrink=0.8)
    axes.set_title(title or f"{run.cycles / hardware.CLOCK * 1e6:.1f} us, {run.ddr_bytes / 1e6:.2f} MB over the shim")
    figure.savefig(path, bbox_inches="tight", dpi=120)
    pyplot.close(figure)
