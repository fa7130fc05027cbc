"""Access patterns that cut a matrix into tiles: one by one, in groups, or every n-th."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from .tap import TensorAccessPattern, as_tensor_dims, clean_sizes_strides
from .tas import TensorAccessSequence


class TensorTiler2D:
    """Makes TensorAccessSequences; it has no instances."""

    def __init__(self) -> None:
        raise Exception(f"{type(self)} cannot be instantiated. Use it as a factory of TensorAccessSequences.")

    @classmethod
    def simple_tiler(
        cls,
        tensor_dims: Sequence[int],
        tile_dims: Sequence[int] | None = None,
        tile_col_major: bool = False,
        iter_col_major: bool = False,
        pattern_repeat: int = 1,
        prune_step: bool = True,
    ) -> TensorAccessSequence:
        """One pattern a tile."""
        return cls.group_tiler(
            tensor_dims,
            tensor_dims if tile_dims is None else tile_dims,
            tile_col_major=tile_col_major,
            iter_col_major=iter_col_major,
            pattern_repeat=pattern_repeat,
            prune_step=prune_step,
        )

    @classmethod
    def group_tiler(
        cls,
        tensor_dims: Sequence[int],
        tile_dims: Sequence[int],
        tile_group_dims: Sequence[int] | None = None,
        tile_col_major: bool = False,
        tile_group_col_major: bool = False,
        iter_col_major: bool = False,
        pattern_repeat: int = 1,
        allow_partial: bool = False,
        prune_step: bool = True,
    ) -> TensorAccessSequence:
        """One pattern a group of adjacent tiles."""
        return cls.step_tiler(
            tensor_dims,
            tile_dims,
            (1, 1) if tile_group_dims is None else tile_group_dims,
            tile_col_major=tile_col_major,
            tile_group_col_major=tile_group_col_major,
            iter_col_major=iter_col_major,
            pattern_repeat=pattern_repeat,
            allow_partial=allow_partial,
            prune_step=prune_step,
        )

    @classmethod
    def step_tiler(
        cls,
        tensor_dims: Sequence[int],
        tile_dims: Sequence[int],
        tile_group_repeats: Sequence[int],
        tile_group_steps: Sequence[int] | None = None,
        tile_col_major: bool = False,
        tile_group_col_major: bool = False,
        iter_col_major: bool = False,
        allow_partial: bool = False,
        pattern_repeat: int = 1,
        prune_step: bool = True,
    ) -> TensorAccessSequence:
        """One pattern a group of tiles that are `tile_group_steps` apart."""
        tensor = as_tensor_dims(tensor_dims, 2)
        tile = as_tensor_dims(tile_dims, 2)
        repeats = as_tensor_dims(tile_group_repeats, 2)
        steps = as_tensor_dims((1, 1) if tile_group_steps is None else tile_group_steps, 2)
        for i in range(2):
            if tensor[i] % tile[i]:
                raise ValueError(f"Tensor dimension {i} ({tensor[i]}) is not divisible by tile dim ({tile[i]})")
            if not allow_partial and tensor[i] % (tile[i] * repeats[i] * steps[i]):
                raise ValueError(
                    f"allow_partial={allow_partial} but tensor does not divide evenly into tile groups in dimension {i}"
                )
        if not isinstance(pattern_repeat, int) or pattern_repeat < 1:
            raise ValueError(f"Pattern repeat must be >= 1 but is {pattern_repeat}")
        tiles = [tensor[i] // tile[i] for i in range(2)]
        repeats = [min(repeats[i], -(-tiles[i] // steps[i])) for i in range(2)]
        steps = [steps[i] if steps[i] <= tiles[i] else 1 for i in range(2)]
        counts = [_groups(tiles[i], steps[i], repeats[i]) for i in range(2)]

        patterns = []
        for number in range(prod(counts)):
            along = (number // counts[1], number % counts[1])
            if iter_col_major:
                along = (number % counts[0], number // counts[0])
            first = [  # of the tiles of this group, in both dimensions
                along[i] // steps[i] * steps[i] * repeats[i] + along[i] % steps[i] for i in range(2)
            ]
            sizes, strides = _group_pattern(
                tensor, tile, tiles, first, steps, repeats, tile_col_major, tile_group_col_major, prune_step
            )
            if pattern_repeat != 1:
                if sizes[0] != 1 or strides[0] != 0:
                    raise ValueError(f"Ran out of dimensions for repeat (sizes={sizes}, strides={strides})")
                sizes[0] = pattern_repeat
            offset = first[0] * tile[0] * tensor[1] + first[1] * tile[1]
            patterns.append(TensorAccessPattern(tensor, offset, sizes, strides))
        return TensorAccessSequence.from_taps(patterns)


def _groups(tiles: int, step: int, repeat: int) -> int:
    """Groups in a dimension: whole blocks of step × repeat tiles, then what is left."""
    whole = tiles // (step * repeat)
    left = tiles - step * repeat * whole
    block = step * (left // step)
    return whole * step + (left // block * step if block else left)


def _group_pattern(
    tensor: list[int],
    tile: list[int],
    tiles: list[int],
    first: list[int],
    steps: list[int],
    repeats: list[int],
    tile_col_major: bool,
    group_col_major: bool,
    prune_step: bool,
) -> tuple[list[int], list[int]]:
    """Sizes and strides, four dimensions: two over the group's tiles, two inside a tile."""
    left = [tiles[i] - first[i] for i in range(2)]
    rows, cols = (min(repeats[i], -(-left[i] // steps[i])) for i in range(2))
    row_step, col_step = (steps[i] if steps[i] <= left[i] else 1 for i in range(2))
    height, width = tile
    if prune_step and group_col_major and row_step == 1 and rows > 1 and not tile_col_major:
        height, rows = height * rows, 1
    elif prune_step and not group_col_major and col_step == 1 and cols > 1 and tile_col_major:
        width, cols = width * cols, 1

    inside = [(height, tensor[1]), (width, 1)]
    over_rows, over_cols = (rows, tensor[1] * height * row_step), (cols, width * col_step)
    if rows > 1 and cols > 1:
        outside = [over_cols, over_rows] if group_col_major else [over_rows, over_cols]
    elif rows > 1 or cols > 1:
        outside = [(1, 0), over_rows if rows > 1 else over_cols]
    else:
        outside = [(1, 0), (1, 0)]
    dims = outside + (inside[::-1] if tile_col_major else inside)
    return clean_sizes_strides([size for size, _ in dims], [stride for _, stride in dims])
