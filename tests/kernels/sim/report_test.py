"""What the simulator says of a design and a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from kernels.sim import KernelModel, lower, picture, report, resources, time_design, where_time_goes
from kernels.sim.hardware import CHANNELS, MEMORY_BYTES
from tests.kernels.sim import designs


def fullest(design: Any) -> dict[str, tuple[int, int]]:
    """The table of `resources`: what the fullest tile uses, and the limit."""
    rows = (line.rsplit(maxsplit=2) for line in resources(lower(design)).splitlines())
    return {row[0]: (int(row[1]), int(row[2])) for row in rows if len(row) == 3 and row[1].isdigit()}


def test_resources_are_those_of_the_fullest_tile() -> None:
    used = fullest(designs.elementwise())
    assert used["core bytes"] == (3 * 2 * 1024 + 1024, MEMORY_BYTES["core"])  # three FIFOs of two objects, the stack
    assert used["core S2MM channels"] == (2, CHANNELS["core"])
    assert used["core locks"] == (6, 16)
    assert used["core descriptors"] == (6, 16)
    assert used["shim MM2S channels"] == (2, 2)
    assert resources(lower(designs.elementwise())).startswith("1 cores, 3 streams, 3 transfers")


def test_a_split_costs_a_descriptor_and_two_locks_for_every_part() -> None:
    used = fullest(designs.split_join(rows=4))
    assert used["mem tile descriptors"] == (2 * (4 * 2 + 4 * 2), 48)  # split and join: four parts and a whole, twice
    assert used["mem tile locks"] == (2 * 4 * 2, 64)


def test_the_picture_has_every_tile() -> None:
    run = time_design(designs.gemv(64 * 1024, 96), kernels={"gemv": KernelModel(None, 100)})
    rows = picture(run).splitlines()
    assert len(rows) == 7
    assert all(row.count("%") == 8 for row in rows[1:])
    assert "DDR in use 9" in where_time_goes(run)
    assert "cores wait for: w" in where_time_goes(run)
    assert picture(run) in report(run)


def test_the_drawing(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="the plot extra is not installed")
    from kernels.sim.plot import plot

    run = time_design(designs.split_join(), kernels={"work": KernelModel(None, 100)})
    plot(run, tmp_path / "array.png")
    assert (tmp_path / "array.png").read_bytes().startswith(b"\x89PNG")
