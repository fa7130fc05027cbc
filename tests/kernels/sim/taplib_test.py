"""Access patterns: the tilers make what upstream's make, and cover the matrix in the order that they say."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np
import pytest

from tests.kernels.sim.designs import TensorAccessPattern

taplib: Any = importlib.import_module("aie.helpers.taplib")  # after `designs`, which makes it importable

# (arguments, [(offset, sizes, strides), …]) as mlir-aie of March 2026 computes them.
GOLDEN = [
    (
        {"tensor_dims": (8, 8), "tile_dims": (4, 4), "tile_group_repeats": (1, 1)},
        [
            (0, [1, 1, 4, 4], [0, 0, 8, 1]),
            (4, [1, 1, 4, 4], [0, 0, 8, 1]),
            (32, [1, 1, 4, 4], [0, 0, 8, 1]),
            (36, [1, 1, 4, 4], [0, 0, 8, 1]),
        ],
    ),
    (
        {"tensor_dims": (8, 12), "tile_dims": (2, 3), "tile_group_repeats": (2, 2), "tile_group_steps": (2, 1)},
        [
            (0, [2, 2, 2, 3], [48, 3, 12, 1]),
            (6, [2, 2, 2, 3], [48, 3, 12, 1]),
            (24, [2, 2, 2, 3], [48, 3, 12, 1]),
            (30, [2, 2, 2, 3], [48, 3, 12, 1]),
        ],
    ),
    (
        {
            "tensor_dims": (8, 12),
            "tile_dims": (2, 3),
            "tile_group_repeats": (4, 2),
            "tile_group_steps": (1, 2),
            "tile_group_col_major": True,
            "prune_step": False,
        },
        [(0, [2, 4, 2, 3], [6, 24, 12, 1]), (3, [2, 4, 2, 3], [6, 24, 12, 1])],
    ),
    (
        {
            "tensor_dims": (6, 8),
            "tile_dims": (2, 4),
            "tile_group_repeats": (1, 2),
            "tile_col_major": True,
            "iter_col_major": True,
        },
        [(0, [1, 1, 8, 2], [0, 0, 1, 8]), (16, [1, 1, 8, 2], [0, 0, 1, 8]), (32, [1, 1, 8, 2], [0, 0, 1, 8])],
    ),
    (
        {"tensor_dims": (6, 6), "tile_dims": (2, 2), "tile_group_repeats": (2, 2), "allow_partial": True},
        [
            (0, [2, 2, 2, 2], [12, 2, 6, 1]),
            (4, [1, 2, 2, 2], [0, 12, 6, 1]),
            (24, [1, 2, 2, 2], [0, 2, 6, 1]),
            (28, [1, 1, 2, 2], [0, 0, 6, 1]),
        ],
    ),
    (
        {"tensor_dims": (4, 8), "tile_dims": (2, 8), "tile_group_repeats": (1, 1), "pattern_repeat": 3},
        [(0, [3, 1, 2, 8], [0, 0, 8, 1]), (16, [3, 1, 2, 8], [0, 0, 8, 1])],
    ),
]


@pytest.mark.parametrize(("arguments", "expected"), GOLDEN)
def test_the_tiler_is_upstreams(arguments: dict[str, Any], expected: Any) -> None:
    taps = taplib.TensorTiler2D.step_tiler(**arguments)
    assert [(tap.offset, list(tap.sizes), list(tap.strides)) for tap in taps] == expected


@pytest.mark.parametrize("arguments", [arguments for arguments, _ in GOLDEN])
def test_every_element_is_visited_as_often_as_the_pattern_repeats(arguments: dict[str, Any]) -> None:
    count = taplib.TensorTiler2D.step_tiler(**arguments).access_count()
    assert (count == arguments.get("pattern_repeat", 1)).all()


def test_order_and_count() -> None:
    tap = TensorAccessPattern((2, 6), 1, [2, 2], [6, 2])
    assert tap.access_order().tolist() == [[-1, 0, -1, 1, -1, -1], [-1, 2, -1, 3, -1, -1]]
    assert tap.access_count().sum() == 4
    assert list(tap.access_generator()) == [1, 3, 7, 9]
    assert tap.compare_access_orders(TensorAccessPattern((2, 6), 1, [1, 2, 2], [0, 6, 2]))


@pytest.mark.parametrize(
    ("sizes", "strides", "message"),
    [([], [], "must be >0"), ([2], [1, 1], "len"), ([0], [1], "sizes must be >= 1"), ([2], [-1], "strides must be")],
)
def test_a_pattern_that_makes_no_sense_is_refused(sizes: list[int], strides: list[int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TensorAccessPattern((4, 4), 0, sizes, strides)


def test_a_sequence_has_one_tensor() -> None:
    sequence = taplib.TensorTiler2D.simple_tiler((4, 8), (2, 4))
    assert len(sequence) == 4
    with pytest.raises(ValueError, match="tensor dims"):
        sequence.append(TensorAccessPattern((8, 8), 0, [4], [1]))
    assert taplib.TensorAccessSequence.from_taps(list(sequence)) == sequence
    with pytest.raises(ValueError, match="not divisible"):
        taplib.TensorTiler2D.simple_tiler((5, 8), (2, 4))
    assert np.array_equal(sequence[1].access_order()[:2, 4:], np.arange(8).reshape(2, 4))
