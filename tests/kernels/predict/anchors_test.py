"""The time model against published measurements: the acceptance of issue "NPU kernels, designs, simulator"."""

from __future__ import annotations

import pytest

from kernels.predict.anchors import table


@pytest.fixture(scope="module")
def compared() -> list[table.Compared]:
    return table.compare()


def test_the_median_error_is_within_15_percent(compared: list[table.Compared]) -> None:
    print(table.markdown(compared))
    assert len(compared) >= 8
    assert table.median_error(compared) <= 0.15


def test_what_misses_by_a_quarter_is_explained(compared: list[table.Compared]) -> None:
    for c in compared:
        assert bool(c.anchor.miss) == (abs(c.ratio - 1) > 0.25), f"{c.anchor.name}: {c.ratio:.2f}"


def test_the_table_shows_every_anchor_and_why_one_misses(compared: list[table.Compared]) -> None:
    text = table.markdown(compared)
    assert text.count("\n| ") == len(compared) and "not pipelined" in text
