"""A kernel takes as many instructions as it did when instruction_counts.json was written.

More is a loss that a stopwatch on a busy machine does not see; less means that the table is out of date. Write it anew
with a change that is meant: python -m tests.kernels.instruction_counts --write
"""

from __future__ import annotations

import pytest

from tests.kernels.instruction_counts import Missing, committed, count

TOLERANCE = 0.03  # alignment and constants of the C library's start; the counts of two runs of one build are equal


@pytest.fixture(scope="module")
def counted() -> tuple[str, dict[str, int]]:
    try:
        toolchain, counts, unsupported = count()
    except Missing as missing:
        pytest.skip(str(missing))
    print("not on valgrind's processor:", ", ".join(unsupported))
    if toolchain not in committed():
        pytest.skip(f"no counts for {toolchain} are committed; they are there for {', '.join(committed())}")
    return toolchain, counts


def test_counts_are_those_of_the_table(counted: tuple[str, dict[str, int]]) -> None:
    toolchain, counts = counted
    expected = committed()[toolchain]
    assert counts.keys() == expected.keys(), "cases came or went: write the table anew"
    changed = {
        name: f"{expected[name]} -> {counts[name]} ({counts[name] / expected[name] - 1:+.1%})"
        for name in counts
        if abs(counts[name] / expected[name] - 1) > TOLERANCE
    }
    assert not changed, f"{toolchain}: {changed}"


def test_simd_rows_take_fewer_instructions_than_the_reference(counted: tuple[str, dict[str, int]]) -> None:
    _, counts = counted
    pairs = [(name, name.replace("Avx2", "Reference")) for name in counts if "Avx2 " in name]
    assert pairs
    slower = [name for name, reference in pairs if counts[name] >= counts[reference]]
    assert not slower
