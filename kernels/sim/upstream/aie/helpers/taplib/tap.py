"""An access pattern: offset, sizes and strides over the elements of a tensor, outermost dimension first."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from copy import deepcopy

import numpy as np


class TensorAccessPattern:
    """The order in which a transfer visits the elements of a tensor."""

    def __init__(self, tensor_dims: Sequence[int], offset: int, sizes: Sequence[int], strides: Sequence[int]) -> None:
        self._tensor_dims = as_tensor_dims(tensor_dims)
        if offset < 0:
            raise ValueError(f"Offset must be >= 0 (offset={offset})")
        if offset >= np.prod(tensor_dims):
            raise ValueError(f"Offset too large: {offset}. Max value allowed for tensor: {np.prod(tensor_dims)}")
        self._offset = offset
        self._sizes, self._strides = clean_sizes_strides(sizes, strides)

    @property
    def tensor_dims(self) -> Sequence[int]:
        """Dimensions of the tensor."""
        return deepcopy(self._tensor_dims)

    @property
    def offset(self) -> int:
        """First element."""
        return self._offset

    @property
    def sizes(self) -> Sequence[int]:
        """Sizes, outermost first."""
        return deepcopy(self._sizes)

    @property
    def strides(self) -> Sequence[int]:
        """Strides in elements, outermost first."""
        return deepcopy(self._strides)

    @property
    def transformation_dims(self) -> list[tuple[int, int]]:
        """(size, stride) of each dimension."""
        return list(zip(self._sizes, self._strides, strict=True))

    def access_generator(self) -> Iterator[int]:
        """The elements in order."""
        yield from (int(i) for i in self._indices())

    def access_order(self) -> np.ndarray:
        """For each element when it was visited last, or -1."""
        order = np.full(int(np.prod(self._tensor_dims)), -1, np.int32)
        indices = self._indices()
        order[indices] = np.arange(len(indices), dtype=np.int32)
        return order.reshape(tuple(self._tensor_dims))

    def access_count(self) -> np.ndarray:
        """For each element how often it was visited."""
        total = int(np.prod(self._tensor_dims))
        return np.bincount(self._indices(), minlength=total).astype(np.int32).reshape(tuple(self._tensor_dims))

    def accesses(self) -> tuple[np.ndarray, np.ndarray]:
        """Order and count."""
        return self.access_order(), self.access_count()

    def _indices(self) -> np.ndarray:
        indices = np.array([self._offset])
        for size, stride in self.transformation_dims:
            indices = (indices[:, None] + np.arange(size) * stride).ravel()
        return indices % int(np.prod(self._tensor_dims))

    def compare_access_orders(self, other: TensorAccessPattern) -> bool:
        """Whether both visit the same elements in the same order."""
        if not isinstance(other, TensorAccessPattern):
            raise ValueError("Can only compare access order against another TensorAccessPattern")
        return np.array_equal(self._indices(), other._indices())

    def __str__(self) -> str:
        return (
            f"TensorAccessPattern({self.tensor_dims} offset={self._offset}, sizes={self._sizes}, "
            f"strides={self._strides})"
        )

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, TensorAccessPattern):
            return False
        ours, theirs = ((list(t._tensor_dims), t._offset, list(t._sizes), list(t._strides)) for t in (self, other))
        return ours == theirs

    __hash__ = None  # type: ignore[assignment]


def as_tensor_dims(tensor_dims: Sequence[int], expected_dims: int | None = None) -> list[int]:
    """Checked dimensions; one dimension is a row."""
    dims = list(tensor_dims)
    if not dims:
        raise ValueError(f"Number of tensor dimensions must be >= 1 (dimensions={tensor_dims})")
    if any(size <= 0 for size in dims):
        raise ValueError(f"Each tensor dimension must be >= 1 (dimensions={tensor_dims})")
    dims = [1, *dims] if len(dims) == 1 else dims
    if expected_dims is not None and len(dims) != expected_dims:
        raise ValueError(f"Tensor dimension ({dims}) does not match expected dimension ({expected_dims})")
    return dims


def clean_sizes_strides(sizes: Sequence[int], strides: Sequence[int]) -> tuple[list[int], list[int]]:
    """Checked sizes and strides; outer dimensions of size 1 get stride 0."""
    sizes, strides = list(sizes), list(strides)
    if not sizes or not strides:
        raise ValueError("len(sizes) must be >0")
    if len(sizes) != len(strides):
        raise ValueError(f"len(sizes) ({len(sizes)}) != len(strides) ({len(strides)})")
    if any(size < 1 for size in sizes):
        raise ValueError(f"All sizes must be >= 1, but got {sizes}")
    if any(stride < 0 for stride in strides):
        raise ValueError(f"All strides must be >= 0, but got {strides}")
    for i in range(len(sizes) - 1):
        if sizes[i] != 1:
            break
        strides[i] = 0
    return sizes, strides
